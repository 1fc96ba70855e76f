"""Makes the partitions that are missing, past gaps included; how one is made says creation.py.

Two runners are kept apart by the lock `partitions`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from bilten_orchestration.errors import Problem, Refused
from bilten_orchestration.partitions.bounds import Period, periods
from bilten_orchestration.partitions.declared import BY_NAME, DECLARED, PartitionedTable
from bilten_orchestration.partitions.locking import LOCK, Patience
from bilten_orchestration.partitions.postgres import creation
from bilten_orchestration.partitions.postgres.catalogue import attached
from bilten_orchestration.partitions.postgres.obstacles import default_problem, in_part_problem, taken_problem
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.locks import advisory_lock
from bilten_orchestration.stores.postgres import Connection

LOCK_WAIT_SECONDS = 120
_PATIENCE = Patience()


@dataclass(frozen=True, slots=True)
class PremakeReport:
    """Partitions made, per table (schema.table -> names); `first` is the month from which on they are there,
    `last` the last period of each."""

    first: str
    last: dict[str, str]
    made: dict[str, list[str]]


def premake(
    settings: Settings,
    *,
    first: date | None = None,
    last: date | None = None,
    today: date | None = None,
    run: str | None = None,
    progress: Progress = silent,
) -> PremakeReport:
    """Every declared table: from the period of `first` (default: now) to the current one plus its premake.

    `last` moves the end further, never nearer. `today` is the UTC day, default now.
    Raises as `ensure_months` does.
    """
    day = today or datetime.now(UTC).date()
    begin = min(day, first) if first else day
    ends = {
        table.name: max(
            Period.of(day, table.interval).plus(table.premake), Period.of(last or day, table.interval)
        )
        for table in DECLARED
    }
    made = {}
    with postgres.connect(
        settings.postgres, application_name="bilten partitions", autocommit=True
    ) as connection:
        for table in DECLARED:
            made[table.name] = ensure_months(
                connection,
                table.name,
                begin,
                ends[table.name].first,
                patience=Patience.of(settings.partitions),
                run=run,
            )
            if made[table.name]:
                progress(
                    f"{table.name}: made {len(made[table.name])} {table.interval}s up to {ends[table.name]}"
                )
    return PremakeReport(str(Period.of(begin)), {name: str(period) for name, period in ends.items()}, made)


def ensure_months(
    connection: Connection,
    table: str,
    first: date,
    last: date,
    *,
    patience: Patience = _PATIENCE,
    run: str | None = None,
) -> list[str]:
    """Make the missing periods of the table's interval, those of both days included; returns the names made
    (schema.table_pYYYYMM).

    `connection` is the owner's, in autocommit. Raises Refused (a default partition, bounds that overlap, a
    name that is taken: all of them at once, nothing made), LockHeld, or TransientError when a lock was not
    to be had for as long as `patience` says.
    """
    declared = BY_NAME.get(table)
    if declared is None:
        raise Refused(
            f"{table} is not a declared partitioned table",
            expected=", ".join(BY_NAME),
            found=table,
            next="declare it in bilten_orchestration/partitions/declared.py",
        )
    with advisory_lock(connection, LOCK, wait_seconds=LOCK_WAIT_SECONDS):
        wanted = list(periods(Period.of(first, declared.interval), Period.of(last, declared.interval)))
        missing = _missing(connection, declared, wanted)
        return [creation.make(connection, declared, period, patience, run) for period in missing]


def _missing(connection: Connection, table: PartitionedTable, wanted: Sequence[Period]) -> list[Period]:
    partitions = attached(connection, table.name)
    problems = [default_problem(table, partition) for partition in partitions if partition.is_default]
    missing = []
    for period in wanted:
        overlapping = [p for p in partitions if p.overlaps(period.start, period.end)]
        if any(p.covers(period.start, period.end) for p in overlapping):
            continue
        if overlapping:
            problems.append(in_part_problem(table, period, overlapping))
        else:
            missing.append(period)
    problems += _taken_names(connection, table, missing)
    if problems:
        raise Refused(problems)
    return missing


def _taken_names(connection: Connection, table: PartitionedTable, missing: Sequence[Period]) -> list[Problem]:
    names = [f"{table.table}_{period.suffix}" for period in missing]
    rows = connection.execute(
        "select relname from pg_class where relnamespace = %s::regnamespace and relname = any(%s) order by 1",
        (table.schema, names),
    ).fetchall()
    return [taken_problem(table, name) for (name,) in rows]
