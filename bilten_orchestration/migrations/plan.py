"""What a run would do, or every reason why it must not. Pure: files and history in, steps out.

Where a migration stands follows from its record and from whether it has a transaction:

    applied   completed; or a down that has a transaction and did not finish (rolled back)
    partial   without a transaction: begun, up or down, and not finished
    absent    no record; reverted; or an up that has a transaction and did not finish (rolled back)

1. edited: applied, and the up file differs from what was run, or the down file from the one that lay beside
   it; a down that failed may be corrected, as an up may.
2. missing: applied or partial, and there is no file.
3. out of order: absent, below the highest applied or partial one.

Any of these refuses the run, up and down, before anything is touched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from bilten_orchestration.errors import Problem, UsageError
from bilten_orchestration.migrations.files import Direction, Migration
from bilten_orchestration.migrations.history import History, Record
from bilten_orchestration.migrations.statements import Store

Standing = Literal["applied", "partial", "absent"]
Files = Mapping[Store, Sequence[Migration]]


@dataclass(frozen=True, slots=True)
class Step:
    """One script to run."""

    migration: Migration
    direction: Direction


def standing(migration: Migration, record: Record | None) -> Standing:
    if record is None or record.status == "reverted":
        return "absent"
    if record.status == "completed":
        return "applied"
    if record.status in ("running", "failed"):
        return "absent" if migration.up.transactional else "partial"
    return "applied" if migration.down.transactional else "partial"


def plan_up(files: Files, history: History, store: Store, target: int | None) -> tuple[Step, ...]:
    """Steps to `target` inclusive (None: the newest), in order. Raises UsageError for an unknown target."""
    migrations = files[store]
    _check_target(migrations, store, target, zero=False)
    return tuple(
        Step(migration, "up")
        for migration in migrations
        if standing(migration, history.get((store, migration.version))) != "applied"
        and (target is None or migration.version <= target)
    )


def plan_down(files: Files, history: History, store: Store, target: int) -> tuple[Step, ...]:
    """Steps that leave `target` as the newest applied one (0: none), newest first."""
    migrations = files[store]
    _check_target(migrations, store, target, zero=True)
    return tuple(
        Step(migration, "down")
        for migration in reversed(migrations)
        if standing(migration, history.get((store, migration.version))) != "absent"
        and migration.version > target
    )


def objections(files: Files, history: History, store: Store) -> Iterator[Problem]:
    """Cases 1 to 3, all of them."""
    by_version = {migration.version: migration for migration in files[store]}
    standings = {version: standing(m, history.get((store, version))) for version, m in by_version.items()}
    records = {version: record for (of, version), record in history.items() if of == store}

    for version, record in records.items():
        migration = by_version.get(version)
        if migration is None:
            if record.status != "reverted":
                yield Problem(
                    f"{store} V{version:04d} {record.name} was run and has no file any more",
                    expected=f"sql/{store}/V{version:04d}__{record.name}.up.sql",
                    found="no file of this version",
                    next="bring the file back, or check out the release that the database is at",
                )
        elif standings[version] == "applied":
            yield from _edited(migration, record)
    newest = max((version for version, state in standings.items() if state != "absent"), default=0)
    newest = max([newest, *(v for v, r in records.items() if v not in by_version and r.status != "reverted")])
    for version, migration in by_version.items():
        if standings[version] == "absent" and version < newest:
            yield Problem(
                f"{migration.label} is out of order",
                expected=f"a version above V{newest:04d}, the newest that was run",
                found=f"V{version:04d}, never run here",
                next=f"rename it to a version above V{max(by_version):04d}",
            )


def _edited(migration: Migration, record: Record) -> Iterator[Problem]:
    up, down = migration.up, migration.down
    if (up.checksum, migration.name) != (record.checksum, record.name):
        yield Problem(
            f"{migration.label} was edited after it was run",
            expected=f"V{record.version:04d}__{record.name}, checksum {record.checksum[:12]}",
            found=f"{up.path.name}, checksum {up.checksum[:12]}",
            next="restore the file and put the change into a new migration",
        )
    known = record.down_checksum
    if known is not None and known != down.checksum and record.status == "completed":
        yield Problem(
            f"the way back of {migration.label} was edited after the way there was run",
            expected=f"V{record.version:04d}__{record.name}.down.sql, checksum {known[:12]}",
            found=f"{down.path.name}, checksum {down.checksum[:12]}",
            next="restore the file and put the change into the down of a new migration, which runs before it",
        )


def _check_target(migrations: Sequence[Migration], store: Store, target: int | None, *, zero: bool) -> None:
    known = [migration.version for migration in migrations]
    if target is None or target in known or (zero and target == 0):
        return
    raise UsageError(
        f"{store} has no migration V{target:04d}" if target >= 0 else f"{target} is not a version",
        expected=("0 (nothing applied), " if zero else "") + ", ".join(str(version) for version in known),
        found=str(target),
        next="bilten migrate status",
    )
