"""The second bucket, on a real store: complete, never ahead of itself, never overwritten."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from bilten_orchestration.backups import assets, checks
from bilten_orchestration.backups.copies import copy as copies
from bilten_orchestration.backups.copies.plan import RUN_EVERY, Reread
from bilten_orchestration.backups.postgres.base import take
from bilten_orchestration.backups.postgres.restore import restore
from bilten_orchestration.backups.postgres.targets import Target
from bilten_orchestration.backups.repository.bucket import Repository
from bilten_orchestration.backups.verify import verify
from bilten_orchestration.errors import LockHeld, StoreUnavailable
from bilten_orchestration.local import ports
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import object_store, postgres
from bilten_orchestration.stores.resources import Platform
from tests import stack
from tests.conftest import Servers
from tests.integration.backups import troubled_store
from tests.integration.backups.command import Environment, bilten
from tests.integration.backups.depot import Depot
from tests.integration.backups.shop import DIGEST, Shop

BIG = 40 << 20


def test_everything_is_copied_once(depot: Depot) -> None:
    full = depot.add(objects=3)
    incremental = depot.add(kind="incremental", parent=full.id, age=timedelta(minutes=30))
    depot.add(objects=1, size=BIG)  # in parts
    depot.mark(full, "verified")
    depot.put("wal/7563/00000001/000000010000000000000002.16777216.k.s.16777216", b"WAL" * 1000)
    depot.put("audits/postgres/1.json", b"{}")
    unlisted = depot.add(listed=False)

    report = copies.copy(depot.settings)
    assert report.problems == ()
    assert report.copied_objects == 3 + 2 + 1 + 3 + 1 + 2
    assert (report.lag.objects, report.lag.seconds) == (0, 0)
    depot.assert_whole("copy")
    assert depot.listed("copy") == depot.listed()
    left_out = {f"objects/postgres/{unlisted.id}/{number:06}" for number in range(2)}
    assert set(depot.names()) - set(depot.names("copy")) == left_out
    for name in depot.names("copy"):
        assert depot.read(name, "copy") == depot.read(name)

    again = copies.copy(depot.settings)
    assert (again.copied_objects, again.present_objects) == (0, report.copied_objects)
    deep = copies.copy(depot.settings, deep=True)
    assert (deep.reread_objects, deep.problems) == (report.copied_objects, ())
    assert incremental.id in copies.copied(depot.settings)


@pytest.mark.parametrize("same", [True, False])
def test_what_another_one_brings_between_the_listing_and_the_copy(depot: Depot, same: bool) -> None:
    """As the stream of WAL does, which writes to both buckets."""
    name = "wal/7563/00000001/000000010000000000000002.16777216.k.s.16777216"
    depot.put(name, b"WAL" * 1000)
    brought: list[str] = []

    def bring(text: str) -> None:
        if "objects to copy" in text:
            depot.put(name, (b"WAL" if same else b"LAW") * 1000, "copy")
            brought.append(text)

    report = copies.copy(depot.settings, progress=bring)
    assert len(brought) == 1
    assert (report.problems == (), report.lag.objects) == (same, 0 if same else 1)


def test_a_damaged_object_is_not_copied_and_its_backup_not_listed(depot: Depot) -> None:
    good, bad = depot.add(age=timedelta(hours=3)), depot.add(age=timedelta(hours=2))
    child = depot.add(kind="incremental", parent=bad.id)
    name = bad.objects[1].name
    body = bytearray(depot.read(name))
    body[500] ^= 1
    depot.put(name, bytes(body))
    report = copies.copy(depot.settings)
    assert [problem.what.split("/", 1)[1] for problem in report.problems] == [
        f"{name} is damaged, and was not copied"
    ]
    assert depot.listed("copy") == [good.id]
    assert name not in depot.names("copy")
    assert report.lag.objects == 3, "the object and two manifests, for an incremental needs its parent's"
    assert child.objects[0].name in depot.names("copy")


@pytest.mark.parametrize("size", [999, 1000])
def test_other_bytes_in_the_copy_are_told_and_stay(depot: Depot, size: int) -> None:
    """Another size is seen in the listing, the same size by reading again."""
    manifest = depot.add(listed=True)
    name = manifest.objects[0].name
    depot.put(name, b"o" * size, "copy")
    report = copies.copy(depot.settings, deep=size == 1000)
    assert [problem.what for problem in report.problems] == [
        f"the second bucket has another {name} than the first"
    ]
    assert depot.read(name, "copy") == b"o" * size


def test_what_was_lost_in_the_copy_is_copied_again(depot: Depot) -> None:
    manifest = depot.add()
    copies.copy(depot.settings)
    depot.remove(manifest.objects[1].name, "copy")
    lag = copies.examine(depot.settings).lag(datetime.now(UTC) + timedelta(hours=1))
    assert (lag.objects, lag.bytes) == (1, manifest.objects[1].bytes)
    assert 3600 <= lag.seconds < 3600 + 60, "since the object was written"
    assert copies.copy(depot.settings).copied_objects == 1
    depot.assert_whole("copy")


def test_what_is_expired_is_not_copied(depot: Depot) -> None:
    old, new = depot.add(age=timedelta(days=40)), depot.add()
    depot.mark(old, "expired")
    report = copies.copy(depot.settings)
    assert depot.listed("copy") == [new.id]
    assert report.lag.objects == 0


KILLED = """
import os, signal, sys
from bilten_orchestration.backups.copies import copy as copies
from bilten_orchestration.backups.repository.bucket import Repository
from bilten_orchestration.settings.loading import load_settings
left = int(sys.argv[1])
def counted(before):
    def call(self, name, *rest):
        global left
        if self.bucket.endswith("copy"):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return before(self, name, *rest)
    return call
