"""What hinders inserts and maintenance: too many parts, mutations that do not end; and months that are over
and that nobody archived.

No TTL is set on a table with archives: it would delete what nobody proved. This alert stands in its place.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from bilten_orchestration.errors import Problem
from bilten_orchestration.partitions.clickhouse.months import name_of
from bilten_orchestration.partitions.clickhouse.plan import Seen
from bilten_orchestration.settings import PartitionSettings

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client


def problems(client: Client, seen: Seen, settings: PartitionSettings) -> list[Problem]:
    """All of them; `seen` as it is after a run."""
    return [
        *_parts(seen, settings),
        *_mutations(client, seen.table.name, settings),
        *_expiring(client, seen.table.name),
        *overdue(seen, settings),
    ]


def overdue(seen: Seen, settings: PartitionSettings) -> list[Problem]:
    """Months that are over for longer than maintenance needs, at `end_limit` months a day."""
    grace = timedelta(days=settings.overdue_days)
    kept_from = seen.table.kept_from(seen.now)
    held = {r.partition for r in seen.recorded if r.hold_until is not None and r.hold_until > seen.now}
    late = [
        m
        for m in seen.months
        if m.period.end <= kept_from
        and name_of(seen.table, m.period) not in held
        and seen.now - m.period.plus(seen.table.retention).start > grace
    ]
    if not late:
        return []
    return [
        Problem(
            f"{seen.table.name} has months that are over, and nobody archived and dropped them",
            expected=f"{seen.table.retention} months, {settings.overdue_days} days after they are over",
            found=", ".join(str(m.period) for m in late),
            next="bilten partitions plan says why; bilten partitions apply",
        )
    ]


def _parts(seen: Seen, settings: PartitionSettings) -> list[Problem]:
    return [
        Problem(
            f"{seen.table.name} has too many parts in {month.period}",
            expected=f"{settings.parts_limit} at most: merges keep up with inserts",
            found=f"{month.parts} parts",
            next="larger inserts; see system.merges, and whether merges were stopped",
        )
        for month in seen.months
        if month.parts > settings.parts_limit
    ]


def _mutations(client: Client, table: str, settings: PartitionSettings) -> list[Problem]:
    rows = client.query(
        """
        select mutation_id, command, parts_to_do, latest_fail_reason,
               dateDiff('second', create_time, now()) as seconds
        from system.mutations
        where database = {database:String} and table = {table:String} and not is_done
          and (seconds > {limit:UInt32} or latest_fail_reason != '')
        order by create_time
        """,
        parameters={
            **dict(zip(("database", "table"), table.split("."), strict=True)),
            "limit": settings.mutation_seconds,
        },
    ).result_rows
    return [
        Problem(
            f"a mutation of {table} does not end: {command}",
            expected=f"done within {settings.mutation_seconds} s",
            found=f"{seconds} s, {parts} parts to do{f', failing: {reason}' if reason else ''}",
            next=f"kill mutation where mutation_id = '{name}', or mend what it fails on",
        )
        for name, command, parts, reason, seconds in rows
    ]


def _expiring(client: Client, table: str) -> list[Problem]:
    ((engine,),) = client.query(
        "select engine_full from system.tables where database = {database:String} and name = {table:String}",
        parameters=dict(zip(("database", "table"), table.split("."), strict=True)),
    ).result_rows or (("",),)
    if " TTL " not in str(engine):
        return []
    return [
        Problem(
            f"{table} has a TTL",
            expected="none: it deletes what nobody archived and proved",
            found=str(engine),
            next=f"alter table {table} remove ttl",
        )
    ]
