"""Enough ahead: a warning below two intervals, a failure below one."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from bilten_orchestration.partitions.bounds import Period
from bilten_orchestration.partitions.declared import PartitionedTable
from bilten_orchestration.partitions.listing import PartitionRow
from bilten_orchestration.partitions.standing import standing, too_few_ahead

TABLE = PartitionedTable("users.visits", retention=3)
NOW = datetime(2026, 12, 31, 23, 59, tzinfo=UTC)
DECEMBER = Period(date(2026, 12, 1))


def rows(*months: int) -> list[PartitionRow]:
    """Months as distance from December 2026."""
    periods = [DECEMBER.plus(number) for number in months]
    return [
        PartitionRow(TABLE.name, f"visits_{p.suffix}", p.start, p.end, "attached", 10, 1000 + n)
        for n, p in enumerate(periods)
    ]


@pytest.mark.parametrize(
    ("months", "ahead", "fails"),
    [
        ((-1, 0, 1, 2, 3), 3, None),
        ((-1, 0, 1, 2), 2, None),
        ((-1, 0, 1), 1, False),
        ((-1, 0, 1, 3, 4), 1, False),
        ((-1, 0), 0, True),
        ((-1, 0, 2), 0, True),
        ((-1, 1, 2), -1, True),
        ((), -1, True),
    ],
)
def test_ahead(months: tuple[int, ...], ahead: int, fails: bool | None) -> None:
    found = standing(TABLE, rows(*months), NOW)
    assert found.ahead == ahead
    told = too_few_ahead(TABLE, found)
    assert (told[1] if told else None) is fails


def test_what_it_shows() -> None:
    found = standing(TABLE, rows(-2, -1, 0, 1), NOW)
    assert (found.partitions, found.rows, found.kept, found.growth_rows, found.growth_bytes) == (
        4,
        40,
        3,
        10,
        1001,
    )
    assert standing(TABLE, rows(0), NOW).growth_bytes is None


def test_clickhouse_makes_nothing_ahead() -> None:
    table = PartitionedTable("analytics.events", retention=25, premake=0, store="clickhouse")
    assert too_few_ahead(table, standing(table, [], NOW)) is None
