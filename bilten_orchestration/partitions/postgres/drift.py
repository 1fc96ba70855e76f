"""system.partition_metadata against the catalogues: what differs, and what to do about it. Pure reading.

What differs is told in every run until somebody undoes it, or accepts it (reconcile.py).

    1   a partition that is not recorded                 attached by hand
    2   one with another name than recorded              renamed
    3   one with other bounds than recorded              detached and attached again by hand
    4   one recorded as detached, archived or dropped    attached again by hand
    5   recorded as attached, and a table by itself      detached by hand
    6   recorded as not dropped, and there is no table   dropped by hand
    7   an adoption, or the emptying of a default partition, that was begun and not ended

A partition is known by the oid of its table, and where that is another (a logical restore), by its name. A
state between two of our own steps (detaching, and attached still, or by itself already) is no drift: the next
run of maintenance goes on with it.
"""

from __future__ import annotations

from dataclasses import dataclass

from bilten_orchestration.errors import Problem
from bilten_orchestration.partitions import metadata
from bilten_orchestration.partitions.declared import PartitionedTable
from bilten_orchestration.partitions.metadata import Recorded
from bilten_orchestration.partitions.postgres.adoption.default import leftover
from bilten_orchestration.partitions.postgres.adoption.names import bounds_check
from bilten_orchestration.partitions.postgres.adoption.plan import kind
from bilten_orchestration.partitions.postgres.catalogue import Attached, attached
from bilten_orchestration.stores.postgres import Connection

_ENDED = ("detached", "archived", "dropped")


@dataclass(frozen=True, slots=True)
class Drift:
    """`case` as numbered above; `partition` as the catalogue names it, or as it was recorded."""

    table: str
    partition: str
    case: int
    problem: Problem


def compare(
    connection: Connection, table: PartitionedTable
) -> tuple[list[Drift], list[tuple[Recorded, Attached]]]:
    """What differs, and what agrees."""
    drift = _unfinished(connection, table)
    if kind(connection, table.name) != "p":
        return drift, []
    partitions = [p for p in attached(connection, table.name) if not p.is_default]
    records = metadata.read(connection, table.name)
    by_oid = {r.oid: r for r in records if r.oid is not None}
    by_name = {r.partition: r for r in records}
    agreed, known = [], set()
    for p in partitions:
        record = by_oid.get(p.oid) or by_name.get(p.name)
        if record is None:
            drift.append(_unknown(table, p))
            continue
        known.add(record.partition)
        differing = _differing(table, p, record)
        drift += differing
        if not differing:
            agreed.append((record, p))
    for record in records:
        if record.partition not in known and record.state not in ("planned", "dropped"):
            drift += _missing(connection, table, record)
    return drift, agreed


def _unknown(table: PartitionedTable, p: Attached) -> Drift:
    return Drift(
        table.name,
        p.name,
        1,
        Problem(
            f"{p.name} is a partition of {table.name} that nobody recorded",
            expected="partitions that maintenance made, restored or adopted",
            found=f"one from {_moment(p.low)} to {_moment(p.high)}, attached by hand",
            next=f"alter table {table.name} detach partition {p.name}; or bilten partitions list --accept",
        ),
    )


def _differing(table: PartitionedTable, p: Attached, record: Recorded) -> list[Drift]:
    found = []
    accept = "bilten partitions list --accept"
    if p.name != record.partition:
        found.append(
            Drift(
                table.name,
                p.name,
                2,
                Problem(
                    f"a partition of {table.name} was renamed",
                    expected=record.partition,
                    found=p.name,
                    next=f"alter table {p.name} rename to {record.partition.partition('.')[2]}; or {accept}",
                ),
            )
        )
    if (p.low, p.high) != (record.from_at, record.to_at):
        found.append(
            Drift(
                table.name,
                p.name,
                3,
                Problem(
                    f"{p.name} has other bounds than those it was recorded with",
                    expected=f"from {_moment(record.from_at)} to {_moment(record.to_at)}",
                    found=f"from {_moment(p.low)} to {_moment(p.high)}",
                    next=f"see who attached it again (log of PostgreSQL); {accept}",
                ),
            )
        )
    if record.state in _ENDED and not p.detach_pending:
        found.append(
            Drift(
                table.name,
                p.name,
                4,
                Problem(
                    f"{p.name} is attached, and recorded as {record.state}",
                    expected="bilten partitions restore, which holds it for some days",
                    found="attached by hand",
                    next=f"alter table {table.name} detach partition {p.name}; or {accept}",
                ),
            )
        )
    return found


def _missing(connection: Connection, table: PartitionedTable, record: Recorded) -> list[Drift]:
    row = connection.execute(
        """
        select oid::regclass::text from pg_class
        where relkind = 'r' and (oid = %s or oid = to_regclass(%s)) order by oid = %s desc limit 1
        """,
        (record.oid or 0, record.partition, record.oid or 0),
    ).fetchone()
    if row is None:
        return [
            Drift(
                table.name,
                record.partition,
                6,
                Problem(
                    f"{record.partition} of {table.name} is gone, and maintenance did not drop it",
                    expected=f"a table: it was {record.state}",
                    found="none"
                    + (f"; its archive is {record.archive}" if record.archive else ", no archive"),
                    next="bilten recover rows, or a restore beside; when it may be gone,"
                    " bilten partitions list --accept",
                ),
            )
        ]
    if record.state != "attached":
        return []
    return [
        Drift(
            table.name,
            str(row[0]),
            5,
            Problem(
                f"{row[0]} was detached from {table.name} by hand",
                expected=f"attached from {_moment(record.from_at)} to {_moment(record.to_at)}",
                found="a table by itself",
                next=f"alter table {table.name} attach partition {row[0]} for values from"
                f" ('{_moment(record.from_at)}') to ('{_moment(record.to_at)}'); when it is not to be one,"
                " bilten partitions list --accept",
            ),
        )
    ]


def _unfinished(connection: Connection, table: PartitionedTable) -> list[Drift]:
    row = connection.execute(
        """
        select obj_description(oid, 'pg_constraint') from pg_constraint
        where conrelid = to_regclass(%s) and conname = %s
        """,
        (table.name, bounds_check(table)),
    ).fetchone()
    found = []
    if row is not None:
        found.append(
            Problem(
                f"the adoption of {table.name} was begun and not ended",
                expected="partitioned, or an ordinary table without a CHECK of its bounds",
                found=f"its CHECK refuses rows outside {row[0]}",
                next=f"bilten partitions adopt {table.name} --execute, or --back --execute",
            )
        )
    if (left := leftover(connection, table)) is not None:
        found.append(
            Problem(
                f"{left} holds rows of {table.name} that are to move to their partitions",
                expected="none: moving them was begun and not ended",
                found=left,
                next=f"bilten partitions adopt {table.name} --default --execute",
            )
        )
    return [Drift(table.name, table.name, 7, problem) for problem in found]


def _moment(at: object) -> str:
    return "no bound" if at is None else f"{at:%F %T}+00"
