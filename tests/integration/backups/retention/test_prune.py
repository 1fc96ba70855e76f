"""Retention carried out on a real store: what went, what stayed, and what a kill leaves."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from bilten_orchestration.backups import assets, checks, lock
from bilten_orchestration.backups.copies import copy as copies
from bilten_orchestration.backups.repository.bucket import Listed, Repository
from bilten_orchestration.backups.repository.manifest import Manifest, WalRange, unseal
from bilten_orchestration.backups.repository.opened import Bucket
from bilten_orchestration.backups.retention import prune
from bilten_orchestration.backups.retention.prune import prune as run
from bilten_orchestration.backups.retention.prune import rules
from bilten_orchestration.errors import LockHeld, StoreUnavailable
from bilten_orchestration.local import ports
from bilten_orchestration.progress import Progress
from bilten_orchestration.stores.resources import Platform
from tests.integration.backups.command import Environment, bilten
from tests.integration.backups.depot import Depot
from tests.integration.backups.shop import Shop
from tests.kills import NEVER, killed_when_told

DAY = timedelta(days=1)
SEGMENT = 16 << 20
BOTH: tuple[Bucket, ...] = ("first", "copy")


def segment(number: int, end: int = SEGMENT) -> str:
    name = f"00000001{0:08X}{number:08X}.{end:08x}.20261121-00000000.{'0' * 32}.0.1"
    return f"wal/7563/16MB/00000001/{name}"


def history(depot: Depot) -> dict[str, Any]:
    """Forty days of full backups, two chains, WAL of ten segments; number 5 is where the window begins."""
    found: dict[str, Any] = {"old": [], "kept": []}
    for days in range(40, -1, -1):
        wal = WalRange(1, f"0/{(10 - days // 2) << 24:X}", f"0/{((10 - days // 2) << 24) + 4096:X}")
        values: dict[str, Any] = {
            "age": days * DAY + timedelta(hours=2),
            "objects": 1,
            "wal": wal if days <= 18 else None,
        }
        manifest = depot.add(**values)
        found["kept" if days < 30 else "old"].append(manifest)
        if days == 32:
            values["age"] = 31.5 * DAY
            found["child"] = depot.add(kind="incremental", parent=manifest.id, **values)
    for number in range(1, 11):
        depot.put(segment(number), b"w")
    depot.put(segment(9, 4096), b"w")
    return found


def everything(depot: Depot, bucket: Bucket = "first") -> list[str]:
    """But the journal."""
    return [name for name in depot.names(bucket) if not name.startswith("journal/")]


def test_a_preview_touches_nothing_and_gives_reasons(depot: Depot) -> None:
    found = history(depot)
    before = depot.names()
    report = run(depot.settings, by="a test")
    assert depot.names() == before
    assert not report.executed
    assert report.problems == ()
    assert report.backups_going == len(found["old"]) + 1
    lines = {line.name: line for line in report.lines if line.bucket == "first"}
    assert lines[found["old"][0].id].action == "expire"
    assert lines[found["old"][0].id].reason == "older than 30 days"
    assert lines[found["kept"][-1].id].action == "keep"
    assert (report.removed_objects, report.removed_bytes) == (0, 0)
    assert report.bytes_going > 0


def test_executed_it_leaves_what_was_said_and_a_journal(depot: Depot) -> None:
    found = history(depot)
    copies.copy(depot.settings)
    report = run(depot.settings, execute=True, by="a test")
    kept = [each.id for each in found["kept"]]
    assert depot.listed() == kept == depot.listed("copy")
    for bucket in BOTH:
        depot.assert_whole(bucket)
        left = depot.names(bucket)
        assert not [name for each in (*found["old"], found["child"]) for name in left if each.id in name]
    assert segment(9, 4096) in depot.names(), "it is too young to be replaced"
    assert report.removed_objects > 0
    (name,) = depot.names(prefix="journal/prune/")
    with depot.opened() as opened:
        journal = unseal(opened.repository.read_small(name), name, opened.ring, "prune")
    assert {each["name"] for each in journal["removed"] if each["subject"] == "backup"} == {
        each.id for each in (*found["old"], found["child"])
    }
    assert journal["by"] == "a test"

    again = run(depot.settings, execute=True, by="a test")
    assert (again.removed_objects, again.bytes_going) == (0, 0)
    assert depot.names(prefix="journal/prune/") == [name]
    assert copies.copy(depot.settings).copied_objects == 1, "the journal; nothing expired comes back"


def test_wal_before_the_window_goes(depot: Depot, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store cannot be told when an object was written: the listing says so in its place."""
    history(depot)
    ages = {segment(number): (10 - number) * 2 * DAY for number in range(1, 11)}
    listed = Repository.list

    def aged(self: Repository, prefix: str) -> Any:
        for each in listed(self, prefix):
            if each.name in ages:
                at = datetime.now(UTC) - ages[each.name]
                yield Listed(each.name, each.bytes, at)
            else:
                yield each

    monkeypatch.setattr(Repository, "list", aged)
    preview = run(depot.settings, by="a test")
    report = run(depot.settings, execute=True, by="a test")
    wal = depot.names(prefix="wal/")
    assert segment(10) in wal and segment(7) in wal
    assert segment(1) not in wal and segment(5) not in wal
    assert report.wal_objects_going == preview.wal_objects_going == 10 + 1 - len(wal)
    assert report.reach_minutes_lost > 1440
    lines = [line for line in report.lines if line.subject == "wal"]
    assert sum(line.number for line in lines) == 11


