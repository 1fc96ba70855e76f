"""Brings an archived partition back: attached where it fits, beside the table where it does not.

    1  the lock `partitions`; what stands in the way is told    nothing
    2  the journal says what is going to be restored            an entry that the next run settles: nothing
    3  a table of its own, <partition>_restoring, is made,      that table, which its comment tells from all
       the archive loaded into it, and its digest compared      others: the next restore, or apply, drops it
    4  foreign keys of the parent are added and validated       the same
    5  renamed, attached, recorded with its hold: one short     the same, or a whole partition
       transaction
    6  the journal says that it was done                        an entry that the next run settles: done

The right-hand side is what a kill leaves. The archive is only read, and stays.

It goes beside, as <partition>_restored, a plain table of the columns as they were archived, where the table
has lost or retyped a column since, has a newer one that is NOT NULL without a default, has rules that the
rows break, or foreign keys whose rows are gone. The report lists why. Such a table is nobody's partition, and
whoever wanted it drops it.

A restored partition is over, so the next maintenance would end it again at once: it is held until
`hold_until`, as system.partition_metadata records and `bilten partitions plan` tells. After that it ends like
any other; where nobody changed it, its archive of then still has its digest, and none is written again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from bilten_orchestration.backups.repository.opened import Bucket, Opened
from bilten_orchestration.drills.postgres import digests
from bilten_orchestration.errors import Mismatch, Problem, Refused, UsageError
from bilten_orchestration.partitions import archives, journal
from bilten_orchestration.partitions.archives import Archive
from bilten_orchestration.partitions.bounds import Period
from bilten_orchestration.partitions.declared import DECLARED, PartitionedTable
from bilten_orchestration.partitions.locking import LOCK
from bilten_orchestration.partitions.postgres import catalogue
from bilten_orchestration.partitions.postgres.restored_table import RestoredTable, sweep
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.driver_errors import translated
from bilten_orchestration.stores.locks import advisory_lock
from bilten_orchestration.stores.postgres import Connection

_NAME = "bilten partitions"


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """`reasons` are why it went beside, `notes` what is worth knowing. `hold_until` is when maintenance may
    end it again, None beside. `digest` was found in the table, and is the archive's."""

    table: str
    partition: str
    way: Literal["attached", "beside"]
    archive: str
    rows: int
    digest: str
    hold_until: datetime | None
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    seconds: float


def restore(
    settings: Settings,
    table: str,
    period: str,
    *,
    tables: Sequence[PartitionedTable] = DECLARED,
    beside: bool = False,
    hold_days: int | None = None,
    bucket: Bucket = "first",
    by: str,
    run: str | None = None,
    progress: Progress = silent,
) -> RestoreReport:
    """`period` as 2026-01, 2026-W05 or 2026-01-31, by the table's interval.

    Raises UsageError, Refused (a partition or a table is in its place), Mismatch (no archive, or one that is
    not what was written), LockHeld, TransientError, StoreUnavailable.
    """
    began = time.monotonic()
    found = next((each for each in tables if each.name == table), None)
    if found is None:
        raise UsageError(
            f"{table} is not a declared partitioned table",
            expected=", ".join(each.name for each in tables),
            found=table,
            next="bilten partitions list",
        )
    wanted = Period.parse(period, found.interval)
    with translated("the restore of a partition"), ExitStack() as stack:
        connection = stack.enter_context(_connected(settings))
        keeper = stack.enter_context(_connected(settings))
        stack.enter_context(advisory_lock(keeper, LOCK, wait_seconds=settings.partitions.lock_wait_seconds))
        digests.pin(connection)
        opened = stack.enter_context(Opened.of(settings, new=False, bucket=bucket, progress=progress))
        from_archive = _choose(opened, found, wanted)
        sweep(connection, [found], progress)
        one = RestoredTable(settings, connection, opened, found, from_archive, run, progress)
        _refuse(connection, one, beside=beside)
        first = opened
        if bucket != "first":  # the journal is in the first bucket
            first = stack.enter_context(Opened.of(settings, new=False, progress=progress))
        journal.settle(first, connection)
        days = settings.partitions.restored_hold_days if hold_days is None else hold_days
        hold = postgres.clock(connection) + timedelta(days=days)
        with journal.entry(
            first,
            connection,
            "restore",
            table=found.name,
            partition=f"{found.schema}.{one.name}",
            archive=from_archive.document,
            by=by,
        ):
            reasons = ["it was asked for beside"] if beside else one.attach(hold)
            if reasons:
                one.beside()
    return RestoreReport(
        found.name,
        f"{found.schema}.{one.name if not reasons else one.beside_name}",
        "beside" if reasons else "attached",
        from_archive.document,
        from_archive.rows,
        from_archive.digest,
        None if reasons else hold,
        tuple(reasons),
        tuple(one.notes),
        time.monotonic() - began,
    )


def _connected(settings: Settings) -> Connection:
    return postgres.connect(settings.postgres, application_name=_NAME, autocommit=True)


def _choose(opened: Opened, table: PartitionedTable, period: Period) -> Archive:
    found = archives.read(opened.repository, opened.ring, "postgres", table.name)
    covering = [
        each
        for each in found.archives
        if (each.from_at is None or each.from_at <= period.start)
        and (each.to_at is None or period.end <= each.to_at)
    ]
    if covering:
        return max(covering, key=lambda each: each.begun_at)
    there = sorted({f"{each.from_at:%F}" for each in found.archives if each.from_at is not None})
    raise Mismatch(
        [
            Problem(
                f"there is no archive of {table.name} for {period}",
                expected=f"one of {len(there)}, from {there[0]} to {there[-1]}" if there else "none yet",
                found=str(period),
                next="bilten partitions list; --bucket copy reads the second bucket",
            ),
            *found.problems,
        ]
    )


def _refuse(connection: Connection, one: RestoredTable, *, beside: bool) -> None:
    problems = []
    low, high = one.archive.from_at, one.archive.to_at
    over = [
        p
        for p in catalogue.attached(connection, one.table.name)
        if (low is None or p.high is None or low < p.high)
        and (high is None or p.low is None or p.low < high)
        and not p.is_default
    ]
    if over and not beside:
        problems.append(
            Problem(
                f"{over[0].name} is attached for these bounds",
                expected=f"no partition from {low} to {high}",
                found="; ".join(f"{p.name} from {p.low} to {p.high}" for p in over),
                next="--beside restores into a table of its own",
            )
        )
    names = [one.beside_name] if beside else [one.name, one.beside_name]
    for (taken,) in connection.execute(
        "select relname from pg_class where relnamespace = %s::regnamespace and relname = any(%s)"
        " and not oid = any(%s)",
        (one.table.schema, names, [p.oid for p in over]),
    ).fetchall():
        problems.append(
            Problem(
                f"{one.table.schema}.{taken} exists",
                expected="no table of that name",
                found="one that nobody attached",
                next="rename or drop it; a detached partition is still there, and needs no restore",
            )
        )
    if problems:
        raise Refused(problems)
