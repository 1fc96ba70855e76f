"""Brings system.partition_metadata up to date: what agrees with the catalogues is measured anew.

What differs (drift.py) is never written over by itself: it was done by somebody, who knows why, or by a
fault. It is told in every run until somebody undoes it, or accepts it: then the catalogue's truth is ours.
A kill leaves tables that were gone through and tables that were not; the next run goes through all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bilten_orchestration.errors import Problem
from bilten_orchestration.partitions import metadata
from bilten_orchestration.partitions.declared import DECLARED, PartitionedTable
from bilten_orchestration.partitions.locking import LOCK
from bilten_orchestration.partitions.metadata import Recorded
from bilten_orchestration.partitions.postgres.catalogue import Attached, attached
from bilten_orchestration.partitions.postgres.drift import Drift, compare
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.locks import advisory_lock
from bilten_orchestration.stores.postgres import Connection


@dataclass(frozen=True, slots=True)
class Reconciled:
    """`measured`: rows whose numbers were brought up to date; `accepted`: drift that was taken over."""

    drift: tuple[Drift, ...]
    measured: int
    accepted: int = 0

    @property
    def problems(self) -> tuple[Problem, ...]:
        return tuple(each.problem for each in self.drift)


def reconcile(
    settings: Settings,
    tables: Sequence[PartitionedTable] = DECLARED,
    *,
    measure: bool = True,
    accept: bool = False,
    run: str | None = None,
) -> Reconciled:
    """Compare; `measure` writes rows (estimated) and bytes of what agrees, `accept` what differs as well.

    Waits for a run of maintenance, in whose middle nothing can be told. Raises LockHeld.
    """
    found: list[Drift] = []
    measured = accepted = 0
    with (
        postgres.connect(
            settings.postgres, application_name="bilten partitions drift", autocommit=True
        ) as connection,
        advisory_lock(
            connection,
            LOCK,
            shared=not (measure or accept),
            wait_seconds=settings.partitions.lock_wait_seconds,
        ),
    ):
        for table in tables:
            drift, agreed = compare(connection, table)
            if measure:
                measured += _measure(connection, table, agreed)
            if accept:
                accepted += _accept(connection, table, drift, run)
                drift, _ = compare(connection, table)
            found += drift
    return Reconciled(tuple(found), measured, accepted)


def _measure(
    connection: Connection, table: PartitionedTable, agreed: Sequence[tuple[Recorded, Attached]]
) -> int:
    """Only what changed: a run over thousands of partitions writes nothing where nothing happened."""
    changed = [
        (p.rows, p.bytes, p.oid, table.name, record.partition)
        for record, p in agreed
        if (record.rows, record.bytes, record.oid) != (p.rows, p.bytes, p.oid)
    ]
    with connection.transaction():
        for values in changed:
            connection.execute(
                "update system.partition_metadata set rows = %s, bytes = %s, relation_oid = %s"
                " where table_name = %s and partition_name = %s",
                values,
            )
    return len(changed)


def _accept(connection: Connection, table: PartitionedTable, drift: Sequence[Drift], run: str | None) -> int:
    """The catalogue's truth becomes ours. What was begun and not ended (7) is ended, and not accepted."""
    partitions = {p.name: p for p in attached(connection, table.name)} if drift else {}
    accepted = 0
    for each in drift:
        p = partitions.get(each.partition)
        with connection.transaction():
            if each.case in (1, 2, 3, 4) and p is not None:
                connection.execute(
                    "delete from system.partition_metadata"
                    " where table_name = %s and relation_oid = %s and partition_name <> %s",
                    (table.name, p.oid, p.name),
                )
                metadata.attached(connection, table.name, p.name, p.low, p.high, rows=p.rows, run=run)
            elif each.case == 5:
                # nobody's from now on: a table by itself, which maintenance neither archives nor drops
                connection.execute(
                    "delete from system.partition_metadata where table_name = %s"
                    " and (partition_name = %s or relation_oid = to_regclass(%s))",
                    (table.name, each.partition, each.partition),
                )
            elif each.case == 6:
                metadata.changed(connection, table.name, each.partition, "dropped", run)
            else:
                continue
        accepted += 1
    return accepted
