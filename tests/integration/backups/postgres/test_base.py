"""Full backups of a real server under writes, and the way back."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from bilten_orchestration.backups.postgres.base import Kind, take
from bilten_orchestration.backups.postgres.restore import restore
from bilten_orchestration.backups.postgres.targets import Target
from bilten_orchestration.backups.repository import catalogue, keys
from bilten_orchestration.backups.repository.opened import Opened, key_file
from bilten_orchestration.backups.verify import verify
from bilten_orchestration.errors import LockHeld, Mismatch, Refused, StoreUnavailable
from bilten_orchestration.local import postgres as embedded
from bilten_orchestration.local import privileges
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.locks import advisory_lock
from tests import stack
from tests.integration.backups.cancelled import cancelled, sliced
from tests.integration.backups.shop import DIGEST, SLICE, Shop
from tests.processes import clients_of


def test_under_writes_and_back(
    shop: Shop, writer: None, started: Callable[[Path], stack.PostgresServer]
) -> None:
    told: list[str] = []
    report = take(shop.settings, run="a-run", progress=told.append)
    manifest = report.manifest
    assert shop.listed() == [manifest.id]
    assert manifest.run == "a-run"
    assert manifest.wal is not None
    assert manifest.wal.timeline == 1
    assert len(manifest.objects) == -(-manifest.raw_bytes // SLICE) > 5
    assert any(each.continues for each in manifest.objects), "no file was cut"
    assert sum(each.raw_bytes for each in manifest.objects) == manifest.raw_bytes
    assert manifest.stored_bytes < manifest.raw_bytes / 2
    assert any("MiB to read" in text for text in told)

    server = started(shop.restored(manifest.id))
    with postgres.connect(server.superuser, database="bilten") as connection:
        kept = connection.execute(DIGEST).fetchone()
        batches = connection.execute("select count(*) % 50, count(*) from moving").fetchone()
    assert kept == shop.digest()
    assert batches is not None
    assert batches[0] == 0, "half a commit was restored"
    with postgres.connect(shop.settings.postgres) as connection:
        assert connection.execute("select count(*) from pg_replication_slots").fetchone() == (0,)


KILLED = """
import itertools, os, signal, sys
from bilten_orchestration.backups.repository.bucket import Repository
from bilten_orchestration.backups.postgres.base import Kind, take
from bilten_orchestration.settings.loading import load_settings
at, writes, write = int(sys.argv[1]), itertools.count(1), Repository.write
def counted(self, name, chunks):
    now = next(writes) == at
    def until_the_middle():
        for number, chunk in enumerate(chunks):
            if now and number == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            yield chunk
    stored = write(self, name, until_the_middle())
    if now:
        os.kill(os.getpid(), signal.SIGKILL)
    return stored
