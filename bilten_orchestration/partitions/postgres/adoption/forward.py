"""A table becomes the first partition of a new parent of its name.

What a kill leaves, by the step it comes in:

    1. before the CHECK            nothing
    2. CHECK NOT VALID             the table with the CHECK, which holds for new rows; its comment has the
                                   bounds. The next run goes on with them, `--back` drops it. Left alone, it
                                   refuses rows from its upper bound on: drift.py tells of it.
    3. VALIDATE                    the same; validating begins again
    4. the swap                    one transaction: the table as in 3, or adopted
    5. before the months ahead     adopted, writers have the months of the first partition; the next run, and
                                   every apply, makes the rest

No row is copied or deleted, so none can be lost or doubled; writers wait for the swap, for at most
one lock timeout while its locks are asked for and then for as long as it takes to rename, which reads no row.
A statement that waits finds the new parent under the name it asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from bilten_orchestration.partitions.declared import PartitionedTable
from bilten_orchestration.partitions.locking import LOCK, Patience
from bilten_orchestration.partitions.postgres.adoption import check
from bilten_orchestration.partitions.postgres.adoption.locks import retried
from bilten_orchestration.partitions.postgres.adoption.names import first_name
from bilten_orchestration.partitions.postgres.adoption.plan import AdoptionPlan, kind, plan
from bilten_orchestration.partitions.postgres.adoption.swap import swap
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.locks import advisory_lock
from bilten_orchestration.stores.postgres import Connection


@dataclass(frozen=True, slots=True)
class AdoptionReport:
    """`executed`: whether anything was done. `locked_seconds`: how long writers were kept out, at most."""

    plan: AdoptionPlan
    executed: bool
    locked_seconds: float | None = None


def adopt(
    settings: Settings,
    table: PartitionedTable,
    *,
    execute: bool = False,
    now: datetime | None = None,
    run: str | None = None,
    progress: Progress = silent,
) -> AdoptionReport:
    """Preview, or do it; the months ahead are made by the caller (`ensure_months`), when it was done.

    Raises Refused with all that stands in the way, LockHeld, TransientError when a lock was not to be had.
    """
    with postgres.connect(
        settings.postgres, application_name="bilten partitions adopt", autocommit=True
    ) as connection:
        if not execute:
            return AdoptionReport(plan(connection, table, now=now), executed=False)
        patience = Patience.of(settings.partitions)
        with advisory_lock(
            connection, LOCK, wait_seconds=settings.partitions.lock_wait_seconds, on_wait=progress
        ):
            chosen = plan(connection, table, now=now)
            if chosen.state == "plain":
                progress(f"{table.name}: CHECK from {chosen.from_at:%F} to before {chosen.to_at:%F}")
                retried(
                    patience,
                    f"the CHECK on {table.name}",
                    lambda: check.add(connection, patience, table, chosen),
                )
            if chosen.state != "valid":
                progress(f"{table.name}: validating, about {chosen.rows} rows")
                check.validate(connection, patience, table)
            locked = retried(
                patience, f"the swap of {table.name}", lambda: swap(connection, patience, table, chosen, run)
            )
            progress(f"{table.name}: partitioned; its rows are in {chosen.first}")
    return AdoptionReport(chosen, executed=True, locked_seconds=locked)


def adopted(connection: Connection, table: PartitionedTable) -> bool:
    """Whether it is partitioned, and its first partition is the table it was."""
    row = connection.execute(
        "select exists (select from pg_inherits where inhparent = to_regclass(%s)"
        " and inhrelid = to_regclass(%s))",
        (table.name, f"{table.schema}.{first_name(table)}"),
    ).fetchone()
    return kind(connection, table.name) == "p" and row == (True,)
