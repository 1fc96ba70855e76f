"""The partitions a table has, read from PostgreSQL's own catalogues and never from names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from bilten_orchestration.errors import Refused
from bilten_orchestration.stores.postgres import Connection

_RANGE = re.compile(r"FOR VALUES FROM \((?P<low>'[^']+'|MINVALUE)\) TO \((?P<high>'[^']+'|MAXVALUE)\)")

_PARTITIONS = """
    select c.oid::regclass::text, pg_get_expr(c.relpartbound, c.oid), i.inhdetachpending,
           pg_total_relation_size(c.oid), greatest(c.reltuples, 0)::bigint, c.oid::bigint,
           pg_relation_size(c.oid)
    from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = %s::regclass
"""


@dataclass(frozen=True, slots=True)
class Attached:
    """One partition. Bounds in UTC, `low` inclusive, `high` exclusive; None where it is unbounded.

    `rows` is the planner's estimate (0 until the first ANALYZE), `bytes` includes indexes and TOAST;
    without `heap_bytes` it never held a row.
    """

    name: str
    low: datetime | None
    high: datetime | None
    is_default: bool
    detach_pending: bool
    bytes: int
    rows: int
    oid: int = 0
    heap_bytes: int = 0

    def overlaps(self, start: datetime, end: datetime) -> bool:
        if self.is_default:
            return False
        return (self.low is None or self.low < end) and (self.high is None or start < self.high)

    def covers(self, start: datetime, end: datetime) -> bool:
        if self.is_default:
            return False
        return (self.low is None or self.low <= start) and (self.high is None or end <= self.high)


def attached(connection: Connection, table: str) -> list[Attached]:
    """Ordered by lower bound, the default one last. Raises Refused where `table` has no ranges."""
    row = connection.execute(
        """
        select partstrat = 'r' and partnatts = 1 from pg_partitioned_table where partrelid = to_regclass(%s)
        """,
        (table,),
    ).fetchone()
    if row is None or not row[0]:
        raise Refused(
            f"{table} is not partitioned by range of one column",
            expected="PARTITION BY RANGE (created_at)",
            found="another kind of table, or none",
            next="bilten migrate status: is its migration applied?",
        )
    with connection.transaction():
        # bounds are shown in the session's zone and style
        connection.execute("set local timezone = 'UTC'; set local datestyle = 'ISO'")
        rows = connection.execute(_PARTITIONS, (table,)).fetchall()
    partitions = [
        Attached(name, *_bounds(name, text), text == "DEFAULT", pending, *sizes)
        for name, text, pending, *sizes in rows
    ]
    return sorted(partitions, key=lambda p: (p.is_default, p.low or datetime.min.replace(tzinfo=UTC)))


def _bounds(name: str, text: str) -> tuple[datetime | None, datetime | None]:
    if text == "DEFAULT":
        return None, None
    match = _RANGE.fullmatch(text)
    if match is None:
        raise Refused(
            f"the bounds of {name} are not a range of time",
            expected="FOR VALUES FROM ('...') TO ('...')",
            found=text,
            next="detach it by hand, if it does not belong there",
        )
    return _moment(match["low"]), _moment(match["high"])


def _moment(text: str) -> datetime | None:
    return (
        None if text in ("MINVALUE", "MAXVALUE") else datetime.fromisoformat(text.strip("'")).astimezone(UTC)
    )
