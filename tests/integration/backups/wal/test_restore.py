"""Back to a moment: what is there, what is not, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

import psycopg
import pytest

from bilten_orchestration.backups.copies import copy as copies
from bilten_orchestration.backups.postgres import private
from bilten_orchestration.backups.postgres.base import take
from bilten_orchestration.backups.postgres.restore import RestoreReport, restore
from bilten_orchestration.backups.postgres.targets import Target
from bilten_orchestration.backups.wal import positions
from bilten_orchestration.backups.wal.audit import audit
from bilten_orchestration.backups.wal.reach import reach
from bilten_orchestration.errors import BiltenError, Mismatch, Refused, StoreUnavailable, UsageError
from bilten_orchestration.local import postgres as embedded
from bilten_orchestration.settings import Settings
from tests import stack
from tests.integration.backups.command import Environment, bilten, document
from tests.integration.backups.wal.conftest import Source


class Restored(Protocol):
    def __call__(
        self, target: Target, settings: Settings | None = None
    ) -> tuple[RestoreReport, list[int]]: ...


@pytest.fixture(scope="module")
def past(module_source: Source) -> History:
    """A server with rows 1 to 5 and a moment behind each, backups at 1 and 3, a restore point."""
    source = module_source
    source.stream.start()
    made = History(source)
    source.execute("create table rows (id int primary key)")
    for number in range(1, 6):
        source.execute(f"insert into rows (id) values ({number})")
        if number == 1:
            made.full = take(source.settings, "full").manifest.id
        if number == 3:
            made.incremental = take(source.settings, "incremental").manifest.id
            with embedded.superuser(source.server.cluster) as connection:
                connection.execute("select pg_create_restore_point('third')")
        made.moments[number] = source.now()
        source.write(18)
    ((xid, lsn),) = source.execute(
        "with done as (insert into rows (id) values (6) returning 1)"
        " select pg_current_xact_id()::text, pg_current_wal_lsn()::text from done"
    )
    made.xid, made.lsn = xid, lsn
    source.execute("insert into rows (id) values (7)")
    source.await_reach(source.now())
    source.await_reach(source.now(), number=1)
    return made


class History:
    """What happened, and when."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.full = self.incremental = self.xid = self.lsn = ""
        self.moments: dict[int, datetime] = {}


@pytest.fixture
def restored(past: History) -> Iterator[Restored]:
    """Restores, starts, and tells which of the rows 1 to 7 are there."""
    made: list[Path] = []

    def run(target: Target, settings: Settings | None = None) -> tuple[RestoreReport, list[int]]:
        directory = past.source.base / f"restored-{len(made)}"
        made.append(directory)
        report = restore(
            settings or past.source.settings,
            target,
            directory,
            start=True,
            bucket="copy" if settings else "first",
        )
        assert report.dsn is not None
        with psycopg.connect(report.dsn) as connection:
            found = connection.execute("select id from rows order by id").fetchall()
        return report, [number for (number,) in found]

    yield run
    for directory in made:
        if (directory / private.RECORD).exists():
            private.stop(directory)
        shutil.rmtree(directory, ignore_errors=True)


def _said(moment: datetime) -> str:
    return moment.isoformat()


@pytest.mark.parametrize(
    ("number", "start"), [(1, "full"), (2, "full"), (3, "incremental"), (4, "incremental")]
)
def test_a_moment(past: History, restored: Restored, number: int, start: str) -> None:
    report, rows = restored(Target("moment", _said(past.moments[number])))
    assert rows == list(range(1, number + 1))
    assert report.backup_id == getattr(past, start)
    # between the backup and the moment there may have been no commit
    assert report.reached_at is None or report.reached_at <= past.moments[number]
    assert number in (1, 3) or report.reached_at is not None
    assert report.timeline == 2


def test_the_end_of_what_is_stored(past: History, restored: Restored) -> None:
    report, rows = restored(Target("latest"))
    assert rows == [1, 2, 3, 4, 5, 6, 7]
    assert report.backup_id == past.incremental


def test_a_moment_on_an_idle_server(past: History, restored: Restored) -> None:
    """Only the heartbeat writes: without it recovery would find no commit behind the moment, and fail."""
    moment = past.source.now()
    past.source.await_reach(moment + timedelta(seconds=1))
    report, rows = restored(Target("moment", _said(moment)))
    assert rows == [1, 2, 3, 4, 5, 6, 7]
    assert report.reached_at is not None
    assert report.reached_at <= moment


