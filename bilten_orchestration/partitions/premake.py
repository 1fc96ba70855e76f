"""Makes the months that are missing, past gaps included.

One transaction per month: a table LIKE the parent, a validated CHECK of its bounds, privileges,
comment and storage as the parent's, ATTACH (which then scans nothing), the CHECK dropped again (the
partition constraint says the same), the row in system.partition_metadata. A kill leaves a month whole
or not there; the next run makes what is missing.

ATTACH takes SHARE UPDATE EXCLUSIVE on the parent and, for foreign keys, SHARE ROW EXCLUSIVE on the
tables referenced: what waits for such a lock makes every writer behind it wait. So each attempt waits
at most LOCK_TIMEOUT_MS and is tried again after a random pause.

Creation needs no `snapshot` lock: an empty month is in nobody's snapshot. Two runners are kept apart
by the lock `partitions`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

import psycopg
from psycopg import sql
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from bilten_orchestration.errors import Problem, Refused, TransientError
from bilten_orchestration.partitions.bounds import Month, literal, months
from bilten_orchestration.partitions.catalogue import attached
from bilten_orchestration.partitions.declared import BY_NAME, DECLARED, PartitionedTable
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.locks import advisory_lock
from bilten_orchestration.stores.postgres import Connection

LOCK = "partitions"
LOCK_WAIT_SECONDS = 120
LOCK_TIMEOUT_MS = 100
RETRY_SECONDS = 60


@dataclass(frozen=True, slots=True)
class PremakeReport:
    """Partitions made, per table (schema.table -> names); `first` and `last` are the months covered."""

    first: str
    last: dict[str, str]
    made: dict[str, list[str]]


def premake(
    settings: Settings,
    *,
    first: date | None = None,
    last: date | None = None,
    today: date | None = None,
    progress: Progress = silent,
) -> PremakeReport:
    """Every declared table: from the month of `first` (default: the current) to the current plus its premake.

    `last` moves the end further, never nearer. `today` is the UTC day, default now.
    Raises as `ensure_months` does.
    """
    current = Month.of(today or datetime.now(UTC))
    begin = min(current, Month.of(first)) if first else current
    ends = {
        table.name: max(current.plus(table.premake), Month.of(last) if last else current)
        for table in DECLARED
    }
    made = {}
    with postgres.connect(
        settings.postgres, application_name="bilten partitions", autocommit=True
    ) as connection:
        for table in DECLARED:
            made[table.name] = ensure_months(
                connection, table.name, begin.start.date(), ends[table.name].start.date()
            )
            if made[table.name]:
                progress(f"{table.name}: made {len(made[table.name])} months up to {ends[table.name]}")
    return PremakeReport(str(begin), {name: str(month) for name, month in ends.items()}, made)


def ensure_months(connection: Connection, table: str, first: date, last: date) -> list[str]:
    """Make the missing months, both ends included; returns the names made (schema.table_pYYYYMM).

    `connection` is the owner's, in autocommit. Raises Refused (a default partition, bounds that overlap, a
    name that is taken: all of them at once, nothing made), LockHeld, or TransientError when a lock was not
    to be had within RETRY_SECONDS.
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
        missing = _missing(connection, declared, list(months(Month.of(first), Month.of(last))))
        return [_make(connection, declared, month) for month in missing]


def _missing(connection: Connection, table: PartitionedTable, wanted: Sequence[Month]) -> list[Month]:
    partitions = attached(connection, table.name)
    problems = [
        Problem(
            f"{table.name} has a default partition, {partition.name}",
            expected="none: rows in it would hinder each new month, and it blocks DETACH CONCURRENTLY",
            found=partition.name,
            next=f"alter table {table.name} detach partition {partition.name}, then insert its rows again",
        )
        for partition in partitions
        if partition.is_default
    ]
    missing = []
    for month in wanted:
        overlapping = [p for p in partitions if p.overlaps(month.start, month.end)]
        if any(p.covers(month.start, month.end) for p in overlapping):
            continue
        if overlapping:
            problems.append(
                Problem(
                    f"the month {month} of {table.name} is covered in part",
                    expected=f"one partition from {month.start:%F} to {month.end:%F} (UTC), or none",
                    found="; ".join(f"{p.name} from {p.low} to {p.high}" for p in overlapping),
                    next="detach what overlaps, or make the missing piece by hand",
                )
            )
        else:
            missing.append(month)
    problems += _taken_names(connection, table, missing)
    if problems:
        raise Refused(problems)
    return missing


def _taken_names(connection: Connection, table: PartitionedTable, missing: Sequence[Month]) -> list[Problem]:
    names = [f"{table.table}_{month.suffix}" for month in missing]
    rows = connection.execute(
        "select relname from pg_class where relnamespace = %s::regnamespace and relname = any(%s) order by 1",
        (table.schema, names),
    ).fetchall()
    return [
        Problem(
            f"{table.schema}.{name} exists and is no partition of {table.name}",
            expected="no table of that name, or one attached for its month",
            found="a table that is not attached",
            next=f"attach it again if it is a month detached by hand, otherwise rename {table.schema}.{name}",
        )
        for (name,) in rows
    ]


