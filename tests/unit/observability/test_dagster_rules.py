"""Which failures of runs nothing made up for, what lasts too long, which checks failed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bilten_orchestration.observability.sources import dagster_rules as rules
from bilten_orchestration.observability.sources.dagster_storage import FailedCheck, Run
from bilten_orchestration.settings import AlertSettings

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
SCHEDULED = {"dagster/schedule_name": "nightly"}


def nobody(name: str) -> str:
    return ""


def run(hours: float, *, job: str = "j", status: str = "FAILURE", **tags: str) -> Run:
    at = NOON + hours * HOUR
    named = {name.replace("__", "/"): value for name, value in tags.items()}
    return Run(f"run-{hours}", job, status, at, at, at, at, named)


def over(first: str, last: str) -> dict[str, str]:
    return {"dagster__asset_partition_range_start": first, "dagster__asset_partition_range_end": last}


@pytest.mark.parametrize(
    ("bad", "good", "left"),
    [
        (run(0), run(1), False),
        (run(1), run(0), True),  # what was before makes up for nothing
        (run(0), run(1, job="other"), True),
        (run(0, dagster__partition="2026-03-01"), run(1, dagster__partition="2026-03-01"), False),
        (run(0, dagster__partition="2026-03-01"), run(1, dagster__partition="2026-03-02"), True),
        (run(0, dagster__partition="2026-03-01"), run(1, **over("2026-02-01", "2026-03-31")), False),
        (run(0, **over("2026-02-01", "2026-03-31")), run(1, dagster__partition="2026-03-01"), True),
        # of a schedule the next one does it
        (
            run(0, dagster__partition="2026-03-01", dagster__schedule_name="s"),
            run(1, dagster__partition="2026-03-02"),
            False,
        ),
        (
            run(0, dagster__partition="2026-03-01", dagster__backfill="b"),
            run(1, dagster__partition="2026-03-02", dagster__backfill="b"),
            True,
        ),
    ],
)
def test_what_makes_up_for_a_failure(bad: Run, good: Run, left: bool) -> None:
    assert rules.failing([bad], [good]) == ([bad] if left else [])


def test_a_backfill_is_one_incident_that_grows() -> None:
    failed = [run(n, dagster__partition=f"d{n:02}", dagster__backfill="b") for n in range(12)]
    (found,) = rules.series(failed)
    finding = rules.of_failures(found, "division by zero", "http://ui", nobody)
    assert found.key == "backfill/b"
    assert finding.step == 1
    assert finding.problem.what.startswith("12 runs of j failed of d07, d08")
    assert finding.link == "http://ui/runs/run-11"
    assert finding.since == NOON


def test_a_failed_run_says_which_command_helps() -> None:
    bad = run(0, bilten__by_hand="bilten backup create redis", bilten__on_failure="bilten backup list")
    (found,) = rules.series([bad])
    finding = rules.of_failures(found, "", "http://ui", lambda job: f"team:{job}")
    assert finding.key == "run/j" and finding.owner == "team:j"
    assert finding.problem.next == "bilten backup list; bilten backup create redis"
    assert finding.problem.found == "no reason in its log"


def test_same_work_by_hand_is_one_incident_and_others_are_others() -> None:
    found = rules.series(
        [run(0, dagster__partition="a"), run(1, dagster__partition="a"), run(2, dagster__partition="b")]
    )
    assert {each.key: len(each.runs) for each in found} == {"run/j/a": 2, "run/j/b": 1}


@pytest.mark.parametrize(
    ("status", "seconds", "kind"),
    [
        ("QUEUED", 1800, None),
        ("QUEUED", 1801, "run-never-started"),
        ("STARTING", 1801, "run-never-started"),
        ("STARTED", 14_400, None),
        ("STARTED", 14_401, "run-stuck"),
        ("CANCELING", 900, None),
        ("CANCELING", 901, "run-stuck"),
    ],
)
def test_what_lasts_too_long(status: str, seconds: int, kind: str | None) -> None:
    found = rules.too_long(
        [run(0, status=status)], NOON + timedelta(seconds=seconds), AlertSettings(), "http://ui", nobody
    )
    assert [each.kind for each in found] == ([] if kind is None else [kind])


def check(**given: Any) -> FailedCheck:
    values: dict[str, Any] = {
        "asset": ("marts", "m"),
        "check": "c",
        "partition": None,
        "run_id": "r",
        "at": NOON,
        "severity": "ERROR",
        "blocking": False,
        "description": "3 rows differ; next: bilten sync",
    }
    return FailedCheck(**{**values, **given})


@pytest.mark.parametrize(
    ("severity", "blocking", "expected"),
    [
        ("ERROR", True, "critical"),
        ("ERROR", False, "warning"),
        ("WARN", False, "info"),
        ("WARN", True, "info"),
    ],
)
def test_how_bad_a_failed_check_is(severity: str, blocking: bool, expected: str) -> None:
    (found,) = rules.of_checks([check(severity=severity, blocking=blocking)], "http://ui", nobody)
    assert found.severity == expected
    assert found.problem.found == "3 rows differ;"
    assert found.problem.next == "bilten sync"


def test_a_check_of_many_partitions_is_one_incident() -> None:
    found = rules.of_checks(
        [check(partition=f"2026-03-{day:02}", at=NOON + day * HOUR) for day in range(1, 21)],
        "http://ui",
        nobody,
    )
    (finding,) = found
    assert finding.key == "check/marts/m/c"
    assert finding.step == 1
    assert finding.since == NOON + HOUR
    assert "2026-03-20 and 15 more" in finding.problem.what


def test_a_silent_daemon_is_one_finding_and_a_silent_part_another() -> None:
    limit = timedelta(minutes=2)
    assert [each.key for each in rules.silent({}, NOON, limit)] == ["daemon"]
    dead = {kind: NOON - HOUR for kind in rules.DAEMONS}
    (found,) = rules.silent(dead, NOON, limit)
    assert (found.key, found.severity, found.since) == ("daemon", "critical", NOON - HOUR)
    part = {**dict.fromkeys(rules.DAEMONS, NOON), "SENSOR": NOON - HOUR, "BACKFILL_OF_OLD": NOON - HOUR}
    assert [each.key for each in rules.silent(part, NOON, limit)] == ["daemon/SENSOR"]
    assert rules.silent(dict.fromkeys(rules.DAEMONS, NOON), NOON, limit) == []
