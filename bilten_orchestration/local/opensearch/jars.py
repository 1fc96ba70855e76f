"""The installation of OpenSearch: every jar of the lock in its place, made once per checkout.

It grows under another name and is renamed when it is whole, so a kill leaves jars that the next run takes
over (each is believed for its SHA-256 alone). Two runs at once are kept apart by the lock of `bilten up`.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bilten_orchestration.errors import Mismatch, Refused, StoreUnavailable
from bilten_orchestration.local.install import without_credentials
from bilten_orchestration.progress import Progress

if TYPE_CHECKING:
    from jgo.maven import MavenContext

LOCK = Path(__file__).with_name("jars.lock")
AT_ONCE = 8
ATTEMPTS = 3
# of a repository that does not answer at all: a machine without one starts all the rest, and soon
ANSWER_SECONDS = (5, 15)  # to connect, to answer
_TOLD_EVERY = 20


class NotFetched(StoreUnavailable):
    """The repository at `address` (without credentials) does not answer, or lacks a jar."""

    def __init__(self, what: str, address: str, found: Exception) -> None:
        self.address = without_credentials(address)
        super().__init__(
            what,
            expected=f"jars from {self.address}",
            found=without_credentials(f"{type(found).__name__}: {found}")[:300],
            next="BILTEN_OPENSEARCH__MAVEN_URL names a mirror; BILTEN_OPENSEARCH__ENABLED=false does without"
            " search",
        )


@dataclass(frozen=True, slots=True)
class Jar:
    """`directory` is its place in the installation, `coordinate` group:artifact:version."""

    directory: str
    coordinate: str
    sha256: str

    @property
    def project(self) -> str:
        return self.coordinate.rpartition(":")[0]

    @property
    def path(self) -> str:
        _, artifact, version = self.coordinate.split(":")
        return f"{self.directory}/{artifact}-{version}.jar"

    def __str__(self) -> str:
        return f"{self.directory} {self.coordinate} {self.sha256}"


def locked() -> tuple[Jar, ...]:
    return tuple(Jar(*line.split()) for line in LOCK.read_text().splitlines())


def installation(programs: Path, maven_url: str | None, progress: Progress) -> Path:
    """The directory below `programs` with lib/, modules/ and agent/, fetched where it is not there yet.

    Raises NotFetched (no network, or a repository that lacks a jar), Mismatch (other bytes), Refused (a
    jar that cannot be kept here).
    """
    digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]
    target = programs / f"opensearch-{digest}"
    if target.exists():
        return target
    growing = target.with_name(f"{target.name}.part")
    wanted = [jar for jar in locked() if not _is_right(growing / jar.path, jar)]
    for directory in {jar.directory for jar in locked()}:
        (growing / directory).mkdir(parents=True, exist_ok=True)
    progress(f"opensearch: fetching {len(wanted)} jars")
    from jgo.constants import MAVEN_CENTRAL_URL

    address = (maven_url or MAVEN_CENTRAL_URL).rstrip("/")
    _ask(address)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        context = _context(growing / "fetched", address)
        fetching = [pool.submit(_fetch, context, jar, growing / jar.path) for jar in wanted]
        try:
            for number, done in enumerate(as_completed(fetching), start=1):
                done.result()
                if number % _TOLD_EVERY == 0:
                    progress(f"opensearch: {number} of {len(wanted)} jars")
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    shutil.rmtree(growing / "fetched", ignore_errors=True)
    for path in _walk(growing):
        path.chmod(0o755 if path.is_dir() else 0o644)
    growing.rename(target)
    return target


def _ask(address: str) -> None:
    """Any answer will do: what it has is seen jar by jar."""
    import requests

    try:
        requests.head(f"{address}/", timeout=ANSWER_SECONDS)
    except requests.RequestException as error:
        raise NotFetched("the Maven repository does not answer", address, error) from None


def _context(cache: Path, address: str) -> MavenContext:
    from jgo.maven import MavenContext

    shutil.rmtree(cache, ignore_errors=True)  # jgo takes a file that was cut off for a whole one
    return MavenContext(repo_cache=cache, remote_repos={"given": address}, timeout=30)


def _fetch(context: MavenContext, jar: Jar, to: Path) -> None:
    from requests.exceptions import RequestException

    group, artifact, version = jar.coordinate.split(":")
    wanted = context.project(group, artifact).at_version(version).artifact()
    for attempt in range(1, ATTEMPTS + 1):
        try:
            found = wanted.resolve()
            break
        except (RequestException, RuntimeError) as error:  # RuntimeError: another answer than 200
            if wanted.cached_path is not None:
                wanted.cached_path.unlink(missing_ok=True)
            if attempt == ATTEMPTS:
                what = f"{jar.coordinate} cannot be fetched, which OpenSearch needs"
                raise NotFetched(what, context.remote_repos["given"], error) from None
        except OSError as error:
            raise Refused(
                f"{jar.coordinate} cannot be written, which OpenSearch needs",
                expected=f"room and permission to write below {to.parent}",
                found=str(error),
                next="make room, and bilten up",
            ) from None
    if not _is_right(found, jar):
        raise Mismatch(
            f"{jar.coordinate} is not the jar that was locked",
            expected=f"SHA-256 {jar.sha256}",
            found=hashlib.sha256(found.read_bytes()).hexdigest(),
            next="use another mirror: this one gives other bytes",
        )
    found.replace(to)


def _is_right(path: Path, jar: Jar) -> bool:
    return path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() == jar.sha256


def _walk(directory: Path) -> Iterator[Path]:
    yield directory
    yield from directory.rglob("*")