Repository.write = counted
take(load_settings(), sys.argv[2])
"""


@pytest.mark.parametrize(
    ("at", "kind"), [(1, "incremental"), pytest.param(3, "full", marks=pytest.mark.faults)]
)
def test_a_killed_backup_is_none_and_the_next_one_is_whole(
    shop: Shop, environment: Callable[[Settings], dict[str, str]], at: int, kind: Kind
) -> None:
    before = [take(shop.settings).manifest.id] if kind == "incremental" else []
    temporary = shop.base / "tmp"
    temporary.mkdir()
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(at), kind],
        env=environment(shop.settings)
        | {
            "PYTHONPATH": str(Path(__file__).parents[4]),
            "BILTEN_HOME": str(shop.settings.home),
            "TMPDIR": str(temporary),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert list(temporary.iterdir()) == []
    assert shop.listed() == before
    patient = shop.settings.model_copy(
        update={"backups": shop.settings.backups.model_copy(update={"lock_wait_seconds": 30})}
    )
    report = take(patient, kind)
    assert report.manifest.kind == kind
    assert shop.listed() == [*before, report.manifest.id]
    shop.restored(report.manifest.id)
    assert not basebackups(shop)


def test_a_run_that_is_cancelled_leaves_nothing_at_work(
    shop: Shop, environment: Callable[[Settings], dict[str, str]]
) -> None:
    """The programs end, no upload stays open, and the next backup waits for nobody."""
    large = sliced(shop.settings, 16 << 20)
    at_work = cancelled(large, environment(large), "postgres", "full", "/000000")
    assert at_work.programs == {"pg_basebackup"}
    assert any(name.endswith("/000000") for name in at_work.uploads)
    assert not basebackups(shop)
    assert shop.listed() == []
    assert take(shop.settings).manifest.id in shop.listed()


def basebackups(shop: Shop) -> list[psutil.Process]:
    """pg_basebackup at work on this server."""
    return clients_of(shop.settings.postgres, "pg_basebackup")


def test_a_server_that_dies_in_the_middle_leaves_no_backup(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bilten_orchestration.backups.repository.bucket import Repository

    write, written = Repository.write, []

    def then_it_dies(self: Repository, name: str, chunks: object) -> object:
        written.append(write(self, name, chunks))  # type: ignore[arg-type]
        if len(written) == 2:
            shop.server.kill()
        return written[-1]

    monkeypatch.setattr(Repository, "write", then_it_dies)
    with pytest.raises(StoreUnavailable, match="PostgreSQL went away"):  # so that a run tries again
        take(shop.settings)
    monkeypatch.undo()
    shop.server.start()
    assert shop.listed() == []
    assert take(shop.settings).manifest.id in shop.listed()


def test_a_corrupt_page_makes_no_backup(shop: Shop) -> None:
    """pg_basebackup sends it, complains, and ends with 1 after a complete tar."""
    with postgres.connect(shop.settings.postgres, autocommit=True) as connection:
        connection.execute("checkpoint")
        row = connection.execute("select pg_relation_filepath('kept')").fetchone()
    assert row is not None
    shop.server.stop()
    file = shop.server.cluster.data / str(row[0])
    with file.open("r+b") as pages:
        pages.seek(5 * 8192 + 4000)
        pages.write(b"rot")
    shop.server.start()
    with pytest.raises(Mismatch, match="pg_basebackup failed") as told:
        take(shop.settings)
    assert "checksum" in told.value.problems[0].found
    assert shop.listed() == []


def test_two_at_once(shop: Shop) -> None:
    with (
        postgres.connect(shop.settings.postgres, autocommit=True, application_name="another") as other,
        advisory_lock(other, "backup:postgres"),
        pytest.raises(LockHeld, match="another"),
    ):
        take(shop.settings)
    assert shop.listed() == []


def test_what_forbids_a_backup_is_told_at_once(shop: Shop) -> None:
    place = shop.server.cluster.data.parent / "fast"
    privileges.server_directory(place, privileges.server_user())
    with embedded.superuser(shop.server.cluster) as connection:
        connection.execute(f"create tablespace fast location '{place}'")
        connection.execute("alter role bilten_owner noreplication")
    with pytest.raises(Refused) as told:
        take(shop.settings)
    assert [problem.what.split()[0] for problem in told.value.problems] == ["tablespaces", "bilten_owner"]
    assert shop.listed() == []


@pytest.fixture
def taken(shop: Shop) -> str:
    return take(shop.settings).manifest.id


def test_a_restore_never_writes_over_anything(shop: Shop, taken: str) -> None:
    target = shop.base / "restored"
    target.mkdir()
    (target / "mine").write_text("kept")
    with pytest.raises(Refused, match="is not empty"):
        restore(shop.settings, Target("backup", taken), target)
    assert [path.name for path in target.iterdir()] == ["mine"]
    (target / "mine").unlink()
    growing = shop.base / "restored.restoring"
    growing.mkdir()
    (growing / "PG_VERSION").write_text("what a killed restore left")
    restore(shop.settings, Target("backup", taken), target)
    assert (target / "PG_VERSION").read_text() == "18\n"
    assert not growing.exists()


def test_without_the_key_nothing_is_restored(shop: Shop, taken: str) -> None:
    path = key_file(shop.settings)
    path.rename(path.with_name("elsewhere.json"))
    with pytest.raises(Refused, match="there is no key file"):
        restore(shop.settings, Target("backup", taken), shop.base / "restored")
    keys.ensure(path)
    with pytest.raises(Mismatch, match="there is no backup"):
        restore(shop.settings, Target("backup", taken), shop.base / "restored")
    assert not (shop.base / "restored").exists()
    assert not (shop.base / "restored.restoring").exists()


def test_a_whole_backup_is_marked(shop: Shop, taken: str) -> None:
    report = verify(shop.settings, taken, by="a test")
    assert report.problems == ()
    with Opened.of(shop.settings) as opened:
        backup = catalogue.read(opened.repository, opened.ring).find(taken)
    assert backup.state == "verified"
    assert [mark.by for mark in backup.marks] == ["a test"]
    assert (report.objects, report.bytes) == (
        len(backup.manifest.objects) + 1,
        backup.manifest.stored_bytes,
    )


@pytest.mark.parametrize("damage", ["flipped", "cut", "removed", "exchanged"])
def test_a_damaged_object_is_never_restored(shop: Shop, taken: str, damage: str) -> None:
    with Opened.of(shop.settings) as opened:
        manifest = catalogue.read(opened.repository, opened.ring).find(taken).manifest
        names = [each.name for each in manifest.objects]
    shop.damage(damage, names[1], names[2])
    found = verify(shop.settings, taken, by="a test")
    assert [names[1] in problem.what for problem in found.problems] == [True]
    with pytest.raises(Mismatch, match=names[1]):
        restore(shop.settings, Target("backup", taken), shop.base / "restored")
    assert not (shop.base / "restored").exists()
