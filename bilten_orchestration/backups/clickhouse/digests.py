"""Every object below a backup: its size and SHA-256, read once after the server wrote it, and read again
before the server reads it back."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import TypeVar

from bilten_orchestration.backups.clickhouse import sealed
from bilten_orchestration.backups.repository.bucket import Listed, Repository
from bilten_orchestration.backups.repository.manifest import BackupObject
from bilten_orchestration.backups.repository.objects import checked
from bilten_orchestration.errors import Mismatch, Problem
from bilten_orchestration.progress import Progress

LIST = ".backup"
# as many as the client has connections; each holds a MiB
AT_ONCE = 8
_TOLD_EVERY_SECONDS = 2.0
T = TypeVar("T")
R = TypeVar("R")


def read_all(
    repository: Repository, prefix: str, progress: Progress
) -> tuple[tuple[BackupObject, ...], bytes]:
    """Every object below `prefix`, and the first bytes of the list of files.

    Raises Mismatch: an object of another size than listed, one that is not encrypted under the key that the
    list is under, or no list.
    """
    starts: dict[str, bytes] = {}
    fingerprints: dict[bytes, str] = {}

    def one(listed: Listed) -> BackupObject:
        digest, size, start = hashlib.sha256(), 0, b""
        with closing(repository.read(listed.name)) as chunks:
            for chunk in chunks:
                if len(start) < 2 * sealed.HEADER_BYTES:
                    start += chunk[: 2 * sealed.HEADER_BYTES - len(start)]
                digest.update(chunk)
                size += len(chunk)
        if size != listed.bytes:
            raise Mismatch(
                f"{listed.name} is of another size than the store lists",
                expected=f"{listed.bytes} bytes",
                found=f"{size} bytes",
                next="repeat the backup; see who else writes there",
            )
        fingerprints.setdefault(sealed.header(listed.name, start).fingerprint, listed.name)
        if listed.name == f"{prefix}{LIST}":
            starts[listed.name] = start
        return BackupObject(listed.name, size, digest.hexdigest(), size - sealed.HEADER_BYTES)

    found = tuple(_side_by_side(one, repository.list(prefix), progress, "read"))
    if len(fingerprints) > 1:
        raise Mismatch(
            "objects of one backup are encrypted under different keys",
            expected="one key",
            found=", ".join(fingerprints.values()),
            next="repeat the backup: the server's disk changed in the middle",
        )
    if not starts:
        raise Mismatch(
            f"{prefix}{LIST} is not there",
            expected="ClickHouse's list of the backup's files",
            found=f"{len(found)} objects without it",
            next="see that the disk of ClickHouse lies in this bucket: bilten backup preflight clickhouse",
        )
    return found, starts[f"{prefix}{LIST}"]


def problems_of(
    repository: Repository, wanted: Iterable[BackupObject], progress: Progress
) -> tuple[Problem, ...]:
    """Each object that is not there, or not the one that was written."""

    def one(each: BackupObject) -> tuple[Problem, ...]:
        try:
            for _ in checked(repository, each):
                pass
        except Mismatch as error:
            return error.problems
        return ()

    return tuple(problem for found in _side_by_side(one, wanted, progress, "checked") for problem in found)


def all_there(repository: Repository, prefix: str, wanted: Iterable[BackupObject]) -> str | None:
    """None when every object is listed with its size, otherwise the first that is not: a look, no proof."""
    listed = {each.name: each.bytes for each in repository.list(prefix)}
    for each in wanted:
        if listed.get(each.name) != each.bytes:
            return f"{each.name} is {'damaged' if each.name in listed else 'not there'}"
    return None


def _side_by_side(work: Callable[[T], R], items: Iterable[T], progress: Progress, done: str) -> Iterator[R]:
    """Results in the order of `items`, of which a few are under way at once."""
    under_way: deque[Future[R]] = deque()
    told = time.monotonic()
    count = 0
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="clickhouse-objects") as pool:
        try:
            for item in items:
                under_way.append(pool.submit(work, item))
                if len(under_way) >= 4 * AT_ONCE:
                    yield under_way.popleft().result()
                    count += 1
                if time.monotonic() - told > _TOLD_EVERY_SECONDS:
                    told = time.monotonic()
                    progress(f"{count:,} objects {done}")
            while under_way:
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()