def test_a_transaction_a_restore_point_and_a_backup(past: History, restored: Restored) -> None:
    assert restored(Target("xid", past.xid))[1] == [1, 2, 3, 4, 5, 6]
    assert restored(Target("xid", past.xid, inclusive=False))[1] == [1, 2, 3, 4, 5]
    assert restored(Target("name", "third"))[1] == [1, 2, 3]
    assert restored(Target("name", "third", backup=past.full))[0].backup_id == past.full
    assert restored(Target("backup", past.full))[1] == [1]
    assert restored(Target("backup", past.incremental))[1] == [1, 2, 3]


def test_a_position(past: History, restored: Restored) -> None:
    report, rows = restored(Target("lsn", past.lsn))
    assert set(rows) >= {1, 2, 3, 4, 5}
    assert 7 not in rows
    assert report.backup_id == past.incremental


def test_both_buckets_hold_the_same_wal(past: History) -> None:
    found = audit(past.source.settings, bucket="first", deep=True)
    assert found.problems == ()
    first = {piece.name for piece in past.source.pieces() if piece.whole}
    assert first <= {piece.name for piece in past.source.pieces("copy")}


def test_what_cannot_be_reached_is_refused_with_what_can(past: History) -> None:
    directory = past.source.base / "unreached"
    before = past.moments[1] - timedelta(days=1)
    with pytest.raises(Refused, match="nearest after it") as told:
        restore(past.source.settings, Target("moment", _said(before)), directory)
    nearest = told.value.problems[0].found.rpartition(" ")[2]
    with pytest.raises(Refused, match="nearest before it"):
        restore(past.source.settings, Target("moment", "2099-01-01T00:00:00Z"), directory)
    with pytest.raises(Refused, match="within"):
        restore(past.source.settings, Target("lsn", "FF/0"), directory)
    with pytest.raises(Mismatch, match="there is no backup"):
        restore(past.source.settings, Target("latest", backup="20200101T000000Z-none"), directory)
    assert not directory.exists()
    assert not directory.with_name("unreached.restoring").exists()
    # what it names is not refused
    report = restore(past.source.settings, Target("moment", nearest), directory)
    assert report.backup_id == past.full
    shutil.rmtree(directory)


def test_a_target_that_replay_does_not_find(past: History) -> None:
    with pytest.raises(Mismatch, match="recovery ended before configured recovery target was reached"):
        restore(
            past.source.settings,
            Target("name", "never made"),
            past.source.base / "never",
            start=True,
        )
    pid = past.source.base / "never" / "postmaster.pid"
    assert not pid.exists()


@pytest.mark.parametrize("bad", ["yesterday", "2026-11-21 03:15", "2026-13-01T00:00:00Z"])
def test_what_is_no_moment(past: History, tmp_path: Path, bad: str) -> None:
    with pytest.raises(UsageError, match="is no moment"):
        restore(past.source.settings, Target("moment", bad), tmp_path / "restored")


