"""PostgreSQL in one snapshot against ClickHouse, row by row, without moving the rows.

Both sides cut a table into buckets by a hash of the key and give per bucket the number of rows, the
sum of a hash of every row's canonical text (see encoding.py), and the exact sums of amounts. Equal
sums of independent 60-bit hashes mean equal content; adding them up, unlike XOR, also tells two equal
rows from none. Only buckets that differ are read row by row, both sides in the order of the key, so
memory does not grow with the table.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from psycopg import sql

from bilten_orchestration.ingestion.report import Difference, ReconcileReport, RowState, TableComparison
from bilten_orchestration.ingestion.schema import Column, TablePlan
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.stores.postgres import Connection

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

BUCKETS = 256
SAMPLE_PER_TABLE = 20

_Row = tuple[str, int, Sequence[date]]
_ORDERED = {"max_bytes_before_external_sort": 256 << 20, "max_bytes_before_external_group_by": 256 << 20}


def compare(
    connection: Connection,
    client: Client,
    plans: dict[str, TablePlan],
    *,
    batch: int,
    as_of: datetime,
    progress: Progress = silent,
) -> ReconcileReport:
    """Compare all tables; `connection` is in the snapshot that ClickHouse shows."""
    started = time.monotonic()
    tables, sample, days = [], [], set()
    for plan in plans.values():
        present = replace(plan, columns=tuple(c for c in plan.columns if c not in plan.added))
        table = _Table(connection, client, present)
        comparison, differing = table.buckets()
        if differing:
            comparison, found, touched = table.rows(comparison, differing)
            sample += found
            days |= touched
        tables.append(comparison)
        progress(
            f"compared {comparison.table}: {comparison.rows_postgres} rows, "
            + (
                "equal"
                if comparison.equal
                else f"{comparison.missing + comparison.extra + comparison.changed} differ"
            )
        )
    return ReconcileReport(
        batch=batch,
        as_of=as_of,
        tables=tuple(tables),
        sample=tuple(sample),
        days=tuple(sorted(days)),
        seconds=time.monotonic() - started,
    )


@dataclass
class _Table:
    connection: Connection
    client: Client
    plan: TablePlan

    def __post_init__(self) -> None:
        columns, key = self.plan.columns, self.plan.table.key
        self.amounts = [
            c for c in columns if c.encoding.clickhouse_type.startswith("Decimal") and not c.nullable
        ]
        by_name = {column.name: column for column in columns}
        self.key = {side: _joined([by_name[name] for name in key], clickhouse=side) for side in (False, True)}
        self.row = {side: _joined(columns, clickhouse=side) for side in (False, True)}
        self.dates = list(dict.fromkeys(fact.date for fact in self.plan.table.facts))
        self.from_postgres = f"from {self.plan.table.source} t {self.plan.table.zone_joins}"
        self.from_clickhouse = f"from {self.plan.table.raw} final where {self.plan.in_clickhouse}"

    def buckets(self) -> tuple[TableComparison, list[int]]:
        """Totals, and the buckets that differ."""
        postgres_sums = "".join(f", sum({c.expression})::text" for c in self.amounts)
        clickhouse_sums = "".join(f", toDecimalString(sum({c.name}), {_scale(c)})" for c in self.amounts)
        ours = {
            row[0]: tuple(row[1:])
            for row in self.connection.execute(
                sql.SQL(
                    f"select {_bucket(self.key[False])}, count(*), "
                    f"sum({_hash(self.row[False])})::text{postgres_sums} "
                    f"{self.from_postgres} group by 1"
                )
            )
        }
        theirs = {
            row[0]: tuple(row[1:])
            for row in self.client.query(
                f"select {_bucket_clickhouse(self.key[True])} as bucket, count(), "
                f"toString(sum(toUInt128({_hash_clickhouse(self.row[True])}))){clickhouse_sums} "
                f"{self.from_clickhouse} group by bucket",
                settings=_ORDERED,
            ).result_rows
        }
        differing = sorted(
            bucket for bucket in ours.keys() | theirs.keys() if ours.get(bucket) != theirs.get(bucket)
        )
        sums = {
            column.name: (_sum(ours.values(), place + 2), _sum(theirs.values(), place + 2))
            for place, column in enumerate(self.amounts)
        }
        rows = [sum(int(row[0]) for row in side.values()) for side in (ours, theirs)]
        return TableComparison(self.plan.table.source, rows[0], rows[1], sums=sums), differing

    def rows(
        self, totals: TableComparison, buckets: list[int]
    ) -> tuple[TableComparison, list[Difference], set[date]]:
        """Rows of these buckets, merged by key."""
        counts: Counter[RowState] = Counter()
        states: list[tuple[str, RowState]] = []
        days: set[date] = set()
        for key, ours, theirs in _merge(self._ours(buckets), self._theirs(buckets)):
            if ours is not None and theirs is not None and ours[1] == theirs[1]:
                continue
            state: RowState = "missing" if theirs is None else "extra" if ours is None else "changed"
            counts[state] += 1
            for row in (ours, theirs):
                days |= set(row[2]) if row is not None else set()
            if len(states) < SAMPLE_PER_TABLE:
                states.append((key, state))
        columns = self._differing_columns([key for key, state in states if state == "changed"])
        sample = [
            Difference(self.plan.table.source, key, state, columns.get(key, ())) for key, state in states
        ]
        differing = replace(
            totals, missing=counts["missing"], extra=counts["extra"], changed=counts["changed"]
        )
        return differing, sample, days

    def _ours(self, buckets: list[int]) -> Iterator[_Row]:
        by_name = {column.name: column for column in self.plan.columns}
        dates = ", ".join(by_name[name].expression for name in self.dates)
        with self.connection.cursor("reconcile") as cursor:
            cursor.itersize = 10_000
            cursor.execute(
                sql.SQL(
                    f'select {self.key[False]} collate "C", {_hash(self.row[False])}, '
                    f"array_remove(array[{dates}]::date[], null) {self.from_postgres} "
                    f"where {_bucket(self.key[False])} = any({{}}) order by 1"
                ).format(sql.Literal(buckets))
            )
            yield from cursor

    def _theirs(self, buckets: list[int]) -> Iterator[_Row]:
        dates = (
            f"arrayFilter(day -> isNotNull(day), [{', '.join(self.dates)}])"
            if self.dates
            else "[]::Array(Date32)"
        )
        with self.client.query_row_block_stream(
            f"select {self.key[True]} as key, {_hash_clickhouse(self.row[True])} as digest, {dates} as days "
            f"{self.from_clickhouse} and {_bucket_clickhouse(self.key[True])} in "
            f"({', '.join(map(str, buckets))}) "
            "order by key",
            settings=_ORDERED,
        ) as blocks:
            for block in blocks:
                yield from block

    def _differing_columns(self, keys: list[str]) -> dict[str, tuple[str, ...]]:
        if not keys:
            return {}
        names = [column.name for column in self.plan.columns]
        canonical = {
            side: ", ".join(column.canonical(clickhouse=side) for column in self.plan.columns)
            for side in (False, True)
        }
        ours = {
            row[0]: row[1:]
            for row in self.connection.execute(
                sql.SQL(
                    f"select {self.key[False]}, {canonical[False]} {self.from_postgres} "
                    f"where {self.key[False]} = any({{}})"
                ).format(sql.Literal(keys))
            )
        }
        theirs = {
            row[0]: row[1:]
            for row in self.client.query(
                f"select {self.key[True]} as key, {canonical[True]} {self.from_clickhouse} and key in "
                f"{{keys:Array(String)}}",
                parameters={"keys": keys},
            ).result_rows
        }
        return {
            key: tuple(
                name for name, mine, other in zip(names, ours[key], theirs[key], strict=True) if mine != other
            )
            for key in keys
            if key in ours and key in theirs
        }


def _merge(ours: Iterator[_Row], theirs: Iterator[_Row]) -> Iterator[tuple[str, _Row | None, _Row | None]]:
    """Both sides in the order of the key, side by side."""
    mine, other = next(ours, None), next(theirs, None)
    while mine is not None or other is not None:
        if other is None or (mine is not None and mine[0].encode() < other[0].encode()):
            assert mine is not None  # noqa: S101
            yield mine[0], mine, None
            mine = next(ours, None)
        elif mine is None or other[0].encode() < mine[0].encode():
            yield other[0], None, other
            other = next(theirs, None)
        else:
            yield mine[0], mine, other
            mine, other = next(ours, None), next(theirs, None)


def _joined(columns: Sequence[Column], *, clickhouse: bool) -> str:
    parts = [column.canonical(clickhouse=clickhouse) for column in columns]
    if clickhouse:
        return f"concat({', '.join(parts)})" if len(parts) == 1 else "concat(" + ", '|', ".join(parts) + ")"
    return "(" + " || '|' || ".join(parts) + ")"


def _bucket(key: str) -> str:
    return f"(('x' || left(md5({key}), 4))::bit(16)::int % {BUCKETS})"


def _bucket_clickhouse(key: str) -> str:
    return f"reinterpretAsUInt16(reverse(substring(MD5({key}), 1, 2))) % {BUCKETS}"


def _hash(row: str) -> str:
    return f"('x' || left(md5({row}), 15))::bit(60)::bigint"


def _hash_clickhouse(row: str) -> str:
    return f"bitShiftRight(reinterpretAsUInt64(reverse(substring(MD5({row}), 1, 8))), 4)"


def _scale(column: Column) -> int:
    return int(column.encoding.clickhouse_type.rstrip(")").rsplit(",", 1)[1])


def _sum(rows: Iterable[tuple[object, ...]], place: int) -> str:
    return str(sum((Decimal(str(row[place])) for row in rows), Decimal(0)))
