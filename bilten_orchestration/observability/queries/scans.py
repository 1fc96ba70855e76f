"""Slow statements whose recorded plan reads a whole table for few of its rows: where an index would help.

From the generic plans in system.slow_queries. Only conditions of the form `column = $n` name columns of an
index here; anything else (ranges, functions, expressions) wants a person.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bilten_orchestration.stores.postgres import Connection

SHARE = 0.05  # of a table's rows above which reading all of it may well be right
ROWS = 10_000

_EQUAL = re.compile(r"\(\(?(?:\w+\.)?([a-z_]\w*)\)?(?:::\w+)? = \$\d+")


@dataclass(frozen=True, slots=True)
class Scanned:
    """`rows_wanted` as the generic plan estimates; `calls` and `total_milliseconds` of the window."""

    table: str
    columns: tuple[str, ...]
    rows: int
    rows_wanted: int
    calls: int
    total_milliseconds: float
    query_text: str
    is_partition: bool


_PLANS = """
    select max(query_text), (array_agg(plan order by "timestamp" desc) filter (where plan is not null))[1],
           sum(calls)::bigint, sum(total_time)
    from system.slow_queries
    where "timestamp" > clock_timestamp() - make_interval(hours => %(hours)s)
      and created_at > clock_timestamp() - make_interval(hours => %(hours)s)
      and database_name = current_database()
    group by query_id
    having bool_or(plan is not null)
    order by 4 desc
"""
# an index that begins with one of the columns is there already, and the planner did not want it
_TABLE = """
    select format('%%I.%%I', n.nspname, c.relname), greatest(0, c.reltuples)::bigint, c.relispartition,
           exists (select from pg_index i join pg_attribute a
                   on a.attrelid = c.oid and a.attnum = i.indkey[0]
                   where i.indrelid = c.oid and i.indisvalid and a.attname = any(%(columns)s))
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = %(schema)s and c.relname = %(name)s
"""


def read(connection: Connection, hours: int) -> list[Scanned]:
    """Each table and columns once, by the statement that took the most time."""
    found: dict[tuple[str, tuple[str, ...]], Scanned] = {}
    for text, plan, calls, total in connection.execute(_PLANS, {"hours": hours}).fetchall():
        for node in _nodes(plan[0]["Plan"]):
            columns = tuple(dict.fromkeys(_EQUAL.findall(node.get("Filter", ""))))
            if node["Node Type"] != "Seq Scan" or not columns:
                continue
            table = connection.execute(
                _TABLE, {"schema": node["Schema"], "name": node["Relation Name"], "columns": list(columns)}
            ).fetchone()
            if table is None or table[3] or table[1] < ROWS or node["Plan Rows"] > SHARE * table[1]:
                continue
            found.setdefault(
                (table[0], columns),
                Scanned(table[0], columns, table[1], int(node["Plan Rows"]), calls, total, text, table[2]),
            )
    return list(found.values())


def _nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)
