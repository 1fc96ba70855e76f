"""Months of ClickHouse that end, and those that stay; numbers as in the modules."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime

from bilten_orchestration.errors import Problem
from bilten_orchestration.partitions.bounds import Period
from bilten_orchestration.partitions.clickhouse.months import Month, name_of
from bilten_orchestration.partitions.clickhouse.plan import Seen, plan
from bilten_orchestration.partitions.declared import PartitionedTable
from bilten_orchestration.partitions.metadata import Recorded

TABLE = PartitionedTable("analytics.events", retention=3, premake=0, store="clickhouse")
NOW = datetime(2026, 3, 31, 23, 59, 59, tzinfo=UTC)
MARCH = Period(date(2026, 3, 1))


def month(back: int, rows: int = 10) -> Month:
    return Month(MARCH.plus(-back), rows, 1000, 1)


def recorded(back: int, state: str, hold: datetime | None = None) -> Recorded:
    period = MARCH.plus(-back)
    return Recorded(
        TABLE.name, name_of(TABLE, period), period.start, period.end, state, 10, 1000, None, None, None, hold
    )  # type: ignore[arg-type]


BASE = Seen(TABLE, NOW, (month(4), month(3), month(2), month(1), month(0)))


def cases(seen: Seen, limit: int = 10) -> list[tuple[str, int]]:
    return [(action.partition[-6:], action.case) for action in plan(seen, limit=limit).actions]


def test_what_is_over_ends_and_the_retention_counts_the_current_month() -> None:
    assert cases(BASE) == [("202511", 6), ("202511", 6), ("202512", 6), ("202512", 6)]
    assert cases(replace(BASE, now=datetime(2026, 4, 1, tzinfo=UTC)))[-1] == ("202601", 6)


def test_the_limit_counts_months() -> None:
    assert cases(BASE, 1) == [("202511", 6), ("202511", 6), ("202512", 11)]
    assert cases(BASE, 0) == [("202511", 11), ("202512", 11)]


def test_the_newest_rows_stay() -> None:
    assert cases(replace(BASE, months=(month(4), month(3)))) == [("202511", 6), ("202511", 6), ("202512", 9)]


def test_what_was_restored_is_held_until_it_is_not() -> None:
    until = recorded(4, "attached", NOW.replace(year=2027))
    held = replace(BASE, months=(month(4), month(0)), recorded=(until,))
    assert cases(held) == [("202511", 10)]
    over = replace(held, recorded=(recorded(4, "attached", NOW.replace(year=2025)),))
    assert cases(over) == [("202511", 6), ("202511", 6)]


def test_rows_in_a_month_that_was_dropped_stay_and_are_told() -> None:
    late = replace(BASE, months=(month(4), month(0)), recorded=(recorded(4, "dropped"),))
    found = plan(late, limit=10)
    assert [action.case for action in found.actions] == [16]
    assert "was archived and dropped" in found.problems[0].what


def test_what_a_killed_run_moved_out_comes_first() -> None:
    assert cases(replace(BASE, months=(month(3), month(0)), left=(month(4),)))[0] == ("202511", 5)


def test_nothing_ends_where_time_is_not_trusted() -> None:
    found = plan(replace(BASE, left=(month(5),)), limit=10, untrusted=[Problem("clocks differ")])
    assert {action.action for action in found.actions} == {"keep"}
    assert [problem.what for problem in found.problems] == ["clocks differ"]
