"""What the checks of drills judge, beside times and ages."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta

import pytest

from bilten_orchestration.drills import promises
from bilten_orchestration.drills.clickhouse import judged
from bilten_orchestration.drills.marts import Published
from bilten_orchestration.drills.report import DrillReport, Proof
from bilten_orchestration.settings import Settings
from tests.unit.drills.test_attestation import report

SHRANK = Proof("rows are not fewer than in the drill before", False, "9", "0", 0.1, warns=True)
ENGINE = replace(report(1), store="clickhouse", way="engine")
DAY = timedelta(days=1)


def _of(name: str, reports: list[DrillReport], after: timedelta) -> promises.Promise:
    now = reports[-1].finished_at + after
    store = reports[0].store
    return {each.name: each for each in promises.judge(store, reports, Settings().drills, now)}[name]


def test_what_warned_is_told_until_a_drill_of_that_way_is_calm() -> None:
    warned = replace(report(1), proofs=(SHRANK,))
    found = _of(promises.CALM, [warned], DAY)
    assert (found.kept, found.value, found.waits) == (False, 1, True)
    assert found.said == "server: rows are not fewer than in the drill before: expected 9, found 0"
    assert _of(promises.CALM, [warned, report(2)], DAY).kept


def test_stores_that_were_never_compared_do_not_stay_green() -> None:
    old = replace(ENGINE, started_at=ENGINE.started_at - 9 * DAY)
    assert _of(promises.AGREED, [ENGINE], DAY).waits
    never = _of(promises.AGREED, [old, ENGINE], DAY)
    assert (never.kept, never.waits) == (False, False)
    agreed = replace(old, figures={promises.AGREED_DAYS: 3.0})
    assert _of(promises.AGREED, [agreed], 8 * DAY).kept
    late = _of(promises.AGREED, [agreed], 8.5 * DAY)
    assert not late.kept
    assert "8.5 days ago" in late.said
    assert promises.AGREED not in promises.names_of("redis")


def test_an_empty_shop_was_compared_too() -> None:
    """Of no documents none differs; a drill that could not compare has no such figure."""
    old = replace(ENGINE, store="search", way="rebuild", started_at=ENGINE.started_at - 9 * DAY)
    assert not _of(promises.AGREED, [old], DAY).kept
    assert _of(promises.AGREED, [replace(old, figures={promises.AGREED_DOCUMENTS: 0})], DAY).kept


def test_search_loses_what_postgresql_loses() -> None:
    assert promises.rpo_limit("search", Settings().drills) == Settings().drills.rpo_seconds


@pytest.mark.parametrize(
    ("live", "ok", "warns", "found"),
    [
        ({1: "a", 2: "b"}, True, False, "2 compared, all equal"),
        ({1: "a", 2: "other"}, True, False, "1 compared, all equal"),
        ({1: "other", 2: "other"}, False, True, "0 compared, all equal"),
        ({1: "a"}, False, False, "1 days of the backup are not in the live server: sales of 2026-01-02"),
        ({}, False, False, "2 days of the backup are not in the live server"),
        ({1: "a", 2: "b", 3: "c"}, True, False, "2 compared"),
    ],
)
def test_a_live_server_that_lost_marts_is_no_proof(
    live: dict[int, str], ok: bool, warns: bool, found: str
) -> None:
    at = datetime(2026, 2, 1)

    def published(builds: dict[int, str]) -> dict[tuple[str, date], Published]:
        return {
            ("sales", date(2026, 1, day)): Published((build, at), True, (1, day))
            for day, build in builds.items()
        }

    proof = judged(published({1: "a", 2: "b"}), published(live), 0.1)
    assert (proof.ok, proof.warns and not proof.ok) == (ok, warns)
    assert found in proof.found


def test_a_backup_without_marts_warns() -> None:
    proof = judged({}, {}, 0.1)
    assert not proof.ok
    assert proof.warns
