"""Findings become incidents: by rules alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilten_orchestration.errors import Problem
from bilten_orchestration.observability.finding import SEVERITIES, Finding, steps
from bilten_orchestration.observability.incidents import Incident, Outcome, Rules, judge

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
RULES = Rules(open_after=MINUTE, recover_after=MINUTE)
Known = dict[str, Incident]


def finding(key: str = "store/postgres", **given: Any) -> Finding:
    values: dict[str, Any] = {
        "kind": "store-down",
        "severity": "warning",
        "problem": Problem("away"),
    }
    return Finding(key, **{**values, **given})


def turn(
    known: Known, at: datetime, findings: Iterable[Finding] | None, rules: Rules = RULES
) -> tuple[Known, Outcome, list[str]]:
    """`findings` None: the source could not be read."""
    read = {} if findings is None else {"source": tuple(findings)}
    outcome = judge(known, read, now=at, rules=rules, owner="team:x")
    left = {key: each for key, each in known.items() if each not in outcome.forgotten}
    left |= {each.key: each for each in outcome.changed}
    left = {key: each for key, each in left.items() if each.resolved_at is None}
    return left, outcome, [notice.event for notice in outcome.notices]


def test_what_is_measured_opens_once_it_has_lasted() -> None:
    known, _, events = turn({}, NOON, [finding()])
    assert events == []
    known, _, events = turn(known, NOON + MINUTE / 2, [finding()])
    assert events == []
    known, _, events = turn(known, NOON + MINUTE, [finding()])
    assert events == ["opened"]
    assert known["store/postgres"].since == NOON
    assert turn(known, NOON + 2 * MINUTE, [finding()])[2] == []


def test_a_restart_is_no_incident() -> None:
    known, _, _ = turn({}, NOON, [finding()])
    known, outcome, events = turn(known, NOON + MINUTE / 2, [])
    assert events == [] and known == {}
    assert [each.key for each in outcome.forgotten] == ["store/postgres"]


def test_what_was_recorded_opens_at_once_and_keeps_its_own_time() -> None:
    earlier = NOON - timedelta(hours=1)
    known, _, events = turn({}, NOON, [finding(lasting=True, since=earlier, owner="team:y")])
    assert events == ["opened"]
    assert known["store/postgres"].since == earlier
    assert known["store/postgres"].owner == "team:y"


def test_it_worsens_by_severity_and_step_and_never_twice() -> None:
    known, _, _ = turn({}, NOON, [finding(lasting=True)])
    known, _, events = turn(known, NOON, [finding(step=1)])
    assert events == ["worsened"]
    known, _, events = turn(known, NOON, [finding(severity="critical")])
    assert events == ["worsened"]
    for each in (finding(), finding(severity="critical"), finding(severity="warning", step=9)):
        known, _, events = turn(known, NOON, [each])
        assert events == []
    assert known["store/postgres"].severity == "critical"


def test_it_recovers_after_a_while_and_flapping_is_one_incident() -> None:
    known, _, _ = turn({}, NOON, [finding(lasting=True)])
    known, _, events = turn(known, NOON + MINUTE, [])
    assert events == []
    known, _, events = turn(known, NOON + 1.5 * MINUTE, [finding()])
    assert events == []
    known, _, events = turn(known, NOON + 2 * MINUTE, [])
    known, _, events = turn(known, NOON + 2.9 * MINUTE, [])
    assert events == []
    known, outcome, events = turn(known, NOON + 3 * MINUTE, [])
    assert events == ["recovered"] and known == {}
    assert outcome.notices[0].incident.resolved_at == NOON + 3 * MINUTE


def test_a_source_that_was_not_read_says_nothing() -> None:
    known, _, _ = turn({}, NOON, [finding(lasting=True)])
    after, outcome, events = turn(known, NOON + timedelta(days=1), None)
    assert events == [] and outcome.changed == () and after == known
    suspected, _, _ = turn({}, NOON, [finding()])
    assert turn(suspected, NOON + timedelta(days=1), None)[0] == suspected


def test_of_two_findings_with_one_key_the_worse_counts() -> None:
    both = [finding(severity="info", lasting=True), finding(severity="critical", lasting=True)]
    known, _, events = turn({}, NOON, both)
    assert events == ["opened"]
    assert known["store/postgres"].severity == "critical"


@given(
    st.lists(
        st.one_of(
            st.none(),
            st.lists(
                st.builds(
                    lambda key, severity, step, lasting: finding(
                        key, severity=severity, step=step, lasting=lasting
                    ),
                    st.sampled_from("abc"),
                    st.sampled_from(SEVERITIES),
                    st.integers(0, 2),
                    st.booleans(),
                ),
                max_size=4,
            ),
        ),
        max_size=30,
    )
)
def test_whatever_happens_each_incident_is_told_in_order(course: list[list[Finding] | None]) -> None:
    """Opened once, then worse and worse, recovered once at the end; per key one at a time."""
    known: Known = {}
    told: dict[str, list[tuple[str, tuple[int, int]]]] = {}
    for number, findings in enumerate(course):
        known, outcome, _ = turn(known, NOON + number * MINUTE / 2, findings)
        for notice in outcome.notices:
            told.setdefault(notice.incident.id, []).append((notice.event, notice.incident.weight))
    for events in told.values():
        names = [name for name, _ in events]
        assert names[0] == "opened" and names.count("opened") == 1
        assert "recovered" not in names[:-1]
        weights = [weight for name, weight in events if name != "recovered"]
        assert weights == sorted(set(weights))
    assert all(each.resolved_at is None for each in known.values())


@pytest.mark.parametrize(("count", "expected"), [(0, 0), (1, 0), (9, 0), (10, 1), (99, 1), (500, 2)])
def test_steps_are_factors_of_ten(count: int, expected: int) -> None:
    assert steps(count) == expected


def test_incidents_are_values() -> None:
    known, _, _ = turn({}, NOON, [finding()])
    (incident,) = known.values()
    assert replace(incident) == incident


def test_numbers_that_change_are_kept_once_a_minute() -> None:
    known, _, _ = turn({}, NOON, [finding(lasting=True)])
    for seconds, kept in ((3, False), (59, False), (60, True)):
        at = NOON + timedelta(seconds=seconds)
        later, outcome, _ = turn(known, at, [finding(problem=Problem("away", found=f"{seconds} s"))])
        assert [each.problem.found for each in outcome.changed] == ([f"{seconds} s"] if kept else [])
        known = later
    _, outcome, _ = turn(known, NOON + timedelta(seconds=63), [])
    assert [each.missed_at for each in outcome.changed] == [NOON + timedelta(seconds=63)]
