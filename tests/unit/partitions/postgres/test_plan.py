"""Rules of plan.py, by their numbers."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilten_orchestration.errors import Problem
from bilten_orchestration.partitions.actions import Plan
from bilten_orchestration.partitions.archives import Archive
from bilten_orchestration.partitions.bounds import INTERVALS, Interval, Period
from bilten_orchestration.partitions.declared import AT_ENDS, AtEnd, PartitionedTable
from bilten_orchestration.partitions.metadata import Recorded, State
from bilten_orchestration.partitions.postgres import trust
from bilten_orchestration.partitions.postgres.catalogue import Attached
from bilten_orchestration.partitions.postgres.plan import plan
from bilten_orchestration.partitions.postgres.seen import Detached, Seen

NOW = datetime(2026, 5, 15, 12, tzinfo=UTC)
TABLE = PartitionedTable("shop.visits", retention=3, premake=2)


def attached(period: Period, oid: int = 0, *, heap_bytes: int = 8192, pending: bool = False) -> Attached:
    name = f"shop.visits_{period.suffix}"
    return Attached(
        name, period.start, period.end, False, pending, 16384, 10, oid or period.first.toordinal(), heap_bytes
    )


def seen(months: list[int], table: PartitionedTable = TABLE, now: datetime = NOW) -> Seen:
    """With a partition for each of these periods, counted from the current one; rows up to the current."""
    here = Period.of(now, table.interval)
    found = tuple(attached(here.plus(number)) for number in sorted(months))
    past = [each for each in found if each.low is not None and each.low <= now]
    return Seen(table, now, found, newest=past[-1] if past else None)


def recorded(period: Period, state: State, **more: object) -> Recorded:
    name = f"shop.visits_{period.suffix}"
    base = Recorded(
        "shop.visits",
        name,
        period.start,
        period.end,
        state,
        10,
        1,
        None,
        None,
        period.first.toordinal(),
        None,
    )
    return replace(base, **more)  # type: ignore[arg-type]


def detached(period: Period, state: State = "detached") -> Detached:
    one = recorded(period, state)
    return Detached(one.partition, one.oid or 0, 16384, True, one)


def archived(period: Period, begun_at: datetime = NOW) -> Archive:
    return Archive(
        id=f"{period}-{begun_at:%H%M}",
        store="postgres",
        table="shop.visits",
        partition=f"shop.visits_{period.suffix}",
        from_at=period.start,
        to_at=period.end,
        columns=(),
        rows=10,
        digest="10:1",
        digest_method="",
        raw_bytes=1,
        codec="zstd",
        objects=(),
        key_id="k",
        source="1",
        begun_at=begun_at,
        proven_at=begun_at,
        versions={},
    )


def said(found: Plan) -> list[tuple[str, str, int]]:
    return [(a.action, a.partition.removeprefix("shop.visits_"), a.case) for a in found.actions]


MONTH = Period.of(NOW)


def test_nothing_to_do() -> None:
    assert plan(seen([-2, -1, 0, 1, 2]), limit=2) == Plan((), ())


def test_case_1_ahead_and_gaps() -> None:
    found = plan(seen([-2, 0, 1]), limit=2)
    assert said(found) == [("create", "p202604", 1), ("create", "p202607", 1)]
    assert ["gap" in action.reason for action in found.actions] == [True, False]
    # what was there before the oldest is no gap, unless it is asked for
    assert said(plan(seen([0, 1, 2]), limit=2)) == []
    asked = plan(seen([0, 1, 2]), limit=2, first=datetime(2026, 3, 31, tzinfo=UTC))
    assert said(asked) == [("create", "p202603", 1), ("create", "p202604", 1)]
    assert said(plan(Seen(TABLE, NOW, ()), limit=2)) == [
        ("create", name, 1) for name in ("p202605", "p202606", "p202607")
    ]


@pytest.mark.parametrize("state", ["detaching", "detached", "archived", "dropped"])
def test_case_1_what_was_ended_is_no_gap(state: State) -> None:
    base = seen([-2, 0, 1, 2])
    assert said(plan(replace(base, recorded=(recorded(MONTH.plus(-1), state),)), limit=2)) == []


def test_case_2_a_default_partition_stops_everything() -> None:
    base = seen([-9, 0])
    rest = Attached("shop.rest", None, None, True, False, 0, 0)
    found = plan(replace(base, attached=(*base.attached, rest)), limit=2)
    assert found.actions == ()
    assert "default partition, shop.rest" in found.problems[0].what
    assert "adopt shop.visits --default" in found.problems[0].next


def test_cases_3_and_4_hinder_their_period_alone() -> None:
    base = seen([0])
    june = MONTH.plus(1)
    half = replace(attached(june), name="shop.half", low=june.start + timedelta(days=9))
    found = plan(replace(base, attached=(*base.attached, half)), limit=2)
    assert said(found) == [("create", "p202607", 1)]
    assert "2026-06" in found.problems[0].what
    taken = plan(replace(base, taken=frozenset({"visits_p202606"})), limit=2)
    assert said(taken) == [("create", "p202607", 1)]
    assert "visits_p202606 exists" in taken.problems[0].what


@pytest.mark.parametrize(
    ("at_end", "after"),
    [
        ("archive_and_drop", [("archive", 6), ("drop", 6)]),
        ("drop", [("drop", 6)]),
        ("keep_detached", []),
    ],
)
def test_cases_5_to_8_by_what_is_declared(at_end: AtEnd, after: list[tuple[str, int]]) -> None:
    table = replace(TABLE, at_end=at_end)
    base = seen([-3, -2, -1, 0, 1, 2], table)
    assert said(plan(base, limit=2)) == [
        ("detach", "p202602", 8),
        *((action, "p202602", case) for action, case in after),
    ]
    pending = replace(base.attached[0], detach_pending=True)
    begun = replace(base, attached=(pending, *base.attached[1:]))
    assert said(plan(begun, limit=0)) == [
        ("finalize", "p202602", 5),
        *((action, "p202602", case) for action, case in after),
    ]
    for state in ("detaching", "detached"):
        loose = replace(seen([-2, -1, 0, 1, 2], table), detached=(detached(MONTH.plus(-3), state),))  # type: ignore[arg-type]
        expected = after or [("keep", 6)]
        assert said(plan(loose, limit=0)) == [(action, "p202602", case) for action, case in expected]


def test_case_6_a_retention_that_was_made_longer() -> None:
    month = MONTH.plus(-2)
    found = plan(replace(seen([-1, 0, 1, 2]), detached=(detached(month),)), limit=2)
    assert said(found) == [("keep", month.suffix, 6)]
    assert "attach partition" in found.problems[0].next


def test_case_7_the_newest_archive_of_these_bounds() -> None:
    month = MONTH.plus(-3)
    base = replace(
        seen([-2, -1, 0, 1, 2]),
        detached=(detached(month, "archived"),),
        archives=(archived(month), archived(month, NOW + timedelta(hours=1)), archived(MONTH.plus(-4))),
    )
    (drop,) = plan(base, limit=0).actions
    assert (drop.action, drop.case) == ("drop", 7)
    assert drop.archive == archived(month, NOW + timedelta(hours=1)).document


def test_case_9_the_newest_rows_stay() -> None:
    base = seen([-9, -8, 0, 1, 2])
    silent = replace(base, newest=base.attached[1])
    assert [line for line in said(plan(silent, limit=5)) if line[0] != "create"] == [
        ("detach", "p202508", 8),
        ("archive", "p202508", 6),
        ("drop", "p202508", 6),
        ("keep", "p202509", 9),
    ]
    empty = plan(replace(base, newest=None), limit=5)
    assert {line[0] for line in said(empty)} == {"create", "keep"}


def test_case_10_restored_and_held() -> None:
    month = MONTH.plus(-5)
    base = seen([-5, -2, -1, 0, 1, 2])
    for until, action in ((NOW + timedelta(seconds=1), "keep"), (NOW, "detach")):
        held = replace(base, recorded=(recorded(month, "attached", hold_until=until),))
        found = [line for line in said(plan(held, limit=5)) if line[1] == f"{month.suffix}"]
        assert found[0] == (action, month.suffix, 10 if action == "keep" else 8)


def test_case_11_no_more_than_the_limit_and_the_oldest_first() -> None:
    found = said(plan(seen([*range(-8, 3)]), limit=2))
    assert [line for line in found if line[0] in ("detach", "keep")] == [
        ("detach", "p202509", 8),
        ("detach", "p202510", 8),
        ("keep", "p202511", 11),
        ("keep", "p202512", 11),
        ("keep", "p202601", 11),
        ("keep", "p202602", 11),
    ]


def test_case_12_a_foreign_key_is_found_at_planning() -> None:
    base = seen([-3, -2, -1, 0, 1, 2])
    name = base.attached[0].name
    found = plan(replace(base, referenced={name: "orders_visit of shop.orders"}), limit=5)
    assert said(found) == [("keep", "p202602", 12)]
    assert "orders_visit" in found.problems[0].found


def test_case_13_nothing_ends_without_trust_but_what_is_missing_is_made() -> None:
    doubt = Problem("the clock is wrong")
    base = replace(seen([-4, -3, -2, -1, 0, 1]), detached=(detached(MONTH.plus(-5)),))
    found = plan(base, limit=5, untrusted=[doubt])
    assert {line[0] for line in said(found)} == {"create", "keep"}
    assert found.problems == (doubt,)
    assert plan(seen([-1, 0, 1, 2]), limit=5, untrusted=[doubt]).problems == ()


def test_case_14_what_somebody_else_detached() -> None:
    base = replace(seen([-2, -1, 0, 1, 2]), detached=(detached(MONTH.plus(-3), "attached"),))
    found = plan(base, limit=5)
    assert said(found) == [("keep", "p202602", 14)]
    assert "attach partition" in found.problems[0].next
    other = replace(detached(MONTH.plus(-3)), like_parent=False)
    found = plan(replace(base, detached=(other,)), limit=5)
    assert said(found) == [("keep", "p202602", 14)]


def test_case_15_an_archive_ends_by_its_own_retention_alone() -> None:
    table = replace(TABLE, archive_retention=4)
    base = seen([-2, -1, 0, 1, 2], table)
    papers = tuple(archived(MONTH.plus(-number)) for number in (3, 5, 6))
    assert said(plan(replace(base, archives=papers), limit=5)) == [
        ("expire", "p202511", 15),
        ("expire", "p202512", 15),
    ]
    assert said(plan(replace(base, archives=papers, table=TABLE), limit=5)) == []
    here = replace(base, archives=papers, detached=(detached(MONTH.plus(-6), "attached"),))
    assert ("keep", "p202511", 10) in said(plan(here, limit=5))
    assert ("expire", "p202511", 15) not in said(plan(here, limit=5))
    # an empty table, of a server that is not the one whose archives these are
    empty = plan(replace(base, archives=papers, newest=None), limit=5)
    assert {line[0] for line in said(empty)} == {"keep"}
    doubt = Problem("the clock is wrong")
    doubted = plan(replace(base, archives=papers), limit=5, untrusted=[doubt])
    assert said(doubted) == [("keep", "p202511", 13), ("keep", "p202512", 13)]
    assert doubted.problems == (doubt,)


def test_trust_needs_clocks_that_agree_and_young_rows() -> None:
    silence = timedelta(days=62)
    base = seen([-3, 0])
    assert trust.untrusted([base], NOW, NOW, silence) == []
    assert trust.untrusted([base], NOW + timedelta(minutes=16), NOW, silence) != []
    assert trust.untrusted([base], NOW, NOW - timedelta(minutes=16), silence) != []
    # all clocks a year ahead: rows do not get older by that
    later = replace(base, now=NOW + timedelta(days=365))
    (problem,) = trust.untrusted([later], later.now, later.now, silence)
    assert "newest rows are old" in problem.what
    # one table that is written is enough
    assert (
        trust.untrusted(
            [later, replace(later, newest=attached(Period.of(later.now)))], later.now, None, silence
        )
        == []
    )


@given(
    st.sampled_from(INTERVALS),
    st.sampled_from(AT_ENDS),
    st.integers(1, 30),
    st.integers(1, 6),
    st.sets(st.integers(-40, 8)),
    st.integers(0, 50),
    st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)),
)
def test_whatever_is_there(
    interval: Interval,
    at_end: AtEnd,
    retention: int,
    premake: int,
    there: set[int],
    limit: int,
    at: datetime,
) -> None:
    table = PartitionedTable(
        "shop.visits", retention=retention, premake=premake, interval=interval, at_end=at_end
    )
    now = at.replace(tzinfo=UTC)
    base = seen(sorted(there), table, now)
    found = plan(base, limit=limit)
    assert found.problems == ()
    here = Period.of(now, interval)
    made = {a.partition for a in found.actions if a.action == "create"}
    ended = {a.partition for a in found.actions if a.action in ("detach", "drop")}
    names = {p.name for p in base.attached}
    assert not made & names
    # every period from now to the end of what is made ahead is there
    for number in range(premake + 1):
        assert f"shop.visits_{here.plus(number).suffix}" in made | names
    # nothing within the retention ends, nor the newest rows, nor more than the limit
    for p in base.attached:
        assert p.high is not None
        if p.high > here.plus(1 - retention).start or p is base.newest:
            assert p.name not in ended
    assert len({a.partition for a in found.actions if a.action == "detach"}) <= limit
    # once that is done there is nothing more to make
    added = [
        attached(Period.of(a.from_at, interval)) for a in found.actions if a.action == "create" and a.from_at
    ]
    after = replace(base, attached=(*base.attached, *added))
    assert not [a for a in plan(after, limit=limit).actions if a.action == "create"]


def test_two_thousand_partitions_are_planned_quickly() -> None:
    table = replace(TABLE, interval="day", retention=1500)
    base = replace(seen([*range(-2000, 0)], table), recorded=())
    began = time.process_time()
    found = plan(base, limit=1000)
    assert time.process_time() - began < 2
    assert sum(a.action == "detach" for a in found.actions) == 501
