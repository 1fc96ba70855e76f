"""Cells of days: from evidence alone."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any, cast

import pytest

from bilten_orchestration.backups.plan import PLANNED
from bilten_orchestration.backups.repository.catalogue import Backup
from bilten_orchestration.backups.repository.manifest import Manifest
from bilten_orchestration.drills.report import DrillReport
from bilten_orchestration.metrics.verdicts import MartDay
from bilten_orchestration.observability.history import Cell, Samples, last_days, of_samples
from bilten_orchestration.observability.installed import Installed
from bilten_orchestration.observability.sources import days

NOW = datetime(2026, 11, 22, 23, 30, tzinfo=UTC)
OLD = Installed(NOW - timedelta(days=300), NOW - timedelta(days=300))
DAY = timedelta(days=1)
TODAY = NOW.date()


def backup(store: Any, kind: Any, started: datetime) -> Backup:
    return Backup(
        Manifest(
            id="x",
            store=store,
            kind=kind,
            source="1",
            started_at=started,
            finished_at=started,
            raw_bytes=1,
            codec=cast(Any, "zstd"),
            objects=(),
            key_id="k",
            versions={},
        )
    )


def redis(day: date, hours: tuple[int, ...]) -> list[Backup]:
    return [
        backup("redis", "full", datetime(day.year, day.month, day.day, hour, 1, tzinfo=UTC)) for hour in hours
    ]


def of_backups(
    store: str, found: list[Backup], installed: Installed = OLD, now: datetime = NOW
) -> dict[date, Cell]:
    planned = [each for each in PLANNED if each.store == store]
    return {cell.day: cell for cell in days.of_backups(store, planned, found, installed, now)}


def test_a_day_has_as_many_backups_as_were_due() -> None:
    found = of_backups("redis", redis(TODAY - DAY, (0, 6, 12)) + redis(TODAY, (0, 6, 12, 18)))
    assert (found[TODAY].state, found[TODAY].said) == ("good", "4 of 4 backups")
    assert (found[TODAY - DAY].state, found[TODAY - DAY].said) == ("partly", "3 of 4 backups")
    # those of the third day and before retention has taken: nobody knows
    assert sorted(found) == [TODAY - 1 * DAY, TODAY]


def test_a_day_without_a_backup_is_bad_and_a_day_before_the_installation_is_not_yet() -> None:
    new = Installed(NOW - 2 * DAY, NOW - 2 * DAY)
    found = of_backups("clickhouse", [], new)
    assert {cell.state for day, cell in found.items() if day > TODAY - 2 * DAY} == {"bad"}
    # installed at half past eleven in the evening of that day
    assert {cell.state for day, cell in found.items() if day <= TODAY - 2 * DAY} == {"not_yet"}
    assert len(found) == 30


def test_days_before_the_installation_are_not_yet_also_where_retention_would_have_taken_them() -> None:
    found = of_backups("redis", [], Installed(NOW - DAY, NOW))
    assert len(found) == 30
    assert {cell.state for day, cell in found.items() if day < TODAY - DAY} == {"not_yet"}


def test_a_kind_that_is_missing_is_told_though_others_make_up_the_number() -> None:
    at = datetime(2026, 11, 22, 0, 30, tzinfo=UTC)
    many = [backup("postgres", "incremental", at + timedelta(hours=hour)) for hour in range(9)]
    found = of_backups("postgres", many)[TODAY]
    assert found.state == "partly"
    assert found.said == "9 of 8 backups; no full and no logical one"


def test_a_schedule_that_has_not_ticked_yet_today_wants_nothing() -> None:
    early = datetime(2026, 11, 22, 1, 0, tzinfo=UTC)
    found = of_backups("redis", redis(TODAY - DAY, (0, 6, 12, 18)), now=early)
    assert (found[TODAY].state, found[TODAY].said) == ("not_yet", "none was due")
    assert found[TODAY - DAY].state == "good"


def test_where_nobody_knows_the_installation_the_days_before_are_unknown() -> None:
    found = of_backups("clickhouse", [], Installed(None, NOW - DAY))
    assert {cell.state for day, cell in found.items() if day < TODAY - DAY} == {"unknown"}
    assert found[TODAY].state == "bad"


def drill(day: date, *, ok: bool = True, way: str = "server", store: Any = "redis") -> DrillReport:
    at = datetime(day.year, day.month, day.day, 5, 30, tzinfo=UTC)
    return DrillReport("x", store, way, at, at, ok, rto_seconds=12.0, failed_phase=None if ok else "restore")


def of_drills(
    reports: list[DrillReport], *, whole: bool = True, installed: Installed = OLD
) -> dict[date, Cell]:
    found = days.of_drills("redis", reports, whole=whole, installed=installed, now=NOW)
    return {cell.day: cell for cell in found}


def test_drills_that_passed_failed_and_were_not_held() -> None:
    found = of_drills([drill(TODAY - 2 * DAY), drill(TODAY - DAY, ok=False)])
    assert (found[TODAY - 2 * DAY].state, found[TODAY - 2 * DAY].said) == ("good", "passed, back in 12 s")
    assert (found[TODAY - DAY].state, found[TODAY - DAY].said) == ("bad", "failed in restore")
    assert (found[TODAY].state, found[TODAY].said) == ("bad", "no drill")
    assert len(found) == 30


def test_of_drills_that_were_not_read_nothing_is_said() -> None:
    found = of_drills([drill(TODAY - 2 * DAY), drill(TODAY - DAY), drill(TODAY)], whole=False)
    assert sorted(found) == [TODAY - 2 * DAY, TODAY - DAY, TODAY]


def test_a_drill_is_due_once_there_can_be_a_backup() -> None:
    at = datetime(2026, 11, 22, 5, 0, tzinfo=UTC)  # half an hour before the drill, an hour before the backup
    found = of_drills([], installed=Installed(at, at))
    assert {cell.state for cell in found.values()} == {"not_yet"}


def mart(day: date, *, final: bool = True, verdict: str = "swapped", name: str = "a") -> MartDay:
    return MartDay(name, day, verdict, 1, final, NOW, 1, "r")


@pytest.mark.parametrize(
    ("states", "state"),
    [
        ([mart(TODAY - 3 * DAY), mart(TODAY - 3 * DAY, name="b")], "good"),
        ([mart(TODAY - 3 * DAY), mart(TODAY - 3 * DAY, name="b", final=False)], "partly"),
        ([mart(TODAY - 3 * DAY), mart(TODAY - 3 * DAY, name="b", verdict="refused")], "bad"),
        ([mart(TODAY - 3 * DAY, final=False)], "bad"),
        ([], "bad"),
    ],
)
def test_marts_of_a_day(states: list[MartDay], state: str) -> None:
    found = {cell.day: cell for cell in days.of_marts(("a", "b"), states, OLD, NOW)}
    assert found[TODAY - 3 * DAY].state == state
    assert found[TODAY].state == "not_yet"  # it is not over
    assert len(found) == 30


def test_marts_of_days_before_the_installation() -> None:
    new = Installed(NOW - 5 * DAY, NOW)
    found = {cell.day: cell for cell in days.of_marts(("a",), [mart(TODAY - 20 * DAY)], new, NOW)}
    assert found[TODAY - 20 * DAY].state == "good"  # it was built afterwards
    assert found[TODAY - 19 * DAY].state == "not_yet"
    assert found[TODAY - 3 * DAY].state == "bad"
    unsaid = Installed(None, NOW)
    found = {cell.day: cell for cell in days.of_marts(("a",), [], unsaid, NOW)}
    assert found[TODAY - 3 * DAY].state == "unknown"


@pytest.mark.parametrize(
    ("samples", "state"),
    [
        (Samples(kept=1440), "good"),
        (Samples(kept=1430, missed=10), "partly"),
        (Samples(kept=1300, missed=140), "bad"),
        (Samples(kept=1000, unknown=440), "partly"),  # nobody looked for some hours
        (Samples(kept=700), "partly"),
        (Samples(unknown=1440), "unknown"),
        (Samples(), "unknown"),
        (Samples(not_yet=30), "not_yet"),
        (Samples(not_yet=30, kept=1410), "good"),
    ],
)
def test_samples_of_a_day(samples: Samples, state: str) -> None:
    day = TODAY - DAY
    assert of_samples("search_lag", day, samples, since=NOW - 9 * DAY, now=NOW).state == state


def test_samples_of_a_day_that_has_begun() -> None:
    begun = NOW - timedelta(minutes=30)
    assert of_samples("x", TODAY, Samples(kept=29), since=begun, now=NOW).state == "good"
    assert of_samples("x", TODAY, Samples(kept=10), since=begun, now=NOW).state == "partly"


def test_thirty_days_end_today() -> None:
    found = last_days(NOW)
    assert (len(found), found[-1], found[0]) == (30, TODAY, TODAY - 29 * DAY)
