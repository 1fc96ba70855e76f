"""What stays and what goes; the numbers are those of retention/rules.py."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bilten_orchestration.backups.repository.bucket import Listed
from bilten_orchestration.backups.repository.catalogue import Backup
from bilten_orchestration.backups.repository.manifest import Manifest, Mark, WalRange
from bilten_orchestration.backups.retention.orphans import order, orphans
from bilten_orchestration.backups.retention.replayable import minutes
from bilten_orchestration.backups.retention.rules import (
    Decision,
    Rules,
    WalObject,
    chain_first,
    decide,
    decide_journals,
)

NOW = datetime(2026, 11, 21, 6, tzinfo=UTC)
SEGMENT = 16 << 20
DAY = timedelta(days=1)
KEPT = {
    ("postgres", "full"): 30 * DAY,
    ("postgres", "incremental"): 7 * DAY,
    ("postgres", "logical"): 30 * DAY,
    ("redis", "full"): 3 * DAY,
    ("clickhouse", "full"): 90 * DAY,
    ("clickhouse", "incremental"): 90 * DAY,
}
RULES = Rules(KEPT)


def backup(days: float, **changed: Any) -> Backup:
    """Taken so many days ago; `marks` by name."""
    started_at = NOW - days * DAY
    marks = changed.pop("marks", ())
    store, kind = changed.get("store", "postgres"), changed.get("kind", "full")
    manifest = Manifest(
        **{
            "id": f"{store}-{kind}-{days}",
            "store": store,
            "kind": kind,
            "source": "1",
            "started_at": started_at,
            "finished_at": started_at + timedelta(minutes=5),
            "raw_bytes": 1,
            "codec": "zstd",
            "objects": (),
            "key_id": "k",
            "versions": {},
            "wal": at(days) if store == "postgres" and kind != "logical" else None,
            **changed,
        }
    )
    return Backup(manifest, tuple(Mark(manifest.id, name, NOW, "") for name in marks))


def at(days: float, timeline: int = 1) -> WalRange:
    """A segment an hour: the one that was written so many days ago."""
    number = 10_000 - int(days * 24)
    return WalRange(timeline, lsn(number, 40), lsn(number, 400))


def lsn(number: int, offset: int) -> str:
    position = number * SEGMENT + offset
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"


def wal(days: float, timeline: int = 1, end: int = SEGMENT, source: str = "1", kind: str = "") -> WalObject:
    number = 10_000 - int(days * 24)
    segment = f"{timeline:08X}{number // 256:08X}{number % 256:08X}"
    name = f"wal/{source}/{timeline:08X}/{segment}.{end}.k{kind}"
    return WalObject(timeline, segment, end, name, 1, NOW - days * DAY)


def hours(newest: float, oldest: float, timeline: int = 1) -> list[WalObject]:
    return [wal(number / 24, timeline) for number in range(int(newest * 24), int(oldest * 24))]


def daily(days: int, **changed: Any) -> list[Backup]:
    return [backup(number + 0.17, **changed) for number in range(days)]


def decided(
    backups: list[Backup], pieces: list[WalObject] | None = None, **changed: Any
) -> dict[str, Decision]:
    values = {"rules": RULES, "now": NOW, "store_clock": NOW, **changed}
    return {each.name: each for each in decide(backups, pieces or [], **values)}


def gone(found: dict[str, Decision]) -> set[str]:
    return {name for name, each in found.items() if each.goes}


@pytest.mark.parametrize("apart", [timedelta(days=365), -timedelta(hours=1)])
def test_1_two_clocks_that_differ(apart: timedelta) -> None:
    found = decided([*daily(40)], hours(0, 20), now=NOW + apart)
    assert {each.case for each in found.values()} == {1}
    assert gone(found) == set()


@pytest.mark.parametrize("taken_since", [False, True])
def test_both_clocks_a_year_ahead(taken_since: bool) -> None:
    """The embedded store shares this machine's clock: then the time without a sign of life counts little."""
    later = NOW + timedelta(days=365)
    backups = daily(29)
    if taken_since:
        backups.append(backup(-364.9))
    assert gone(decided(backups, hours(0, 7), now=later, store_clock=later)) == set()


def test_weeks_without_backups_make_nothing_old() -> None:
    backups = [backup(number + 21) for number in range(25)]
    assert gone(decided(backups)) == set()


def test_a_backup_dated_in_the_future_makes_nothing_old() -> None:
    assert gone(decided([*daily(29), backup(-300)])) == set()


def test_1_a_store_that_is_silent_keeps_everything() -> None:
    """While others live on."""
    silent = [backup(number + 3, store="redis") for number in range(20)]
    found = decided([*silent, *daily(40)])
    assert gone(found) == {each.manifest.id for each in daily(40)[30:]}
    assert {found[each.manifest.id].case for each in silent} == {1}


def test_an_empty_listing() -> None:
    found = decided([], hours(0, 400))
    assert gone(found) == set()
    assert {each.case for each in found.values()} == {9}


