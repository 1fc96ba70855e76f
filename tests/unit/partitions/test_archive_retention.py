"""When an archive's own time is over, by the numbers of archive_retention.py."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilten_orchestration.errors import Problem
from bilten_orchestration.partitions import archive_retention
from bilten_orchestration.partitions.actions import Plan
from bilten_orchestration.partitions.archives import Archive
from bilten_orchestration.partitions.bounds import INTERVALS, Interval, Period
from bilten_orchestration.partitions.declared import PartitionedTable
from tests.unit.partitions.postgres.test_plan import archived

NOW = datetime(2026, 5, 15, 12, tzinfo=UTC)
MONTH = Period.of(NOW)
TABLE = PartitionedTable("shop.visits", retention=2, archive_retention=4)
# the newest of them was kept until the first of this month
PAPERS = tuple(archived(MONTH.plus(-number)) for number in (5, 6, 7))


def planned(table: PartitionedTable = TABLE, papers: tuple[Archive, ...] = PAPERS, **more: object) -> Plan:
    base: dict[str, object] = {"now": NOW, "here": (), "has_rows": True, "limit": 5}
    return archive_retention.plan(table, papers, **{**base, **more})  # type: ignore[arg-type]


def said(found: Plan) -> list[tuple[str, str, int]]:
    return [(a.action, a.partition.removeprefix("shop.visits_"), a.case) for a in found.actions]


ALL = [("expire", name, 15) for name in ("p202510", "p202511", "p202512")]


def test_the_oldest_first_with_reason_and_document() -> None:
    found = planned()
    assert (said(found), found.problems) == (ALL, ())
    assert [each.reason for each in found.actions] == [
        f"its archive was kept until {month}-01" for month in ("2026-03", "2026-04", "2026-05")
    ]
    assert [each.archive for each in found.actions] == [each.document for each in reversed(PAPERS)]


@pytest.mark.parametrize(
    ("now", "ends"),
    [
        (datetime(2026, 4, 30, 23, 59, 59, tzinfo=UTC), False),
        (datetime(2026, 5, 1, tzinfo=UTC), True),
    ],
)
def test_to_the_second(now: datetime, ends: bool) -> None:
    assert (said(planned(papers=PAPERS[:1], now=now)) == ALL[2:]) is ends


def test_the_leap_day_and_weeks() -> None:
    day = Period.of(datetime(2024, 2, 28, tzinfo=UTC), "day")
    of_days = replace(TABLE, interval="day")
    (paper,) = (replace(archived(day), from_at=day.start, to_at=day.end),)
    assert archive_retention.kept_until(of_days, paper) == datetime(2024, 3, 4, tzinfo=UTC)
    week = Period.of(datetime(2026, 12, 31, tzinfo=UTC), "week")
    (paper,) = (replace(archived(week), from_at=week.start, to_at=week.end),)
    assert archive_retention.kept_until(replace(TABLE, interval="week"), paper) == datetime(
        2027, 2, 1, tzinfo=UTC
    )


def test_for_ever_where_nothing_is_declared_or_nothing_bounds_it() -> None:
    assert planned(replace(TABLE, archive_retention=None)) == Plan((), ())
    assert planned(papers=(replace(PAPERS[2], to_at=None),)) == Plan((), ())


def test_what_is_there_again_keeps_its_archive() -> None:
    """Also where it has other bounds by now: half a month is there."""
    november = MONTH.plus(-6)
    for here in (
        (november.start, november.end),
        (november.start + timedelta(days=9), november.end),
        (None, november.end),
    ):
        found = said(planned(here=[here]))
        assert ("keep", "p202511", 10) in found
        assert ALL[2] in found


def test_no_more_than_the_limit() -> None:
    assert said(planned(limit=1)) == [ALL[0], ("keep", "p202511", 11), ("keep", "p202512", 11)]
    assert {line[0] for line in said(planned(limit=0))} == {"keep"}


def test_without_rows_or_trust_nothing_goes() -> None:
    assert {line[::2] for line in said(planned(has_rows=False))} == {("keep", 9)}
    doubt = Problem("clocks differ")
    found = planned(untrusted=[doubt])
    assert ({line[::2] for line in said(found)}, found.problems) == ({("keep", 13)}, (doubt,))
    # where nothing is over there is nothing to hinder
    assert planned(papers=(archived(MONTH),), untrusted=[doubt]) == Plan((), ())


@given(
    st.sampled_from(INTERVALS),
    st.integers(2, 60),
    st.sets(st.integers(0, 90), max_size=20),
    st.integers(0, 9),
    st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)),
)
def test_whatever_there_is(interval: Interval, kept: int, ages: set[int], limit: int, at: datetime) -> None:
    table = replace(TABLE, interval=interval, retention=1, archive_retention=kept)
    now = at.replace(tzinfo=UTC)
    here = Period.of(now, interval)
    papers = tuple(archived(here.plus(-age)) for age in ages)
    found = planned(table, papers, now=now, limit=limit)
    going = {each.archive for each in found.actions if each.action == "expire"}
    old = {each.document for age, each in zip(ages, papers, strict=True) if age > kept}
    assert going <= old
    assert len(going) == min(limit, len(old))
