"""The rows of a default partition go to the partitions of their periods, and it is dropped.

PostgreSQL attaches no partition for which a default one holds rows. So the default one is detached first, and
in the same short transaction the periods of its rows, and those ahead, are attached: writers always find a
partition. Then its rows move, the newest period first, in transactions of at most `batch_rows` rows, each of
which deletes from one table what it inserts into the other. Until it has moved, a row is to be seen only in
the table that was detached: the preview says how many those are. (Copying beside readers would need to follow
updates; one transaction for all would hold its rows for as long as it takes.)

What a kill leaves, by the step it comes in:

    1. before the detach        nothing
    2. detached                 a table whose comment says whose rows it holds; the periods are attached.
                                The next run finds it by that and moves its rows
    3. between two batches      the same, with fewer rows: each row is in one of the two tables
    4. before the drop          the same, empty. It is dropped under a lock under which it is seen to be empty

A row whose key is in its period already stops the run: two rows of one key are for people to tell apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg import sql

from bilten_orchestration.errors import Mismatch, Problem, Refused
from bilten_orchestration.partitions import metadata
from bilten_orchestration.partitions.bounds import Period, literal, periods
from bilten_orchestration.partitions.declared import PartitionedTable
from bilten_orchestration.partitions.locking import LOCK, SNAPSHOT, Patience
from bilten_orchestration.partitions.postgres.adoption.locks import lock_tables, retried
from bilten_orchestration.partitions.postgres.catalogue import attached
from bilten_orchestration.partitions.postgres.likeness import create_like, finish
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.locks import advisory_lock
from bilten_orchestration.stores.postgres import Connection

BATCH_ROWS = 10_000
_MARK = "rows of {} that are to move to their partitions"


@dataclass(frozen=True, slots=True)
class DefaultReport:
    """`rows` per period (2026-01 -> rows); `made`: partitions made for them; `moved`: rows moved."""

    table: str
    partition: str
    rows: dict[str, int]
    made: tuple[str, ...]
    moved: int
    executed: bool


def empty_default(
    settings: Settings,
    table: PartitionedTable,
    *,
    execute: bool = False,
    batch_rows: int = BATCH_ROWS,
    run: str | None = None,
    progress: Progress = silent,
) -> DefaultReport:
    """Preview, or do it. Raises Refused (no default partition, rows that fit nowhere), Mismatch (a key that
    is there twice), LockHeld, TransientError."""
    with postgres.connect(
        settings.postgres, application_name="bilten partitions adopt", autocommit=True
    ) as connection:
        if not execute:
            _, report = _found(connection, table)
            return report
        waiting = settings.partitions
        with (
            advisory_lock(connection, LOCK, wait_seconds=waiting.lock_wait_seconds, on_wait=progress),
            advisory_lock(connection, SNAPSHOT, wait_seconds=waiting.snapshot_wait_seconds, on_wait=progress),
        ):
            is_attached, report = _found(connection, table)
            patience = Patience.of(waiting)
            made: list[str] = []
            if is_attached:
                progress(
                    f"{table.name}: detaching {report.partition}, {sum(report.rows.values())} rows to move"
                )
                made = retried(
                    patience,
                    f"detaching {report.partition}",
                    lambda: _detach(connection, patience, table, report, run),
                )
            moved = 0
            for name in sorted(report.rows, reverse=True):
                period = Period.parse(name, table.interval)
                moved += _move(connection, table, report.partition, period, batch_rows)
                progress(f"{table.name}: {name} moved, {moved} rows altogether")
            retried(
                patience,
                f"dropping {report.partition}",
                lambda: _drop(connection, patience, report.partition),
            )
    return DefaultReport(table.name, report.partition, report.rows, tuple(made), moved, executed=True)


def _found(connection: Connection, table: PartitionedTable) -> tuple[bool, DefaultReport]:
    """The default partition, or the table that a killed run left of it; whether it is attached."""
    partitions = attached(connection, table.name)
    default = next((p.name for p in partitions if p.is_default), None)
    name = default or leftover(connection, table)
    if not name:
        raise Refused(
            f"{table.name} has no default partition",
            expected="one, or a table that a run like this left behind",
            found="neither",
            next="bilten partitions plan",
        )
    rows = {
        str(Period.of(first, table.interval)): int(count)
        for first, count in connection.execute(
            sql.SQL(
                "select date_trunc({}, {} at time zone 'UTC')::date, count(*) from {}"
                " where isfinite({}) group by 1 order by 1"
            ).format(
                sql.Literal(table.interval), sql.Identifier(table.column), sql.SQL(name),
                sql.Identifier(table.column),
            )
        ).fetchall()
    }  # fmt: skip
    problems = _homeless(connection, table, name)
    for text in rows if default else ():
        period = Period.parse(text, table.interval)
        if any(p.overlaps(period.start, period.end) for p in partitions):
            problems.append(
                Problem(
                    f"the {table.interval} {text} of {table.name} is covered in part",
                    expected="one partition of its own, or none",
                    found="; ".join(p.name for p in partitions if p.overlaps(period.start, period.end)),
                    next="make the missing piece by hand after detaching the default partition",
                )
            )
    if problems:
        raise Refused(problems)
    return default is not None, DefaultReport(table.name, name, rows, (), 0, executed=False)


def leftover(connection: Connection, table: PartitionedTable) -> str | None:
    """The table that a killed run left of a default partition."""
    row = connection.execute(
        "select objoid::regclass::text from pg_description"
        " where classoid = 'pg_class'::regclass and objsubid = 0 and description = %s",
        (_MARK.format(table.name),),
    ).fetchone()
    return None if row is None else str(row[0])


def _homeless(connection: Connection, table: PartitionedTable, name: str) -> list[Problem]:
    row = connection.execute(
        sql.SQL("select count(*) from {} where {} is null or not isfinite({})").format(
            sql.SQL(name), sql.Identifier(table.column), sql.Identifier(table.column)
        )
    ).fetchone()
    if row is None or row[0] == 0:
        return []
    return [
        Problem(
            f"{name} holds rows that lie in no {table.interval}",
            expected=f"a moment in {table.column}",
            found=f"{row[0]} rows with null or infinity",
            next=f"correct or delete them in {name}",
        )
    ]


def _detach(
    connection: Connection,
    patience: Patience,
    table: PartitionedTable,
    report: DefaultReport,
    run: str | None,
) -> list[str]:
    parent = sql.Identifier(table.schema, table.table)
    default = sql.SQL(report.partition)
    made = []
    row = connection.execute("select clock_timestamp()").fetchone()
    assert row is not None  # noqa: S101
    now: datetime = row[0]
    current = Period.of(now, table.interval)
    wanted = {Period.parse(name, table.interval) for name in report.rows}
    wanted |= set(periods(current, current.plus(table.premake)))
    with connection.transaction():
        connection.execute("set local timezone = 'UTC'")
        lock_tables(connection, patience, [parent.as_string(connection)])
        connection.execute(sql.SQL("alter table {} detach partition {}").format(parent, default))
        connection.execute(
            sql.SQL("comment on table {} is {}").format(default, sql.Literal(_MARK.format(table.name)))
        )
        there = attached(connection, table.name)
        for period in sorted(wanted):
            if any(p.overlaps(period.start, period.end) for p in there):
                continue
            name = f"{table.table}_{period.suffix}"
            child = sql.Identifier(table.schema, name)
            create_like(connection, parent, child, table.storage)
            connection.execute(
                sql.SQL("alter table {} attach partition {} for values from ({}) to ({})").format(
                    parent, child, sql.SQL(literal(period.start)), sql.SQL(literal(period.end))
                )
            )
            finish(connection, parent, child)
            full = f"{table.schema}.{name}"
            metadata.attached(connection, table.name, full, period.start, period.end, rows=0, run=run)
            made.append(full)
    return made


def _move(
    connection: Connection, table: PartitionedTable, source: str, period: Period, batch_rows: int
) -> int:
    columns = sql.SQL(", ").join(
        sql.Identifier(str(column))
        for (column,) in connection.execute(
            "select attname from pg_attribute where attrelid = %s::regclass and attnum > 0"
            " and not attisdropped and attgenerated = '' order by attnum",
            (source,),
        ).fetchall()
    )
    statement = sql.SQL(
        """
        with gone as (
            delete from {source} where ctid = any (array(
                select ctid from {source} where {column} >= {low} and {column} < {high} limit {batch}
            ))
            returning {columns}
        ), come as (
            insert into {parent} ({columns}) overriding system value select {columns} from gone returning 1
        )
        select (select count(*) from gone), (select count(*) from come)
        """
    ).format(
        source=sql.SQL(source),
        column=sql.Identifier(table.column),
        low=sql.SQL(literal(period.start)),
        high=sql.SQL(literal(period.end)),
        batch=sql.Literal(batch_rows),
        columns=columns,
        parent=sql.Identifier(table.schema, table.table),
    )
    moved = 0
    while True:
        try:
            with connection.transaction():
                row = connection.execute(statement).fetchone()
                assert row is not None  # noqa: S101
                if row[0] != row[1]:
                    raise Mismatch(
                        f"rows of {source} were not taken by {table.name}; this batch was taken back",
                        expected=f"{row[0]} rows inserted",
                        found=f"{row[1]}",
                        next=f"look at the triggers of {table.name} that fire before an insert",
                    )
        except psycopg.errors.UniqueViolation as error:
            raise Mismatch(
                f"a row of {source} is in {table.name} already; this batch was taken back",
                expected="every key once",
                found=str(error.diag.message_detail or error).strip(),
                next=f"compare the two rows, delete one of them, then run it again: {source} keeps the rest",
            ) from None
        if row[0] == 0:
            return moved
        moved += row[0]


def _drop(connection: Connection, patience: Patience, name: str) -> None:
    with connection.transaction():
        lock_tables(connection, patience, [name])
        row = connection.execute(sql.SQL("select exists (select from {})").format(sql.SQL(name))).fetchone()
        if row != (False,):
            raise Mismatch(
                f"{name} has rows again",
                expected="nobody writes into a table that was detached",
                found="rows",
                next="run it again, and see who writes there",
            )
        connection.execute(sql.SQL("drop table {}").format(sql.SQL(name)))