def test_journals_have_an_end(depot: Depot, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cases 15 and 16, in both buckets; ages are the listing's, and five days stand for 400."""
    within = replace(rules(), journal=5 * DAY)
    monkeypatch.setattr(prune, "rules", lambda *_: within)
    for days in range(12, -1, -1):
        depot.add(age=days * DAY + timedelta(hours=2), objects=0, store="redis")
    ages = {f"journal/prune/{days}-redis-first.json": days * DAY for days in (8, 9, 4, 1)}
    other = "journal/prune/500-clickhouse-first.json"
    for name in (*ages, other):
        depot.put(name, b"{}")
    copies.copy(depot.settings)
    listed = Repository.list

    def aged(self: Repository, prefix: str) -> Any:
        for each in listed(self, prefix):
            at = each.written_at - ages.get(each.name, 500 * DAY if each.name == other else 0 * DAY)
            yield Listed(each.name, each.bytes, at)

    monkeypatch.setattr(Repository, "list", aged)
    going = ["journal/prune/8-redis-first.json", "journal/prune/9-redis-first.json"]
    before = depot.names(prefix="journal/")
    preview = run(depot.settings, by="a test")
    assert depot.names(prefix="journal/") == before
    for bucket in BOTH:
        lines = {
            (line.case, line.action): line
            for line in preview.lines
            if (line.subject, line.bucket, line.store) == ("journal", bucket, "redis")
        }
        assert lines[16, "remove"].number == 2
        assert lines[16, "remove"].reason == "older than 5 days"
        assert lines[15, "keep"].number == 2
    run(depot.settings, execute=True, by="a test")
    for bucket in BOTH:
        left = depot.names(bucket, prefix="journal/prune/")
        assert not set(going) & set(left)
        assert {"journal/prune/4-redis-first.json", "journal/prune/1-redis-first.json"} <= set(left)
        assert other in left, "its store keeps backups for 90 days, and there were not as many of life"
    (told,) = [name for name in depot.names(prefix="journal/prune/") if name not in {*ages, other}]
    with depot.opened() as opened:
        body = unseal(opened.repository.read_small(told), told, opened.ring, "prune")
    assert going == [each["name"] for each in body["removed"] if each["subject"] == "journal"]


def test_what_killed_backups_left(depot: Depot, monkeypatch: pytest.MonkeyPatch) -> None:
    depot.add()
    left = depot.add(listed=False, age=3 * DAY)
    monkeypatch.setattr(Repository, "clock", lambda self: datetime.now(UTC))
    assert run(depot.settings, execute=True, by="a test").removed_objects == 0, "it may be under way"
    store = depot.settings.backups.model_copy(update={"orphan_grace_hours": 0})
    late = depot.settings.model_copy(update={"backups": store})
    assert run(late, execute=True, by="a test").removed_objects == 2
    assert not [name for name in depot.names() if left.id in name]
    depot.assert_whole()


def test_an_upload_that_was_never_completed(depot: Depot, monkeypatch: pytest.MonkeyPatch) -> None:
    depot.add()
    store = depot.settings.object_store
    with depot.opened() as opened:
        client = opened.repository._client
        client.create_multipart_upload(Bucket=store.bucket_backups, Key="objects/postgres/killed/000000")
        assert len(list(opened.repository.unfinished())) == 1
        run(depot.settings, execute=True, by="a test")
        assert len(list(opened.repository.unfinished())) == 1
        later = datetime.now(UTC) + timedelta(seconds=5)
        monkeypatch.setattr(Repository, "clock", lambda self: later)
        backups = depot.settings.backups.model_copy(update={"orphan_grace_hours": 0})
        run(depot.settings.model_copy(update={"backups": backups}), execute=True, by="a test")
        assert list(opened.repository.unfinished()) == []


def test_a_catalogue_that_cannot_be_believed_keeps_everything(depot: Depot) -> None:
    found = history(depot)
    name = f"catalogue/postgres/{found['kept'][3].id}/manifest.json"
    depot.put(name, depot.read(name).replace(b'"raw_bytes": 1000', b'"raw_bytes": 1001'))
    before = depot.names()
    report = run(depot.settings, execute=True, by="a test")
    assert [problem.what for problem in report.problems] == [
        f"nothing of postgres is removed from {depot.settings.object_store.bucket_backups}"
    ]
    assert depot.names() == before


def test_a_clock_that_differs_from_the_stores(depot: Depot, monkeypatch: pytest.MonkeyPatch) -> None:
    history(depot)
    before = depot.names()
    monkeypatch.setattr(Repository, "clock", lambda self: datetime.now(UTC) - timedelta(days=365))
    report = run(depot.settings, execute=True, by="a test")
    assert "do not agree on the time" in report.problems[0].what
    assert depot.names() == before


def test_never_beside_a_backup_or_a_copy(depot: Depot) -> None:
    history(depot)
    before = depot.names()
    with lock.held(depot.settings, "postgres", print), pytest.raises(LockHeld):
        run(depot.settings, execute=True, by="a test")
    assert depot.names() == before
    with lock.held(depot.settings, "copies", print), pytest.raises(LockHeld):
        run(depot.settings, execute=True, by="a test")
    assert len(depot.listed()) == 30, "the first bucket waits for no copy"


def test_a_drill_that_passes_meanwhile_saves_its_backup(
    depot: Depot, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = history(depot)
    saved: Manifest = found["old"][4]
    write_small = Repository.write_small

    def then_it_passed(self: Repository, name: str, body: bytes) -> Any:
        if name.startswith("journal/"):
            monkeypatch.undo()
            depot.mark(saved, "drilled")
        return write_small(self, name, body)

    monkeypatch.setattr(Repository, "write_small", then_it_passed)
    run(depot.settings, execute=True, by="a test")
    assert saved.id in depot.listed()
    depot.assert_whole()


def _killed(depot: Depot, at: int) -> None:
    """A run that is killed at its `at`-th write or removal."""
    left = at

    def counted(before: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object) -> object:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return before(*arguments)

        return call

    def counting(_: Progress) -> None:
        for name in ("remove", "write_small"):
            setattr(Repository, name, counted(getattr(Repository, name)))
        run(depot.settings, execute=True, by="killed")

    killed_when_told(counting, NEVER)


def _small(depot: Depot) -> list[Manifest]:
    """A chain that is to go, in both buckets, and a life after it."""
    full = depot.add(age=38 * DAY)
    depot.mark(full, "verified")
    child = depot.add(age=37.5 * DAY, kind="incremental", parent=full.id)
    later = [depot.add(age=days * DAY, objects=1) for days in range(37, 28, -1)]
    for days in range(28, 0, -1):
        depot.add(age=days * DAY, objects=1, kind="logical", wal=None)
    depot.mark(later[-1], "verified")
    depot.add(age=timedelta(hours=3))
    copies.copy(depot.settings)
    return [full, child, *later[:-1]]


def killed_and_run_again(depot: Depot, at: int) -> None:
    """Killed at the `at`-th write or removal, it lists whole backups alone; run again it ends as a run that
    was not killed."""
    going = _small(depot)
    wanted = [name for name in everything(depot) if not any(f"/{each.id}/" in name for each in going)]
    _killed(depot, at)
    for bucket in BOTH:
        depot.assert_whole(bucket)
    backups = depot.settings.backups.model_copy(update={"lock_wait_seconds": 30})
    report = run(depot.settings.model_copy(update={"backups": backups}), execute=True, by="a test")
    assert report.problems == ()
    for bucket in BOTH:
        assert everything(depot, bucket) == wanted
        depot.assert_whole(bucket)


# the journal, then of each backup: its mark, its manifest, its objects, the mark; then the other bucket
@pytest.mark.parametrize("at", [5, *(pytest.param(at, marks=pytest.mark.faults) for at in (3, 50))])
def test_killed_and_run_again_it_ends_as_if_it_had_not_been(depot: Depot, at: int) -> None:
    killed_and_run_again(depot, at)


def test_the_second_bucket_away(depot: Depot) -> None:
    """The first one is done; a preview says what it could not see."""
    history(depot)
    store = depot.settings.object_store.model_copy(
        update={"copy_endpoint_url": f"http://127.0.0.1:{ports.any_free()}"}
    )
    away = depot.settings.model_copy(update={"object_store": store})
    preview = run(away, by="a test")
    assert preview.backups_going == 12
    assert preview.problems
    with pytest.raises(StoreUnavailable):
        run(away, execute=True, by="a test")
    assert len(depot.listed()) == 30


def test_in_dagster(depot: Depot) -> None:
    history(depot)
    context, platform = dg.build_asset_check_context(), Platform(depot.settings)
    left = checks.nothing_expired_is_left(context, platform)
    assert isinstance(left, dg.AssetCheckResult)
    assert (left.passed, left.metadata["expired_backups"].value) == (False, 12)
    assert "bilten backup prune --execute" in str(left.description)
    result = dg.materialize([assets.retention], resources={"platform": Platform(depot.settings)})
    (event,) = result.asset_materializations_for_node("backups__retention")
    assert event.metadata["expired_backups"].value == 12
    assert len(depot.listed()) == 30
    gone = checks.nothing_expired_is_left(context, platform)
    assert isinstance(gone, dg.AssetCheckResult)
    assert gone.passed, gone.description


def test_the_command(shop: Shop, environment: Environment) -> None:
    depot = Depot(shop.settings)
    history(depot)
    shown = bilten(shop, environment, "backup", "prune")
    assert shown.returncode == 0, shown.stderr
    assert "older than 30 days" in shown.stdout and "--execute" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 80
    assert len(depot.listed()) == 42
    done = bilten(shop, environment, "backup", "prune", "--execute", "--json")
    assert json.loads(done.stdout)["result"]["executed"] is True
    assert len(depot.listed()) == 30
