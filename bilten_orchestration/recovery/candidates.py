"""Which transactions changed a table. Reads production only.

Three traces, each of which knows something that the others do not:

    audit.audit_log        UPDATE and DELETE of audited tables, with their time
    system.deleted_rows    deletes of synced tables, also of those that are not audited
    sync_xid of the rows   who wrote a row last: inserts, and updates of tables that are not audited

A transaction whose rows were all written again since leaves no mark in a table that is not audited: the WAL
knows it still (`--transaction`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg import sql

from bilten_orchestration.errors import Refused, UsageError
from bilten_orchestration.stores.postgres import Connection

AT_MOST = 50


@dataclass(frozen=True, slots=True)
class Candidate:
    """One transaction (xid8) and what of the table shows its traces. Times are those of its statements, UTC.

    `updated` and `deleted` are by audit log and tombstones; `wrote_last` are rows that nobody has written
    since, inserted or updated. `actors` are database roles, as far as the audit log knows them.
    """

    transaction: int
    first_at: datetime
    last_at: datetime
    updated: int
    deleted: int
    wrote_last: int
    actors: tuple[str, ...]


def require(connection: Connection, table: str) -> tuple[str, str]:
    """Schema and name. Raises UsageError for a table that is none, or is the platform's own."""
    row = connection.execute(
        "select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace"
        " where c.oid = to_regclass(%s) and c.relkind in ('r', 'p') and not c.relispartition",
        (table,),
    ).fetchone()
    if row is None or table.count(".") != 1:
        raise UsageError(
            f"there is no table {table}",
            expected="schema.table, as payments.payments",
            found=table,
        )
    if row[0] in OWN_SCHEMAS:
        raise UsageError(
            f"{table} is the platform's own record, and is not recovered",
            expected="a table of the application",
            found=table,
        )
    return str(row[0]), str(row[1])


#: What is written there is a trace of changes, and not data that a bad statement damages.
OWN_SCHEMAS = ("system", "audit")


def within(
    connection: Connection, table: str, since: datetime, until: datetime | None = None
) -> tuple[Candidate, ...]:
    """Those that changed the table in that time, oldest first; at most AT_MOST + 1 of them."""
    bound = "{at} >= %(since)s and (%(until)s::timestamptz is null or {at} < %(until)s)"
    return _found(connection, table, bound, "true", {"since": since, "until": until})


def one(connection: Connection, table: str, transaction: int) -> Candidate | None:
    """The traces of one transaction; None when there are none."""
    found = _found(connection, table, "true", "{xid} = %(xid)s::text::xid8", {"xid": str(transaction)})
    return found[0] if found else None


def _found(
    connection: Connection, table: str, by_time: str, by_xid: str, values: dict[str, object]
) -> tuple[Candidate, ...]:
    schema, name = require(connection, table)
    bounds = [
        f"{by_time.format(at=at)} and {by_xid.format(xid=xid)}"
        for at, xid in (
            ("created_at", "transaction_id"),
            ("deleted_at", "sync_xid"),
            ("updated_at", "sync_xid"),
        )
    ]
    marked = connection.execute(
        "select count(*) = 2 from information_schema.columns where table_schema = %s and table_name = %s"
        " and column_name in ('sync_xid', 'updated_at')",
        (schema, name),
    ).fetchone()
    marks: sql.Composable = sql.SQL("")
    if marked is not None and marked[0]:
        marks = sql.SQL(
            "union all select sync_xid, min(updated_at), max(updated_at), 0, 0, 0, count(*), null::text[]"
            f" from {{}} where {bounds[2]} group by 1"
        ).format(sql.Identifier(schema, name))
    statement = sql.SQL(
        f"""
        with found (xid, first_at, last_at, updated, audited_deletes, tombstones, wrote_last, actors) as (
            select transaction_id, min(created_at), max(created_at),
                   count(*) filter (where action = 'UPDATE'), count(*) filter (where action = 'DELETE'),
                   0, 0, array_agg(distinct actor)
              from audit.audit_log
             where schema_name = %(schema)s and table_name = %(name)s and action <> 'RECOVER' and {bounds[0]}
             group by 1
            union all
            select sync_xid, min(deleted_at), max(deleted_at), 0, 0, count(*), 0, null
              from system.deleted_rows
             where table_name = %(schema)s || '.' || %(name)s and {bounds[1]} group by 1
            {{marks}}
        )
        select xid::text, min(first_at), max(last_at), sum(updated)::bigint,
               greatest(sum(audited_deletes), sum(tombstones))::bigint, sum(wrote_last)::bigint,
               coalesce((array_agg(actors) filter (where actors is not null))[1:1], '{{{{}}}}')
          from found where xid not in (select transaction_id from system.recoveries)
         group by xid order by min(first_at), xid::text::numeric limit {AT_MOST + 1}
        """
    ).format(marks=marks)
    rows = connection.execute(statement, {**values, "schema": schema, "name": name}).fetchall()
    return tuple(
        Candidate(int(row[0]), row[1], row[2], row[3], row[4], row[5], tuple(row[6][0]) if row[6] else ())
        for row in rows
    )


def taken_back(connection: Connection, table: str, since: datetime) -> int | None:
    """The only transaction whose changes of the table were taken back since: of a table that is not audited
    it may have no other trace any more."""
    rows = connection.execute(
        "select distinct bad_transaction::text from system.recoveries"
        " where recovered_at >= %s and jsonb_exists(changes, %s) limit 2",
        (since, table),
    ).fetchall()
    return int(rows[0][0]) if len(rows) == 1 else None


def refuse_unless_committed(connection: Connection, transaction: int) -> None:
    """Raises Refused for one that is not over, was rolled back, or is none; one so old that the server has
    forgotten what became of it passes, for the WAL knows."""
    try:
        row = connection.execute("select pg_xact_status(%s::text::xid8)", (str(transaction),)).fetchone()
    except psycopg.DataError:
        row = ("not yet given to anybody",)
    status = row[0] if row is not None else None
    if status not in ("committed", None):
        raise Refused(
            f"transaction {transaction} cannot be taken back",
            expected="one that was committed",
            found=str(status),
            next="bilten recover rows --table T --since TIME shows those that changed a table",
        )
