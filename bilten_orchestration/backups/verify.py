"""Whether every object of a backup is there, is the one that was written, and decrypts.

Reads all of it and writes nothing but the mark `verified`, when nothing is wrong. What the data inside are
worth only a restore can tell: with `deep` it is used as well (verify_deep.py), and the mark says so.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from bilten_orchestration.backups import verify_deep
from bilten_orchestration.backups.repository import catalogue
from bilten_orchestration.backups.repository.manifest import BackupObject, Manifest, Mark
from bilten_orchestration.backups.repository.opened import Bucket, Opened
from bilten_orchestration.errors import Mismatch, Problem
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import Settings

_AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """`bytes` as stored, of `objects`; one problem for each object that cannot be restored. `deep` is what
    was done with the backup beyond reading it."""

    backup_id: str
    objects: int
    bytes: int
    seconds: float
    problems: tuple[Problem, ...]
    deep: str = ""


def verify(
    settings: Settings,
    backup_id: str,
    *,
    by: str,
    deep: bool = False,
    bucket: Bucket = "first",
    progress: Progress = silent,
) -> VerifyReport:
    """Read every object of a backup; with `deep` use it too. `by` goes into the mark: the command or the run.

    Damaged objects, and what they cannot be used for, are in the report. Raises Mismatch for an unknown
    backup, Refused (deep: no room, other programs), StoreUnavailable: what could not be read is neither good
    nor bad.
    """
    began = time.monotonic()
    with Opened.of(settings, new=False, bucket=bucket, progress=progress) as opened:
        manifest = catalogue.read(opened.repository, opened.ring).find(backup_id).manifest
        wanted = [*manifest.objects, *manifest.others.values()]

        def one(each: BackupObject) -> tuple[Problem, ...]:
            try:
                for _ in opened.get(manifest, each):
                    pass
            except Mismatch as error:
                return error.problems
            progress(f"{each.name}: whole")
            return ()

        used, unusable = _use(settings, opened, bucket, manifest, by, progress) if deep else ("", ())
        # a restore has read the objects; when it failed, all that are damaged are told and not only the first
        rest = list(manifest.others.values()) if used else wanted
        theirs = manifest.sealing == "clickhouse"
        if theirs:
            from bilten_orchestration.backups.clickhouse import digests

            problems = digests.problems_of(opened.repository, rest, progress) or unusable
        else:
            with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="verify") as pool:
                problems = tuple(problem for found in pool.map(one, rest) for problem in found) or unusable
        # what ClickHouse encrypts is not authenticated: there a restore alone makes a backup verified
        if not problems and not theirs:
            details = {"deep": used} if used else {}
            found = Mark(backup_id, "verified", datetime.now(UTC), by, details)
            catalogue.mark(opened.repository, opened.ring, manifest, found)
    return VerifyReport(
        backup_id, len(wanted), manifest.stored_bytes, time.monotonic() - began, problems, used
    )


def _use(
    settings: Settings, opened: Opened, bucket: Bucket, manifest: Manifest, by: str, progress: Progress
) -> tuple[str, tuple[Problem, ...]]:
    try:
        return verify_deep.use(settings, opened, bucket, manifest, by, progress), ()
    except Mismatch as error:
        return "", error.problems
