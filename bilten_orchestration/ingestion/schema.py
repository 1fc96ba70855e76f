"""Columns of the synced tables as both catalogues show them, and what to do where they differ.

An added column follows: it is added in ClickHouse with the fitting type and comment, and the whole
table is read again. Anything else (dropped, retyped, made nullable) is a decision for people: all
differences are reported at once, before anything is written.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from bilten_orchestration.errors import Mismatch, Problem
from bilten_orchestration.ingestion import encoding
from bilten_orchestration.ingestion.tables import RAW, STAGE, TABLES, ZONE, SyncedTable
from bilten_orchestration.partitions.postgres.catalogue import attached
from bilten_orchestration.stores.postgres import Connection

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

# written by the sync itself
OWN_COLUMNS = ("version", "is_deleted")

_POSTGRES = """
    select wanted.name, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, t.typtype = 'e',
           coalesce(col_description(a.attrelid, a.attnum), '')
    from unnest(%s::text[]) as wanted (name)
    join pg_attribute a on a.attrelid = to_regclass(wanted.name) and a.attnum > 0 and not a.attisdropped
    join pg_type t on t.oid = a.atttypid
    where a.attname <> 'sync_xid' and has_column_privilege(a.attrelid, a.attnum, 'select')
    order by wanted.name, a.attnum
"""


_PARTITIONED = """
    select wanted.name, a.attname
    from unnest(%s::text[]) as wanted (name)
    join pg_partitioned_table p on p.partrelid = to_regclass(wanted.name) and p.partstrat = 'r'
    join pg_attribute a on a.attrelid = p.partrelid and a.attnum = p.partattrs[0]
