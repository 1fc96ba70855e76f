"""What a down would destroy: the tables that its statements drop, with their rows, for the preview."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from psycopg import sql

from bilten_orchestration.migrations.statements import Statement
from bilten_orchestration.stores.postgres import Connection

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

_DROP = re.compile(r"drop\s+(?P<kind>table|database)\s+(?:if\s+exists\s+)?(?P<name>[\w.]+)", re.IGNORECASE)
COUNTED_EXACTLY = 1_000_000


def of_postgres(connection: Connection, statements: Iterable[Statement]) -> dict[str, int]:
    """Rows per table: exact up to COUNTED_EXACTLY, above that what the planner estimates."""
    lost: dict[str, int] = {}
    for name in (match["name"] for s in statements if (match := _DROP.match(s.text))):
        row = connection.execute(
            """
            select sum(greatest(c.reltuples, 0))::bigint from pg_partition_tree(to_regclass(%s)) t
            join pg_class c on c.oid = t.relid where t.isleaf or c.relkind = 'r'
            """,
            (name,),
        ).fetchone()
        if row is None or connection.execute("select to_regclass(%s)", (name,)).fetchone() == (None,):
            continue
        counted = connection.execute(
            sql.SQL("select count(*) from (select from {} limit %s) as counted").format(
                sql.Identifier(*name.split("."))
            ),
            (COUNTED_EXACTLY + 1,),
        ).fetchone()
        exact = int(counted[0]) if counted else 0
        lost[name] = exact if exact <= COUNTED_EXACTLY else max(exact, int(row[0] or 0))
    return lost


def of_clickhouse(client: Client, statements: Iterable[Statement]) -> dict[str, int]:
    """Rows per table that exists, of dropped tables and of all tables in dropped databases."""
    rows = client.query(
        "select database, name, total_rows from system.tables where has_own_data and total_rows is not null"
    ).result_rows
    there = {f"{database}.{name}": int(total) for database, name, total in rows}
    lost: dict[str, int] = {}
    for match in (match for s in statements if (match := _DROP.match(s.text))):
        whole = match["kind"].lower() == "database"
        lost |= {
            table: total
            for table, total in there.items()
            if (table.startswith(f"{match['name']}.") if whole else table == match["name"])
        }
    return lost