def test_a_missing_segment_is_no_end(past: History, restored: Restored) -> None:
    """One of them is taken away after it was fetched: recovery fails, and does not promote early."""
    directory = past.source.base / "missing"
    restore(past.source.settings, Target("latest", backup=past.full), directory)
    segments = sorted(path for path in (directory / "bilten_wal").iterdir() if len(path.name) == 24)
    segments[len(segments) // 2].unlink()
    pg_bin = past.source.server.cluster.bin
    running = private.owner_of(directory)
    with pytest.raises(Mismatch, match="recovery did not come to its end"):
        private.start(directory, pg_bin, past.source.settings.postgres, running, lambda text: None)
    assert (directory / "recovery.signal").exists()
    shutil.rmtree(directory)


def test_the_map_and_the_audit(past: History) -> None:
    report = reach(past.source.settings)
    spans = [span for span in report.spans if span.bucket.endswith("backups")]
    (span,) = spans
    assert span.begin <= past.moments[1] + timedelta(seconds=5)
    assert span.to >= past.moments[5]
    assert span.backups == (past.full, past.incremental)
    assert not span.proven
    found = audit(past.source.settings)
    assert (found.gaps, found.problems) == ((), ())
    again = audit(past.source.settings)
    assert again.read < found.segments or again.read <= 3


def test_a_hole_in_the_middle_is_found(past: History, restored: Restored) -> None:
    """Audit, map and restore all tell of it. It is put back afterwards."""
    from bilten_orchestration.backups.repository.opened import Opened

    whole = sorted((p for p in past.source.pieces() if p.whole), key=lambda piece: piece.begin)
    with Opened.of(past.source.settings) as opened:
        chosen = next(p for p in whole if p.begin > _lsn_of(past, past.incremental))
        body = opened.repository.read_small(chosen.name)
        opened.repository.remove(chosen.name)
        try:
            found = audit(past.source.settings)
            assert [gap.segments for gap in found.gaps] == [1]
            assert any("WAL is missing" in problem.what for problem in found.problems)
            with pytest.raises(Refused, match="nearest before it"):
                restored(Target("moment", _said(past.moments[5])))
        finally:
            opened.repository.write_small(chosen.name, body)
    assert audit(past.source.settings).problems == ()


@pytest.mark.parametrize("how", ["flipped", "cut"])
def test_a_damaged_segment_is_found(past: History, restored: Restored, how: str) -> None:
    from bilten_orchestration.backups.repository.opened import Opened
    from bilten_orchestration.stores import object_store

    whole = sorted((p for p in past.source.pieces() if p.whole), key=lambda piece: piece.begin)
    chosen = whole[-2]
    bucket = past.source.settings.object_store.bucket_backups
    client = object_store.connect(past.source.settings.object_store)
    with Opened.of(past.source.settings) as opened:
        body = opened.repository.read_small(chosen.name)
    bad = body[: len(body) // 2] if how == "cut" else body[:-40] + bytes([body[-40] ^ 1]) + body[-39:]
    client.put_object(Bucket=bucket, Key=chosen.name, Body=bad)
    try:
        found = audit(past.source.settings, deep=True)
        assert any(chosen.file in problem.what for problem in found.problems), found.problems
        with pytest.raises(BiltenError):
            restored(Target("latest"))
    finally:
        client.put_object(Bucket=bucket, Key=chosen.name, Body=body)
        client.close()


def test_the_audit_tells_of_gaps_and_lost_keys_and_ends_with_1(
    past: History, environment: Environment
) -> None:
    """As it is called: gaps are printed, and a backup and WAL under lost keys are told before a restore."""
    from bilten_orchestration.backups.repository import catalogue, keys
    from bilten_orchestration.backups.repository.opened import Opened, key_file

    source = past.source
    clean = bilten(source, environment, "wal", "audit", "--json")
    assert (clean.returncode, document(clean)["result"]["gaps"]) == (0, [])
    whole = sorted((p for p in source.pieces() if p.whole), key=lambda piece: piece.begin)
    chosen = next(p for p in whole if p.begin > _lsn_of(past, past.full))
    with Opened.of(source.settings) as opened:
        body = opened.repository.read_small(chosen.name)
        opened.repository.remove(chosen.name)
        gap = bilten(source, environment, "wal", "audit")
        opened.repository.write_small(chosen.name, body)
    assert gap.returncode == 1
    assert "1 gaps" in gap.stdout
    assert f"{positions.text(chosen.begin)} to {positions.text(chosen.end)}, timeline 1" in gap.stderr

    path = key_file(source.settings)
    before = path.read_bytes()
    old = keys.read(path).current
    new = keys.rotate(path).current
    both = path.read_bytes()
    taken = take(source.settings).manifest
    assert taken.key_id == new
    try:
        path.write_bytes(before)  # an old copy of the file, put back
        lost = bilten(source, environment, "wal", "audit")
        assert lost.returncode == 1
        assert taken.id in lost.stderr
        assert new in lost.stderr
        # the stream wrote under the old one all the time
        path.write_text(json.dumps({"current": new, "keys": {new: json.loads(both)["keys"][new]}}))
        others = bilten(source, environment, "wal", "audit")
        assert others.returncode == 1
        assert f"are under the key {old}, which is lost" in others.stderr
        assert past.full in others.stderr
    finally:
        path.write_bytes(both)
        with Opened.of(source.settings) as opened:
            opened.repository.remove(f"{catalogue.place_of('postgres', taken.id)}/manifest.json")
    assert audit(source.settings).problems == ()


def test_a_moment_from_the_second_bucket_alone(past: History, restored: Restored) -> None:
    """The first store does not answer any more."""
    assert copies.copy(past.source.settings).problems == ()
    store = past.source.settings.object_store
    gone = store.model_copy(
        update={
            "endpoint_url": f"http://127.0.0.1:{stack.ports.any_free()}",
            "copy_endpoint_url": store.endpoint_url,
            "copy_access_key_id": store.access_key_id,
            "copy_secret_access_key": store.secret_access_key,
        }
    )
    alone = past.source.settings.model_copy(update={"object_store": gone})
    with pytest.raises(StoreUnavailable):
        restore(alone, Target("latest"), past.source.base / "unreached")
    assert restored(Target("moment", _said(past.moments[4])), alone)[1] == [1, 2, 3, 4]
    assert restored(Target("latest"), alone)[1] == [1, 2, 3, 4, 5, 6, 7]


def _lsn_of(past: History, backup: str) -> int:
    from bilten_orchestration.backups.repository import catalogue
    from bilten_orchestration.backups.repository.opened import Opened
    from bilten_orchestration.backups.wal import positions

    with Opened.of(past.source.settings) as opened:
        wal = catalogue.read(opened.repository, opened.ring).find(backup).manifest.wal
    assert wal is not None
    return positions.lsn(wal.end_lsn)
