"""What counts as the newest backup of a schedule, and what does not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from bilten_orchestration.backups import plan
from bilten_orchestration.backups.recency import judge
from bilten_orchestration.backups.repository.catalogue import Backup, Catalogue
from bilten_orchestration.backups.repository.manifest import Manifest, Mark

NOW = datetime(2026, 11, 21, 8, tzinfo=UTC)
DAILY, EVERY_FOUR_HOURS = plan.find("postgres", "full"), plan.find("postgres", "incremental")
FULL = Manifest(
    id="full",
    store="postgres",
    kind="full",
    source="7563",
    started_at=NOW - timedelta(hours=6),
    finished_at=NOW - timedelta(hours=5),
    raw_bytes=1,
    codec="zstd",
    objects=(),
    key_id="k",
    versions={"postgres": "18.0"},
)
CHILD = replace(FULL, id="child", kind="incremental", parent="full", started_at=NOW - timedelta(hours=2))


def expired(manifest: Manifest) -> Backup:
    return Backup(manifest, (Mark(manifest.id, "expired", NOW, "retention"),))


def catalogue(*backups: Backup) -> Catalogue:
    return Catalogue(backups, ())


def test_the_newest_that_satisfies_the_schedule() -> None:
    found = catalogue(Backup(FULL), Backup(CHILD))
    assert judge(found, EVERY_FOUR_HOURS, NOW).age == timedelta(hours=2)
    assert judge(found, DAILY, NOW).age == timedelta(hours=6)
    assert judge(found, DAILY, NOW).said == judge(found, EVERY_FOUR_HOURS, NOW).said == ""
    late = judge(found, EVERY_FOUR_HOURS, NOW + timedelta(hours=5))
    assert late.said.startswith("the newest began 7 hours ago, expected within 6 hours; next: bilten backup")
    assert judge(catalogue(), DAILY, NOW).said.startswith("there is no such backup; next: bilten backup")


def test_a_full_one_satisfies_the_schedule_of_incrementals_and_not_the_other_way_round() -> None:
    assert judge(catalogue(Backup(FULL)), EVERY_FOUR_HOURS, NOW).backups == 1
    assert judge(catalogue(Backup(CHILD)), DAILY, NOW).age is None


@pytest.mark.parametrize("parent", [(), (expired(FULL),)])
def test_one_without_what_it_builds_on_is_none(parent: tuple[Backup, ...]) -> None:
    found = judge(catalogue(*parent, Backup(CHILD)), EVERY_FOUR_HOURS, NOW)
    assert (found.age, found.broken) == (None, 1)
    assert found.said.startswith("none, and 1 without what they build on, expected within 6 hours")


def test_an_expired_one_is_none() -> None:
    assert judge(catalogue(expired(FULL)), DAILY, NOW).age is None


def test_one_of_a_clock_that_was_ahead_is_no_reserve_of_a_year() -> None:
    ahead = replace(FULL, id="ahead", started_at=NOW + timedelta(days=365))
    alone = judge(catalogue(Backup(ahead)), DAILY, NOW)
    assert (alone.age, alone.ahead) == (None, 1)
    assert "1 dated ahead of now (see the clocks)" in alone.said
    old = replace(FULL, id="old", started_at=NOW - timedelta(days=3))
    assert judge(catalogue(Backup(old), Backup(ahead)), DAILY, NOW).said.startswith(
        "the newest began 72 hours"
    )
    good = judge(catalogue(Backup(FULL), Backup(ahead)), DAILY, NOW)
    assert (good.age, good.said) == (timedelta(hours=6), "")
    # clocks of two machines
    step = replace(FULL, started_at=NOW + timedelta(minutes=5))
    assert judge(catalogue(Backup(step)), DAILY, NOW).age == timedelta()