def test_2_a_kind_that_nobody_gave_a_time() -> None:
    found = decided([*daily(60, store="redis")], rules=Rules({}))
    assert {each.case for each in found.values()} == {2}


@pytest.mark.parametrize(
    ("store", "kind", "kept"), [(store, kind, kept) for (store, kind), kept in KEPT.items()]
)
def test_3_and_7_by_age(store: str, kind: str, kept: timedelta) -> None:
    backups = daily(120, store=store, kind=kind, wal=None)
    found = decided(backups)
    days = kept // DAY
    assert gone(found) == {each.manifest.id for each in backups[days:]}
    assert all(each.case == 7 for each in found.values() if each.goes)
    assert f"{days} days" in found[backups[-1].manifest.id].reason


@pytest.mark.parametrize("mark", ["verified", "drilled"])
def test_4_the_last_good_one(mark: str) -> None:
    """However old, beside the newest."""
    backups = [backup(each) for each in range(40, 120)]
    backups[30] = replace(backups[30], marks=(Mark(backups[30].manifest.id, mark, NOW, ""),))  # type: ignore[arg-type]
    backups[50] = replace(backups[50], marks=(Mark(backups[50].manifest.id, mark, NOW, ""),))  # type: ignore[arg-type]
    life = daily(45, kind="logical")
    found = decided([*life, *backups])
    stay = {name for name, each in found.items() if each.case == 4 and not each.goes}
    assert stay == {backups[0].manifest.id, backups[30].manifest.id}
    assert {each.manifest.id for each in backups} - stay == gone(found) - {each.manifest.id for each in life}


def test_4_each_family_has_its_own() -> None:
    old = [backup(50), backup(60, kind="logical")]
    others = [*daily(80, kind="incremental", parent="elsewhere")]
    assert gone(decided([*old, *others])) == {each.manifest.id for each in others[7:]}


def test_4_one_whose_parent_is_lost_is_no_good_one() -> None:
    whole, orphan = backup(60), backup(40, kind="incremental", parent="lost")
    found = decided([whole, orphan, *daily(40, kind="logical")])
    assert found[whole.manifest.id].case == 4
    assert found[orphan.manifest.id].goes


def test_5_the_newest_before_the_window_and_all_inside() -> None:
    rules = Rules({("postgres", "full"): DAY, ("postgres", "incremental"): DAY})
    backups = daily(20)
    found = decided(backups, hours(0, 20), rules=rules)
    kept = [each for each in backups if not found[each.manifest.id].goes]
    assert kept == backups[:8]
    assert found[backups[7].manifest.id].case == 5
    assert "PITR to any time since 2026-11-14" in found[backups[7].manifest.id].reason


def test_5_without_wal_nothing_before_the_window_is_needed() -> None:
    rules = Rules({("postgres", "full"): DAY})
    backups = daily(20)
    assert len(backups) - len(gone(decided(backups, rules=rules))) == 7


def test_5_after_a_promotion_the_old_timeline_serves_until_the_new_one_has_its_own() -> None:
    rules = Rules({("postgres", "full"): DAY})
    old = [backup(each) for each in (12, 10, 9)]
    new = backup(3, wal=at(3, 2))
    pieces = [*hours(5, 12), *hours(0, 5, 2)]
    found = decided([*old, new], pieces, rules=rules)
    assert gone(found) == {
        old[0].manifest.id,
        old[1].manifest.id,
        *(each.name for each in pieces if each.written_at < NOW - timedelta(days=9, hours=0.5)),
    }


def test_5_a_restore_to_an_earlier_point_needs_the_backup_before_it() -> None:
    """Timeline 2 left timeline 1 before the newest backup of that, and has none of its own."""
    rules = Rules({("postgres", "full"): DAY})
    earlier, later = backup(10), backup(8)
    branched = [replace(wal(9, 2), written_at=NOW - each * DAY) for each in (6,)]
    life = daily(9, kind="logical")
    found = decided([earlier, later, *life], [*hours(7.5, 10), *branched], rules=rules)
    assert found[earlier.manifest.id].case == 5


def test_6_a_full_backup_with_living_incrementals() -> None:
    full = backup(36)
    child = backup(2, kind="incremental", parent=full.manifest.id)
    found = decided([full, child, *daily(40, kind="logical")])
    assert found[full.manifest.id].case == 6
    assert child.manifest.id in found[full.manifest.id].reason
    clickhouse = backup(95, store="clickhouse", wal=None)
    build = backup(89, store="clickhouse", kind="incremental", parent=clickhouse.manifest.id, wal=None)
    newer = daily(100, store="clickhouse", wal=None)
    found = decided([clickhouse, build, *newer])
    assert found[clickhouse.manifest.id].case == 6