def _make(connection: Connection, table: PartitionedTable, month: Month) -> str:
    name = f"{table.table}_{month.suffix}"
    retrying = Retrying(
        retry=retry_if_exception_type((psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected)),
        wait=wait_random_exponential(multiplier=0.05, max=2),
        stop=stop_after_delay(RETRY_SECONDS),
        reraise=True,
    )
    try:
        retrying(_make_once, connection, table, month, name)
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
        raise TransientError(
            f"the month {month} of {table.name} could not be attached",
            expected=f"a lock within {LOCK_TIMEOUT_MS} ms, tried for {RETRY_SECONDS} s",
            found=str(error).strip().splitlines()[0],
            next="look for long transactions on the table (pg_stat_activity), then run it again",
        ) from None
    return f"{table.schema}.{name}"


def _make_once(connection: Connection, table: PartitionedTable, month: Month, name: str) -> None:
    child = sql.Identifier(table.schema, name)
    parent = sql.Identifier(table.schema, table.table)
    check = sql.Identifier(f"{name}_bounds")
    low, high = sql.SQL(literal(month.start)), sql.SQL(literal(month.end))
    storage = sql.SQL(", ").join(
        sql.SQL("{} = {}").format(sql.SQL(key), sql.Literal(value)) for key, value in table.storage.items()
    )
    statements = [
        sql.SQL("create table {child} (like {parent} including all excluding identity){storage}{tablespace}"),
        sql.SQL(
            "alter table {child} add constraint {check} check"
            " ({column} is not null and {column} >= {low} and {column} < {high})"
        ),
        sql.SQL("comment on table {child} is {comment}"),
        sql.SQL("alter table {parent} attach partition {child} for values from ({low}) to ({high})"),
        sql.SQL("alter table {child} drop constraint {check}"),
    ]
    with connection.transaction():
        connection.execute(f"set local lock_timeout = '{LOCK_TIMEOUT_MS}ms'")
        parts = {
            "child": child,
            "parent": parent,
            "check": check,
            "low": low,
            "high": high,
            "column": sql.Identifier(table.column),
            "comment": sql.Literal(f"{table.name} of {month} (UTC)"),
            "storage": sql.SQL(" with ({})").format(storage) if table.storage else sql.SQL(""),
            "tablespace": _tablespace(connection, table),
        }
        for statement in statements:
            connection.execute(statement.format(**parts))
        copy_privileges(connection, table, child)
        connection.execute(
            """
            insert into system.partition_metadata
                (table_name, partition_name, from_at, to_at, state, rows, bytes)
            values (%s, %s, %s, %s, 'attached', 0, pg_total_relation_size(%s::regclass))
            on conflict (table_name, partition_name) do update set
                from_at = excluded.from_at, to_at = excluded.to_at, state = excluded.state,
                rows = excluded.rows, bytes = excluded.bytes, archive_object = null, archive_digest = null
            """,
            (table.name, f"{table.schema}.{name}", month.start, month.end, child.as_string(connection)),
        )


def _tablespace(connection: Connection, table: PartitionedTable) -> sql.Composable:
    row = connection.execute(
        """
        select spcname from pg_class c join pg_tablespace t on t.oid = c.reltablespace
        where c.oid = %s::regclass
        """,
        (table.name,),
    ).fetchone()
    return sql.SQL(" tablespace {}").format(sql.Identifier(row[0])) if row else sql.SQL("")


def copy_privileges(connection: Connection, table: PartitionedTable, child: sql.Identifier) -> None:
    """LIKE copies none, and default privileges may have given others: first nothing, then the parent's."""
    text = child.as_string(connection)
    for (grantee,) in connection.execute(
        """
        select distinct case when a.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end
        from pg_class c, aclexplode(c.relacl) a
        where c.oid = %s::regclass and a.grantee <> c.relowner
        """,
        (text,),
    ).fetchall():
        connection.execute(sql.SQL("revoke all on {} from {}").format(child, sql.SQL(grantee)))
    for privilege, columns, grantee, grantable in connection.execute(
        """
        with granted as (
            select a.privilege_type, null::name as attname, a.grantee, a.is_grantable
            from pg_class c, aclexplode(c.relacl) a
            where c.oid = %(parent)s::regclass and a.grantee <> c.relowner
            union all
            select a.privilege_type, t.attname, a.grantee, a.is_grantable
            from pg_class c join pg_attribute t on t.attrelid = c.oid, aclexplode(t.attacl) a
            where c.oid = %(parent)s::regclass and not t.attisdropped
        )
        select privilege_type,
               coalesce('(' || string_agg(quote_ident(attname), ', ' order by attname) || ')', ''),
               case when grantee = 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end,
               is_grantable
        from granted group by privilege_type, attname is null, grantee, is_grantable
        order by 1, 2, 3
        """,
        {"parent": table.name},
    ).fetchall():
        connection.execute(
            sql.SQL("grant {} {} on {} to {} {}").format(
                sql.SQL(privilege),
                sql.SQL(columns),
                child,
                sql.SQL(grantee),
                sql.SQL("with grant option" if grantable else ""),
            )
        )