"""


@dataclass(frozen=True, slots=True)
class Column:
    """`expression` is PostgreSQL's, over the aliases of the table's joins; `encoding` applies to it."""

    name: str
    expression: str
    encoding: encoding.Encoding
    nullable: bool
    comment: str = ""

    @property
    def transport(self) -> str:
        return self.encoding.transport.format(self.expression)

    @property
    def clickhouse_type(self) -> str:
        inner = self.encoding.clickhouse_type
        return f"Nullable({inner})" if self.nullable and not inner.startswith("Array") else inner

    def canonical(self, *, clickhouse: bool) -> str:
        """SQL text expression that is equal on both sides exactly where the values are."""
        if clickhouse:
            value = f"assumeNotNull({self.name})" if self.nullable else self.name
            text = self.encoding.clickhouse_text.format(value)
            if self.encoding.variable_length:
                text = f"concat(toString(length({text})), ':', {text})"
            return f"if(isNull({self.name}), '~', {text})" if self.nullable else text
        text = self.encoding.postgres_text.format(self.expression)
        if self.encoding.variable_length:
            text = f"(octet_length({text}) || ':' || {text})"
        if not self.nullable:
            return text
        return f"case when {self.expression} is null then '~' else {text} end"


@dataclass(frozen=True, slots=True)
class Bounds:
    """What of a partitioned table is attached: half-open ranges of `column` (UTC; None: unbounded)."""

    column: str
    ranges: tuple[tuple[datetime | None, datetime | None], ...]

    @property
    def in_clickhouse(self) -> str:
        """Condition on rows of the raw copy."""
        ranges = [
            " and ".join(
                f"{self.column} {sign} toDateTime64('{at:%F %T}', 6, 'UTC')"
                for sign, at in ((">=", low), ("<", high))
                if at is not None
            )
            for low, high in self.ranges
        ]
        return "(" + " or ".join(f"({each or 1})" for each in ranges) + ")" if ranges else "0"


@dataclass(frozen=True, slots=True)
class TablePlan:
    """A table with its columns as they are now; `added` are still missing in ClickHouse.

    `bounds` of a partitioned one: what ClickHouse holds outside them was archived and not deleted, so neither
    the sweep nor the comparison looks at it.
    """

    table: SyncedTable
    columns: tuple[Column, ...]
    added: tuple[Column, ...] = ()
    bounds: Bounds | None = None

    @property
    def in_clickhouse(self) -> str:
        """Condition on the rows of the raw copy that PostgreSQL answers for."""
        return "1" if self.bounds is None else self.bounds.in_clickhouse


@dataclass(frozen=True, slots=True)
class Held:
    """A table of the raw copies or of their stage; `columns` are types by name, in their order."""

    engine: str
    columns: Mapping[str, str]
    rows: int

    def like(self, other: Held) -> bool:
        return self.engine == other.engine and [*self.columns.items()] == [*other.columns.items()]


def held(client: Client) -> dict[tuple[str, str], Held]:
    """What ClickHouse holds of both, by database and name."""
    found = client.query(
        "select t.database, t.name, toString((t.engine, t.sorting_key, t.partition_key)), t.total_rows, "
        "c.names, c.types from system.tables t left join "
        "(select database, table, groupArray(name) as names, groupArray(type) as types from "
        "(select * from system.columns where database in {databases:Array(String)} order by position) "
        "group by database, table) c on c.database = t.database and c.table = t.name "
        "where t.database in {databases:Array(String)}",
        parameters={"databases": [RAW, STAGE]},
    ).result_rows
    return {
        (database, name): Held(engine, dict(zip(names, types, strict=True)), rows or 0)
        for database, name, engine, rows, names, types in found
    }


def read(connection: Connection, held: Mapping[tuple[str, str], Held]) -> dict[str, TablePlan]:
    """Plans by PostgreSQL name. Raises Mismatch with every difference that is not an added column."""
    personal = {(table.source, column) for table in TABLES for column in table.personal}
    in_postgres: dict[str, list[tuple[str, str, bool, bool, str]]] = defaultdict(list)
    for source, *rest in connection.execute(_POSTGRES, ([table.source for table in TABLES],)):
        if (source, rest[0]) not in personal:
            in_postgres[source].append((rest[0], rest[1], rest[2], rest[3], rest[4]))
    bounds = _bounds(connection)
    plans: dict[str, TablePlan] = {}
    problems: list[Problem] = []
    for table in TABLES:
        there = held.get((RAW, table.target))
        plan, found = _compare(table, in_postgres[table.source], {} if there is None else there.columns)
        plan = replace(plan, bounds=bounds.get(table.source))
        plans[table.source] = plan
        problems += found
    if problems:
        raise Mismatch(problems)
    return plans


def _bounds(connection: Connection) -> dict[str, Bounds]:
    """Of the synced tables that are partitioned by range. A partition whose detach is pending is gone for
    whoever asks the table; a default one holds whatever lies outside the others."""
    found: dict[str, Bounds] = {}
    for source, column in connection.execute(_PARTITIONED, ([table.source for table in TABLES],)).fetchall():
        partitions = [p for p in attached(connection, source) if not p.detach_pending]
        if not any(p.is_default for p in partitions):
            found[source] = Bounds(column, tuple((p.low, p.high) for p in partitions))
    return found


def follow(client: Client, plan: TablePlan) -> None:
    """Add what is missing. Idempotent."""
    for column in plan.added:
        client.command(
            f"alter table {plan.table.raw} add column if not exists `{column.name}` {column.clickhouse_type} "
            f"comment {_literal(column.comment)}"
        )


def _compare(
    table: SyncedTable, found: list[tuple[str, str, bool, bool, str]], target: Mapping[str, str]
) -> tuple[TablePlan, list[Problem]]:
    if not found:
        return TablePlan(table, ()), [
            Problem(
                f"{table.source} cannot be read",
                expected="a table with columns that the sync's role may read",
                found="no such table, or no privilege on it",
                next="bilten migrate status; a dropped table is taken out of ingestion/tables.py",
            )
        ]
    if not target:
        return TablePlan(table, ()), [
            Problem(
                f"ClickHouse has no table {table.raw}",
                expected="the raw copies of sql/clickhouse",
                found="none",
                next="bilten migrate up",
            )
        ]
    columns: list[Column] = []
    added: list[Column] = []
    problems: list[Problem] = []
    nullable_of = {name: not not_null for name, _, not_null, _, _ in found}
    for name, postgres_type, not_null, is_enum, comment in found:
        form = encoding.encoding_of(postgres_type, is_enum=is_enum)
        if form is None:
            problems.append(_unknown_type(table, name, postgres_type))
            continue
        column = Column(name, f"t.{name}", form, not not_null, comment)
        columns.append(column)
        if name not in target:
            added.append(column)
    for computed in table.local_dates:
        if computed.moment not in nullable_of:
            continue  # reported below, as dropped
        expression = encoding.local_date(f"t.{computed.moment}", ZONE)
        columns.append(Column(computed.name, expression, encoding.LOCAL_DATE, nullable_of[computed.moment]))
    for column in columns:
        if column.name in target and (problem := _type_difference(table, column, target[column.name])):
            problems.append(problem)
    names = {column.name for column in columns}
    for name in target:
        if name not in names and name not in OWN_COLUMNS:
            problems.append(
                Problem(
                    f"{table.source}.{name} is gone, and {table.raw} has it",
                    expected="the columns that ClickHouse has",
                    found=f"no column {name} that the sync's role may read",
                    next="a migration that drops it in ClickHouse too, or one that grants it to the sync",
                )
            )
    return TablePlan(table, tuple(columns), tuple(added)), problems


def _type_difference(table: SyncedTable, column: Column, found: str) -> Problem | None:
    base, nullable = encoding.base_type(found)
    if base == column.encoding.clickhouse_type and (
        nullable or column.clickhouse_type == column.encoding.clickhouse_type
    ):
        return None
    return Problem(
        f"{table.source}.{column.name} has another type than its copy in {table.raw}",
        expected=f"{column.clickhouse_type}, as PostgreSQL has it now",
        found=found,
        next="a migration in sql/clickhouse that alters the column, then bilten sync --full",
    )


def _unknown_type(table: SyncedTable, name: str, postgres_type: str) -> Problem:
    return Problem(
        f"{table.source}.{name} has a type without an exact counterpart in ClickHouse",
        expected="one of ingestion/encoding.py, numeric with precision and scale",
        found=postgres_type,
        next="another type, or revoke select on the column from the sync's role",
    )


def _literal(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