for name in ("write", "write_small"):
    setattr(Repository, name, counted(getattr(Repository, name)))
copies.copy(load_settings())
"""


@pytest.mark.parametrize("at", [4, *(pytest.param(at, marks=pytest.mark.faults) for at in (2, 5, 7))])
def test_a_killed_run_lists_nothing_incomplete_and_the_next_one_goes_on(
    depot: Depot, environment: Callable[[Settings], dict[str, str]], at: int
) -> None:
    full = depot.add(age=timedelta(hours=2))
    depot.mark(full, "verified")
    depot.add(kind="incremental", parent=full.id)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(at)],
        env=environment(depot.settings) | {"PYTHONPATH": str(Path(__file__).parents[4])},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    depot.assert_whole("copy")
    there = depot.names("copy")
    assert len(there) < 7
    patient = depot.settings.model_copy(
        update={"backups": depot.settings.backups.model_copy(update={"lock_wait_seconds": 30})}
    )
    report = copies.copy(patient)
    assert report.copied_objects == 7 - len(there), "what was there is not copied again"
    assert depot.names("copy") == depot.names()
    depot.assert_whole("copy")


@pytest.fixture
def second(depot: Depot, servers: Servers) -> Iterator[stack.Server]:
    """Another address, other keys; the depot's settings name it."""
    server, theirs = stack.start_object_store(servers.base, f"second-{next(servers.numbers)}")
    store = depot.settings.object_store.model_copy(
        update={
            "bucket_backups_copy": theirs.bucket_backups_copy,
            "copy_endpoint_url": theirs.endpoint_url,
            "copy_access_key_id": theirs.access_key_id,
            "copy_secret_access_key": theirs.secret_access_key,
        }
    )
    depot.settings = depot.settings.model_copy(update={"object_store": store})
    yield server
    server.kill()


def test_a_second_store_of_its_own(depot: Depot, second: stack.Server) -> None:
    """Away, it is a passing trouble, and the first bucket is what it was."""
    manifest = depot.add()
    assert copies.copy(depot.settings).problems == ()
    depot.assert_whole("copy")
    assert len(depot.names("copy")) == 3
    second.kill()
    with pytest.raises(StoreUnavailable):
        copies.copy(depot.settings)
    assert depot.listed() == [manifest.id]


