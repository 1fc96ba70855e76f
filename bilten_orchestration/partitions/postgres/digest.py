"""The digest of a partition's rows: that of the drills (drills/postgres/digests.py), over named columns.

Count, and the sum of a 64-bit hash of each row as text, with everything pinned that text depends on. The
columns are named in the order of the archive, so that the digest stays the same in a table whose columns lie
in another order, or that has newer ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from bilten_orchestration.partitions.archives import Column
from bilten_orchestration.partitions.postgres import columns as columns_
from bilten_orchestration.stores.postgres import Connection

METHOD = "count:sum(hashtextextended(row(columns)::text collate C, 0)), UTC, ISO, extra_float_digits 1"


@dataclass(frozen=True, slots=True)
class Measured:
    """`digest` holds the number of rows too. `as_text` are columns with values that Arrow has not."""

    rows: int
    digest: str
    as_text: frozenset[str] = frozenset()


def compute(connection: Connection, relation: sql.Composable, columns: Sequence[Column]) -> Measured:
    """Of a table by its own rows alone. The connection is pinned (digests.pin)."""
    return _compute(connection, relation, columns, {})


def measure(connection: Connection, relation: sql.Composable, columns: Sequence[Column]) -> Measured:
    """The same reading, which also finds the columns that are to be text."""
    doubts = {each.name: doubt for each in columns if (doubt := columns_.doubtful(each)) is not None}
    return _compute(connection, relation, columns, doubts)


def _compute(
    connection: Connection, relation: sql.Composable, columns: Sequence[Column], doubts: dict[str, str]
) -> Measured:
    asked = [
        sql.SQL("coalesce(bool_and(r.{0} is null or (" + doubt.replace("{0}", "r.{0}") + ")), true)").format(
            sql.Identifier(name)
        )
        for name, doubt in doubts.items()
    ]
    row = connection.execute(
        sql.SQL(
            """
            select count(*), coalesce(sum(hashtextextended((r.*)::text collate "C", 0)), 0)::text{asked}
            from (select {names} from only {relation}) r
            """
        ).format(
            asked=sql.SQL("").join(sql.SQL(", ") + each for each in asked),
            names=columns_.names(columns),
            relation=relation,
        )
    ).fetchone()
    assert row is not None  # noqa: S101
    rows, hash_, *exact = row
    doubted = frozenset(name for name, good in zip(doubts, exact, strict=True) if not good)
    return Measured(rows, f"{rows}:{hash_}", doubted)
