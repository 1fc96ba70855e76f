"""A lost Redis is brought back: what is damaged, what goes on, and what another call may say of it."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from bilten_orchestration.backups.copies.copy import copy
from bilten_orchestration.backups.redis.dump import take
from bilten_orchestration.backups.repository import keys
from bilten_orchestration.backups.repository.bucket import Repository
from bilten_orchestration.backups.repository.manifest import Manifest
from bilten_orchestration.backups.repository.opened import BUCKETS, Opened
from bilten_orchestration.drills.listing import listed
from bilten_orchestration.drills.run import run
from bilten_orchestration.errors import Mismatch, Problem, Refused, UsageError
from bilten_orchestration.recovery import journal, site, site_files, site_phases, site_state
from bilten_orchestration.recovery.settled import SettledReport
from bilten_orchestration.recovery.site_plan import data_directory
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import object_store, postgres


class Servers(Exception):
    """Everything before the servers was done: no more is wanted here."""


@pytest.fixture
def away(here: Settings) -> Iterator[Settings]:
    """An empty machine with the key file."""
    home = here.home.parent / "another"
    home.mkdir(mode=0o755)
    keys.ensure(here.home / "backup-keys.json")
    shutil.copy(here.home / "backup-keys.json", home / "backup-keys.json")
    yield here.model_copy(update={"home": home})
    shutil.rmtree(home)


@pytest.fixture
def backups(here: Settings) -> tuple[Manifest, Manifest]:
    """Two, in both buckets; the newer one is damaged in the second."""
    whole, damaged = take(here).manifest, take(here).manifest
    copy(here)
    name = damaged.objects[0].name
    with Opened.of(here, new=False, bucket="copy") as opened:
        body = opened.repository.read_small(name)
        opened.repository.remove(name)
        opened.repository.write(name, [body[:-1] + bytes([body[-1] ^ 1])])
    return whole, damaged


def _recover(settings: Settings, lost: Any = ("redis",), **more: Any) -> Any:
    def start(_: Settings) -> Settings:
        raise Servers

    return site.recover(settings, lost, execute=True, start=start, **more)


def _state(settings: Settings) -> site_state.SiteState:
    state = site_state.read(settings)
    assert state is not None
    return state


def test_a_damaged_backup_blocks_nothing(backups: tuple[Manifest, Manifest], away: Settings) -> None:
    whole, _ = backups
    with pytest.raises(Mismatch, match="does not decrypt"):
        _recover(away)
    assert site_state.read(away) is None  # nothing was brought back: the next call may name what it likes
    with pytest.raises(UsageError, match="not brought back from one"):
        _recover(away, ("files",), named={"redis": whole.id})
    with pytest.raises(Refused, match="can be brought back from"):
        _recover(away, named={"redis": "nothing"})
    with pytest.raises(Servers):
        _recover(away, named={"redis": whole.id})
    assert _state(away).backups == {"redis": whole.id}
    assert (data_directory(away) / "redis" / "bilten_recover_site").read_text().endswith(whole.id)


def test_what_is_not_brought_back_yet_may_come_from_elsewhere(
    backups: tuple[Manifest, Manifest], away: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, damaged = backups
    state = site_state.new("copy", ("redis", "files"), {}, None)
    site_state.chosen(away, state, {"redis": damaged.id})  # as a kill leaves it
    with pytest.raises(Refused, match="postgres is none of its stores"):
        _recover(away, ("postgres", "redis"))
    with pytest.raises(Servers):
        _recover(away, None, bucket="first")
    state = _state(away)
    assert (state.bucket, state.lost, state.done) == ("first", ("redis", "files"), ("redis",))
    assert state.backups == {"redis": damaged.id}

    # what is back is not brought back again, and does not become another one by a word
    with pytest.raises(Refused) as told:
        _recover(away, ("files",), named={})
    assert "redis cannot be left out" in told.value.problems[0].what
    with pytest.raises(Refused, match="redis is brought back already"):
        _recover(away, None, named={"redis": whole.id})
    monkeypatch.setattr(site, "settle", lambda *_, **__: SettledReport(1, 1, True, (), None, None, ()))
    report = site.recover(away, ("redis",), execute=True, start=lambda settings: settings)
    assert report.problems == ()
    assert "files" not in report.done
    assert site_state.read(away) is None


def test_a_store_that_was_restored_and_not_written_down(
    backups: tuple[Manifest, Manifest], away: Settings
) -> None:
    whole, damaged = backups
    state = site_state.new("first", ("redis",), {}, None)
    state = site_state.chosen(away, state, {"redis": damaged.id})
    site_phases.redis(away, state, lambda _: None)
    directory = data_directory(away) / "redis"
    before = directory.stat().st_ino
    with pytest.raises(Servers):
        _recover(away, None)
    assert directory.stat().st_ino == before
    # another one is named meanwhile
    site_state.chosen(away, state, {"redis": damaged.id})
    with pytest.raises(Servers):
        _recover(away, None, named={"redis": whole.id})
    assert (directory / "bilten_recover_site").read_text().endswith(whole.id)


def test_documents_that_cannot_be_believed_are_no_obstacle(here: Settings, away: Settings) -> None:
    whole = take(here).manifest
    with Opened.of(here, new=False) as opened:
        opened.repository.write_small("catalogue/redis/20200101T000000Z-redis-full-dead/manifest.json", b"{}")
    found = site.recover(away, ("redis",), bucket="first", start=lambda settings: settings)
    assert found.problems == ()
    assert [each.backup_id for each in found.plan.stores] == [whole.id]
    [warning] = found.plan.warnings
    assert "is damaged or was altered" in warning.what
    assert site_state.read(away) is None


def test_the_series_of_drills_goes_on(
    here: Settings, away: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(here)
    walked = len(run(here, "redis"))
    with Opened.of(here, new=False) as opened:
        journal.begin(opened, uuid4(), {"what": "test"})
    copy(here)
    new = f"{here.object_store.bucket_backups}-new"
    away = away.model_copy(
        update={"object_store": here.object_store.model_copy(update={"bucket_backups": new})}
    )
    monkeypatch.setattr(site, "settle", lambda *_, **__: SettledReport(1, 1, True, (), None, None, ()))
    recovered = partial(site.recover, away, ("files",), execute=True, start=lambda settings: settings)
    monkeypatch.setattr(site_phases, "files", lambda *_: ())
    # the bucket is not there yet: that is no reason not to go on, and none to be silent
    assert ["not back in the first bucket" in each.what for each in recovered().problems] == [True]
    client = object_store.connect(here.object_store)
    client.create_bucket(Bucket=new)
    client.close()
    assert recovered().problems == ()
    with Opened.of(away, new=False) as opened:
        assert [each.body["what"] for each in journal.read(opened)] == ["test", "site"]
    take(away)
    walked += len(run(away, "redis"))
    copy(away)
    for bucket in BUCKETS:
        listed_there = listed(away, "redis", whole=True, bucket=bucket)
        assert (listed_there.problems, len(listed_there.drills)) == ((), walked)


def test_a_damaged_copy_of_a_file_never_lies_under_its_key(
    here: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, contents = here.object_store.bucket_assets, {"good": b"a poster", "bad": b"a logo", "none": b""}
    keys.ensure(here.home / "backup-keys.json")
    with (
        Opened.of(here, new=False, bucket="copy") as opened,
        postgres.connect(here.postgres) as connection,
    ):
        for key, body in contents.items():
            digest = hashlib.sha256(body).hexdigest()
            stored = body if key != "bad" else b"A logo"
            opened.repository.write_small(f"assets/{digest[:2]}/{digest}", stored)
            connection.execute(
                "insert into assets.files (owner_type, owner_id, bucket, object_key, sha256, size)"
                " values ('event', gen_random_uuid(), %s, %s, %s, %s)",
                (bucket, key, digest, len(body)),
            )

    def killed(*_: Any) -> None:
        raise AssertionError("what is not put is not removed")

    monkeypatch.setattr(Repository, "remove", killed)
    report = site_files.copy_back(here, lambda _: None)
    assert (report.copied, report.present, report.missing) == (2, 0, 1)
    assert [f"{bucket}/bad does not come back" in each.what for each in report.problems] == [True]
    client = object_store.connect(here.object_store)
    lying = {each["Key"] for each in client.list_objects_v2(Bucket=bucket).get("Contents", [])}
    client.close()
    assert lying == {"good", "none"}


def test_files_that_are_missing_are_told_again(
    here: Settings, away: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    problems = [Problem("the copy of bilten-assets/posters/one is damaged", "x", "y", "z")]
    monkeypatch.setattr(site_phases, "files", lambda *_: tuple(problems))
    monkeypatch.setattr(site, "settle", lambda *_, **__: SettledReport(1, 1, True, (), None, None, ()))

    def recovered(lost: Any = None) -> site.SiteReport:
        return site.recover(away, lost, execute=True, start=lambda settings: settings)

    for lost in (("files",), None):
        assert [each.what for each in recovered(lost).problems] == [problems[0].what]
        assert _state(away).done == ("servers",)
    problems.clear()
    assert recovered().problems == ()
    assert site_state.read(away) is None