def test_8_parts_of_which_there_is_more() -> None:
    parts = [wal(1, end=end, kind=str(end)) for end in (100, 5000, SEGMENT)]
    fresh = [
        replace(wal(2, end=100), written_at=NOW - timedelta(minutes=2)),
        replace(wal(2, end=200), written_at=NOW - timedelta(minutes=1)),
    ]
    found = decided(daily(3), [*parts, *fresh])
    assert gone(found) == {parts[0].name, parts[1].name}
    assert {found[name].case for name in gone(found)} == {8}


def test_9_wal_of_a_server_without_a_backup() -> None:
    living, dead = wal(3, source="2"), wal(50, source="3")
    found = decided(daily(60), [living, dead])
    assert not found[living.name].goes
    assert found[dead.name].goes
    assert found[dead.name].case == found[living.name].case == 9


def test_10_and_11_wal_without_a_gap_from_the_oldest_start() -> None:
    backups, pieces = daily(40), hours(0, 40)
    found = decided(backups, pieces)
    kept = [each for each in pieces if not found[each.name].goes]
    assert kept == pieces[: len(kept)]
    anchor = backups[7].manifest
    assert abs(kept[-1].written_at - anchor.started_at) < timedelta(hours=1)
    assert {found[each.name].case for each in kept} == {10}
    assert {found[each.name].case for each in pieces[len(kept) :]} == {11}


def test_those_that_build_on_others_go_first() -> None:
    full = backup(50)
    children = [backup(49, kind="incremental", parent=full.manifest.id)]
    backups = [full, *children, *daily(45)]
    found = decide(backups, [], RULES, NOW, NOW)
    names = [each.name for each in chain_first(found, {each.manifest.id: each.manifest for each in backups})]
    assert names.index(children[0].manifest.id) < names.index(full.manifest.id)


def test_the_minutes_that_are_lost() -> None:
    backups, pieces = [backup(9), backup(3)], hours(0, 9.1)
    manifests = [each.manifest for each in backups]
    whole = minutes(manifests, pieces, SEGMENT)
    assert whole == pytest.approx(9 * 1440 - 5, abs=61)
    without = minutes(manifests[1:], pieces, SEGMENT)
    assert without == pytest.approx(3 * 1440 - 5, abs=61)
    gap = [each for each in pieces if each.segment != wal(8).segment]
    assert minutes(manifests, gap, SEGMENT) == pytest.approx(4 * 1440, abs=75)
    promoted = [*hours(1, 9.1), *hours(0, 1, 2)]
    assert minutes(manifests, promoted, SEGMENT) == pytest.approx(whole, abs=61)


def _listed(name: str, hours_ago: float) -> Listed:
    return Listed(name, 10, NOW - timedelta(hours=hours_ago))


def test_12_to_14_what_belongs_to_no_backup() -> None:
    listing = [
        _listed("objects/postgres/listed/000000", 900),
        _listed("catalogue/postgres/listed/manifest.json", 900),
        _listed("objects/postgres/running/000000", 60),
        _listed("objects/postgres/running/000001", 1),
        _listed("objects/postgres/killed/000000", 60),
        _listed("catalogue/postgres/killed/verified-1.json", 60),
        _listed("catalogue/postgres/pruned/expired-1.json", 1),
        _listed("catalogue/postgres/pruned/drilled-1.json", 60),
        _listed("objects/postgres/pruned/000000", 60),
    ]
    found = {each.backup: each for each in orphans(listing, {"listed"}, {"pruned"}, NOW, timedelta(hours=48))}
    assert {name: (each.goes, each.case) for name, each in found.items()} == {
        "running": (False, 12),
        "killed": (True, 13),
        "pruned": (True, 14),
    }
    assert found["pruned"].names == (
        "objects/postgres/pruned/000000",
        "catalogue/postgres/pruned/drilled-1.json",
        "catalogue/postgres/pruned/expired-1.json",
    )
    assert order("catalogue/a/b/manifest.json") < order("objects/a/b/0")


def test_15_and_16_journals() -> None:
    journals = [
        Listed(f"journal/prune/{days:03}-{store}-first.json", 10, NOW - days * DAY)
        for days in range(500)
        for store in ("redis", "postgres")
    ]

    def of(rules: Rules = RULES, now: datetime = NOW, clock: datetime = NOW) -> dict[str, Decision]:
        said = decide_journals("redis", journals, [backup(0, store="redis")], rules, now, clock)
        return {each.name: each for each in said}

    found = of()
    assert len(found) == 500, "those of the store alone"
    assert gone(found) == {name for name in found if int(name.split("/")[2][:3]) >= 400}
    assert {each.case for each in found.values()} == {15, 16}
    longer = replace(RULES, kept={**KEPT, ("redis", "full"): 450 * DAY})
    assert gone(of(longer)) == {name for name in found if int(name.split("/")[2][:3]) >= 450}
    assert gone(of(clock=NOW + DAY)) == set(), "clocks that differ"
    assert gone(of(now=NOW + 365 * DAY, clock=NOW + 365 * DAY)) == set(), "no sign of life for a year"
