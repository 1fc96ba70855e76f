"""Whether every object of a backup is there, is the one that was written, and decrypts.

Reads all of it and writes nothing but the mark `verified`, when nothing is wrong (none for ClickHouse, whose
restore makes it). What the database inside
is worth only a restore can tell.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from bilten_orchestration.backups import catalogue
from bilten_orchestration.backups.manifest import BackupObject, Mark
from bilten_orchestration.backups.opened import Opened
from bilten_orchestration.errors import Mismatch, Problem
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import Settings

_AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """`bytes` as stored, of `objects`; one problem for each object that cannot be restored."""

    backup_id: str
    objects: int
    bytes: int
    seconds: float
    problems: tuple[Problem, ...]


def verify(settings: Settings, backup_id: str, *, by: str, progress: Progress = silent) -> VerifyReport:
    """Read every object of a backup. `by` goes into the mark: the command or the run.

    Damaged objects are in the report. Raises Mismatch for an unknown backup, StoreUnavailable: what could not
    be read is neither good nor bad.
    """
    began = time.monotonic()
    with Opened.of(settings, new=False) as opened:
        manifest = catalogue.read(opened.repository, opened.ring).find(backup_id).manifest
        wanted = [*manifest.objects, *manifest.others.values()]
        if manifest.sealing == "clickhouse":
            from bilten_orchestration.backups.clickhouse import digests

            found = digests.problems_of(opened.repository, wanted, progress)
            # what ClickHouse encrypts is not authenticated: there a restore alone makes a backup verified
            return VerifyReport(
                backup_id, len(wanted), manifest.stored_bytes, time.monotonic() - began, found
            )

        def one(each: BackupObject) -> tuple[Problem, ...]:
            try:
                for _ in opened.get(manifest, each):
                    pass
            except Mismatch as error:
                return error.problems
            progress(f"{each.name}: whole")
            return ()

        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="verify") as pool:
            problems = tuple(problem for found in pool.map(one, wanted) for problem in found)
        if not problems:
            catalogue.mark(
                opened.repository, opened.ring, manifest, Mark(backup_id, "verified", datetime.now(UTC), by)
            )
    return VerifyReport(backup_id, len(wanted), manifest.stored_bytes, time.monotonic() - began, problems)