@pytest.mark.faults
def test_a_second_store_that_dies_in_the_middle(
    depot: Depot, second: stack.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    depot.add(age=timedelta(hours=2))
    depot.add(objects=1, size=BIG)
    depot.add(age=timedelta(minutes=5), objects=4)
    read = Repository.read

    def until_it_dies(self: Repository, name: str) -> Iterator[bytes]:
        for number, chunk in enumerate(read(self, name)):
            if number == 20:
                second.kill()
            yield chunk

    monkeypatch.setattr(Repository, "read", until_it_dies)
    with pytest.raises(StoreUnavailable):
        copies.copy(depot.settings)
    monkeypatch.undo()
    second.start()
    depot.assert_whole("copy")
    assert len(depot.listed("copy")) == 1
    assert copies.copy(depot.settings).problems == ()
    assert depot.names("copy") == depot.names()
    depot.assert_whole("copy")


@pytest.mark.parametrize("size", [1 << 20, pytest.param(BIG, marks=pytest.mark.faults)])
def test_bytes_changed_on_the_way_never_become_an_object(depot: Depot, size: int) -> None:
    """The store compares digests of what it was sent: a present object needs no second reading."""
    store = depot.settings.object_store
    direct = depot.settings
    depot.add(objects=1, size=size)
    with troubled_store.before(store) as troubled:
        through = store.model_copy(update={"copy_endpoint_url": troubled.address})
        depot.settings = direct.model_copy(update={"object_store": through})
        troubled.flips(size // 16)  # within one part of an upload
        # the upload is given up with its bad part, and another part may be the first to hear of it
        with pytest.raises(StoreUnavailable, match=r"BadDigest|NoSuchUpload"):
            copies.copy(depot.settings)
        assert depot.listed("copy") == []
        assert depot.names("copy", "objects/") == []
        assert copies.copy(depot.settings).problems == ()
        assert troubled.flipped == 1
    depot.settings = direct
    depot.assert_whole("copy")


def test_two_at_once(depot: Depot) -> None:
    from bilten_orchestration.backups import lock

    depot.add()
    with lock.held(depot.settings, "copies", print), pytest.raises(LockHeld):
        copies.copy(depot.settings)
    assert depot.names("copy") == []


def test_an_object_is_read_again_once_in_so_many_days() -> None:
    began = datetime(2026, 11, 1, tzinfo=UTC)
    names = [f"objects/{number}" for number in range(300)]
    runs = [Reread(3, began + number * RUN_EVERY) for number in range(3 * 48)]
    seen = [name for run in runs for name in names if run.due(name)]
    assert sorted(seen) == sorted(names)
    assert max(sum(run.due(name) for name in names) for run in runs) < 20
    assert not any(Reread(0, began).due(name) for name in names)


def _file(settings: Settings, key: str, body: bytes, *, said: bytes | None = None, put: bool = True) -> None:
    if put:
        client = object_store.connect(settings.object_store)
        client.put_object(Bucket=settings.object_store.bucket_assets, Key=key, Body=body)
        client.close()
    told = body if said is None else said
    with postgres.connect(settings.postgres) as connection:
        connection.execute(
            "insert into assets.files (owner_type, owner_id, bucket, object_key, sha256, size, created_at,"
            " updated_at) values ('event', gen_random_uuid(), %s, %s, %s, %s, now() - interval '1 hour',"
            " now() - interval '1 hour')",
            (settings.object_store.bucket_assets, key, hashlib.sha256(told).hexdigest(), len(told)),
        )


def test_the_applications_files(settings: Settings) -> None:
    depot = Depot(settings)
    _file(settings, "events/1/poster.svg", b"poster")
    _file(settings, "events/2/poster.svg", b"poster")  # the same content is copied once
    _file(settings, "events/ä 3/poster.svg", b"plakat")
    _file(settings, "users/1/empty.txt", b"")
    report = copies.copy(settings)
    assert report.problems == ()
    assert report.files is not None
    assert (report.files.files, report.files.copied_objects) == (4, 3)
    name = f"assets/{hashlib.sha256(b'poster').hexdigest()[:2]}/{hashlib.sha256(b'poster').hexdigest()}"
    assert depot.read(name, "copy") == b"poster"

    _file(settings, "events/4/missing.svg", b"gone", put=False)
    _file(settings, "events/5/short.svg", b"short", said=b"longer")
    _file(settings, "events/6/other.svg", b"other", said=b"rehto")
    report = copies.copy(settings, deep=True)
    assert report.files is not None
    assert (report.files.bad, report.files.copied_objects, report.files.reread_objects) == (3, 0, 3)
    assert sorted(problem.what.split("/")[1:3][1] for problem in report.files.problems) == ["4", "5", "6"]
    assert report.lag.objects == 1, "what could not be copied; what is missing has nothing to copy"
    with postgres.connect(settings.postgres) as connection:
        connection.execute("update assets.files set deleted_at = now() where object_key > 'events/3'")
    assert copies.copy(settings).problems == ()


def test_while_postgres_is_away_backups_are_copied(depot: Depot) -> None:
    depot.add()
    away = depot.settings.postgres.model_copy(update={"port": ports.any_free()})
    report = copies.copy(depot.settings.model_copy(update={"postgres": away}))
    assert report.copied_objects == 3
    assert "the application's files were not copied" in report.problems[0].what


def test_a_restore_from_the_copy_alone(
    shop: Shop,
    started: Callable[[Path], stack.PostgresServer],
    environment: Environment,
) -> None:
    """The first bucket is gone, and the key file is all that is left of the first place."""
    depot = Depot(shop.settings)
    full = take(shop.settings).manifest
    with postgres.connect(shop.settings.postgres, autocommit=True) as connection:
        connection.execute("update kept set words = reverse(words) where id < 1000")
    taken = take(shop.settings, "incremental").manifest
    assert copies.copy(shop.settings).problems == ()
    listed = json.loads(bilten(shop, environment, "backup", "list", "--json").stdout)["result"]["backups"]
    assert [each["copied"] for each in listed] == [True, True]
    digest = shop.digest()
    depot.destroy()

    found = bilten(shop, environment, "backup", "list", "--bucket", "copy")
    assert found.returncode == 0
    assert taken.id in found.stdout
    assert verify(shop.settings, full.id, by="a test", bucket="copy").problems == ()
    target = shop.base / "restored"
    done = bilten(
        shop,
        environment,
        "restore",
        "postgres",
        "--backup",
        taken.id,
        "--to",
        str(target),
        "--bucket",
        "copy",
    )
    assert done.returncode == 0, done.stderr
    server = started(target)
    with postgres.connect(server.superuser, database="bilten") as connection:
        assert connection.execute(DIGEST).fetchone() == digest
    shutil.rmtree(target)
    assert restore(shop.settings, Target("backup", taken.id), target, bucket="copy").backup_id == taken.id


def test_in_dagster(depot: Depot) -> None:
    manifest = depot.add()

    def run() -> dg.ExecuteInProcessResult:
        return dg.materialize(
            [assets.copies, checks.copy_complete],
            resources={"platform": Platform(depot.settings)},
            instance=instance,
        )

    with dg.DagsterInstance.ephemeral() as instance:
        result = run()
        (event,) = result.asset_materializations_for_node("backups__copies")
        assert event.metadata["copied_objects"].value == 3
        assert event.metadata["lag_seconds"].value == 0
        assert [each.passed for each in result.get_asset_check_evaluations()] == [True]
        depot.put(manifest.objects[0].name, b"other", "copy")
        (evaluation,) = run().get_asset_check_evaluations()
        assert not evaluation.passed
        assert manifest.objects[0].name in str(evaluation.description)


def test_the_check_tells_what_waits_for_too_long(depot: Depot) -> None:
    depot.add()
    context = dg.build_asset_check_context()
    in_time = checks.copy_complete(context, Platform(depot.settings))
    assert isinstance(in_time, dg.AssetCheckResult)
    assert in_time.passed
    impatient = depot.settings.backups.model_copy(update={"copy_lag_seconds": -1})
    late = depot.settings.model_copy(update={"backups": impatient})
    found = checks.copy_complete(context, Platform(late))
    assert isinstance(found, dg.AssetCheckResult)
    assert not found.passed
    assert "3 objects are not copied" in str(found.description)


def test_the_command(shop: Shop, environment: Environment) -> None:
    depot = Depot(shop.settings)
    depot.add()
    done = bilten(shop, environment, "backup", "copy")
    assert done.returncode == 0, done.stderr
    assert "3 objects copied" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    away = bilten(
        shop,
        environment,
        "backup",
        "copy",
        "--json",
        BILTEN_OBJECT_STORE__COPY_ENDPOINT_URL=f"http://127.0.0.1:{ports.any_free()}",
    )
    assert away.returncode == 3
    assert os.path.exists(shop.settings.home)
