"""What a drill of PostgreSQL must find: damage that was planted, one at a time."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import psutil
import psycopg
import pytest

from bilten_orchestration.backups import scratch
from bilten_orchestration.backups.postgres import private
from bilten_orchestration.backups.postgres.base import take
from bilten_orchestration.backups.repository import catalogue, keys
from bilten_orchestration.backups.repository.manifest import Mark
from bilten_orchestration.backups.repository.opened import Opened, key_file
from bilten_orchestration.drills.course import Course
from bilten_orchestration.drills.postgres.drill import walk
from bilten_orchestration.drills.run import run
from bilten_orchestration.errors import BiltenError, Mismatch
from bilten_orchestration.local import postgres as embedded
from bilten_orchestration.local.privileges import server_user
from bilten_orchestration.stores.object_store import connect
from tests.integration.backups.wal.conftest import Source
from tests.integration.drills.postgres.conftest import PLACE, drilled, proof

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def behind(shop: Source) -> Source:
    """With two segments of WAL and more behind its backup."""
    shop.write(40)
    shop.await_reach(shop.now())
    return shop


def _objects_of_newest(shop: Source) -> list[str]:
    with Opened.of(shop.settings) as opened:
        return [
            each.name for each in catalogue.read(opened.repository, opened.ring).backups[-1].manifest.objects
        ]


@contextmanager
def _changed(shop: Source, name: str, how: Callable[[bytes], bytes | None]) -> Iterator[None]:
    """An object of the first bucket, for as long as this lasts."""
    store = shop.settings.object_store
    client = connect(store)
    body = client.get_object(Bucket=store.bucket_backups, Key=name)["Body"].read()
    new = how(body)
    if new is None:
        client.delete_object(Bucket=store.bucket_backups, Key=name)
    else:
        client.put_object(Bucket=store.bucket_backups, Key=name, Body=new)
    try:
        yield
    finally:
        client.put_object(Bucket=store.bucket_backups, Key=name, Body=body)
        client.close()


def _flipped(body: bytes) -> bytes:
    half = len(body) // 2
    return body[:half] + bytes([body[half] ^ 1]) + body[half + 1 :]


def _failed(shop: Source, way: str = "latest") -> tuple[Course, BiltenError]:
    course = Course()
    with pytest.raises(BiltenError) as told:
        drilled(shop.settings, way, course)
    assert course.rto_seconds is None
    assert all(problem.next for problem in told.value.problems)
    return course, told.value


def _middle(shop: Source) -> str:
    """A whole segment behind the backup that is not its last."""
    with Opened.of(shop.settings) as opened:
        end = catalogue.read(opened.repository, opened.ring).backups[-1].manifest.wal
    assert end is not None
    whole = sorted(piece.name for piece in shop.pieces() if piece.whole and piece.is_segment)
    assert len(whole) > 2
    return whole[-2]


def test_a_bit_of_the_base_backup(behind: Source) -> None:
    with _changed(behind, _objects_of_newest(behind)[0], _flipped):
        course, error = _failed(behind)
    assert course.failed_phase == "fetch"
    assert isinstance(error, Mismatch)


def test_a_bit_of_wal(behind: Source) -> None:
    with _changed(behind, _middle(behind), _flipped):
        course, error = _failed(behind)
    assert course.failed_phase == "fetch"
    assert isinstance(error, Mismatch)


def test_a_segment_in_the_middle_is_gone(behind: Source) -> None:
    with _changed(behind, _middle(behind), lambda body: None):
        course, error = _failed(behind)
        # by position too: it is not promoted early in silence
        exact, _ = _failed(behind, "exact")
    assert course.failed_phase == exact.failed_phase == "find"
    assert "gap" in str(error)


def test_another_key(behind: Source, tmp_path: Path) -> None:
    place = key_file(behind.settings)
    kept = tmp_path / "kept"
    shutil.move(place, kept)
    try:
        keys.ensure(place)
        course, error = _failed(behind)
    finally:
        shutil.move(kept, place)
    assert course.failed_phase == "find"
    assert "key" in str(error)


def test_the_restored_server_dies_after_it_started(behind: Source) -> None:
    course = Course()
    with scratch.place(behind.settings, PLACE, "drill run", print) as place:

        def progress(text: str) -> None:
            if text == "proving: visibility maps":
                pid = int((place / "latest" / "postmaster.pid").read_text().split()[0])
                server = psutil.Process(pid)
                os.kill(pid, signal.SIGKILL)
                server.wait(30)

        with pytest.raises(Mismatch, match="the restored server ended while it was asked"):
            walk(behind.settings, "latest", place, course, progress=progress)
    assert course.failed_phase == "proof"
    assert course.rto_seconds is not None


_ITEMS = "items add up to their payment, fee items to its fee, tax items to its tax"
_SOLD = "sold counts the tickets that hold a seat"
_PLANTED = (
    "set session_replication_role = replica",
    "update payments.payment_items set amount = amount + 1 where ctid = (select min(ctid) from"
    " payments.payment_items)",
    "update tickets.ticket_types set sold = sold + 1",
    "create table lying (id int)",
    "create index lying_id on lying (id)",
    "update pg_index set indisready = false where indexrelid = 'lying_id'::regclass",
    "insert into lying select generate_series(1, 100)",
    "update pg_index set indisready = true where indexrelid = 'lying_id'::regclass",
    "create table forgotten as select * from system.migrations where store = 'postgres'"
    " order by version desc limit 1",
    "delete from system.migrations m using forgotten f where (m.store, m.version) = (f.store, f.version)",
)
_MENDED = (
    "insert into system.migrations overriding system value select * from forgotten",
    "drop table lying, forgotten",
    "update tickets.ticket_types set sold = sold - 1",
    "update payments.payment_items set amount = amount - 1 where ctid = (select max(ctid) from"
    " payments.payment_items)",
    "reset session_replication_role",
)


def test_what_a_whole_copy_of_wrong_data_would_hide(behind: Source) -> None:
    """Every byte comes back, digests would be equal: money that does not add up, a seat that nobody has, an
    index that misses rows, a migration that is not applied."""
    with embedded.superuser(behind.server.cluster, behind.settings.postgres.database) as connection:
        for statement in _PLANTED:
            connection.execute(statement.encode())
        try:
            behind.await_reach(behind.now())
            course = drilled(behind.settings, "latest")
        finally:
            for statement in _MENDED:
                connection.execute(statement.encode())
    assert not course.ok
    wrong = {each.name: each.found for each in course.proofs if not each.ok}
    assert set(wrong) == {_ITEMS, _SOLD, "pg_amcheck", "migrations"}
    assert "lying_id" in wrong["pg_amcheck"]
    assert wrong[_SOLD].startswith("1, such as ")
    behind.await_reach(behind.now())
    assert drilled(behind.settings, "latest").ok


def test_a_subscription_connects_nowhere(source: Source) -> None:
    """Production is away, so whoever calls would be the restored server."""
    source.stream.start()
    with socket.create_server(("127.0.0.1", 0)) as publisher:
        port = publisher.getsockname()[1]
        publisher.close()
        with embedded.superuser(source.server.cluster, source.settings.postgres.database) as connection:
            connection.execute(
                f"create subscription calling connection 'host=127.0.0.1 port={port} dbname=x'".encode()
                + b" publication p with (connect = false, slot_name = 'x')"
            )
            connection.execute("alter subscription calling enable")
        take(source.settings, "full")
        source.await_reach(source.now())
        source.server.stop()
    called: list[object] = []
    enabled: list[tuple[object, ...]] = []
    with (
        socket.create_server(("127.0.0.1", port)) as publisher,
        scratch.place(source.settings, PLACE, "drill run", print) as place,
    ):

        def listen() -> None:
            while True:
                try:
                    called.append(publisher.accept()[1])
                except OSError:
                    return

        listener = threading.Thread(target=listen)
        listener.start()

        def progress(text: str) -> None:
            if text == "proving: pg_amcheck":
                at = private.socket_of(place / "latest")
                with psycopg.connect(f"host={at} user=postgres dbname={database}") as connection:
                    enabled.extend(connection.execute("select subname, subenabled from pg_subscription"))

        database = source.settings.postgres.database
        course = Course()
        walk(source.settings, "latest", place, course, progress=progress)
        publisher.shutdown(socket.SHUT_RDWR)
        listener.join()
    assert course.ok
    assert enabled == [("calling", True)]
    assert called == []


def test_what_the_newest_builds_on_is_expired(source: Source) -> None:
    """An older full backup has all of its WAL: it is not taken instead in silence. Ways that do not start
    from the newest one are walked."""
    source.stream.start()
    take(source.settings, "full")
    parent = take(source.settings, "full").manifest
    take(source.settings, "incremental")
    source.await_reach(source.now())
    with Opened.of(source.settings) as opened:
        mark = Mark(parent.id, "expired", datetime.now(UTC), "a test")
        catalogue.mark(opened.repository, opened.ring, parent, mark)
    (report,) = run(source.settings, "postgres", way="latest")
    assert (report.ok, report.failed_phase, report.rto_seconds) == (False, "find", None)
    (problem,) = report.problems
    assert "builds on a backup that is expired" in problem.what
    assert problem.expected == parent.id
    assert "--kind full" in (problem.next or "")
    (moment,) = run(source.settings, "postgres", way="oldest_full")
    assert moment.failed_phase not in ("find", "room")


def test_a_visibility_map_that_pg_verifybackup_accepts(source: Source) -> None:
    """Its old page, whose checksum is right, lies over rows that were deleted since."""
    cluster = source.server.cluster
    source.execute("insert into kept (words) select 'x' from generate_series(1, 1000)")
    source.execute("vacuum (freeze) kept")
    ((path,),) = source.execute("select pg_relation_filepath('kept')")
    source.server.stop()
    visibility = cluster.data / f"{path}_vm"
    old = visibility.read_bytes()
    source.server.start()
    source.stream.start()
    source.execute("delete from kept where id <= 500")
    source.server.stop()
    assert visibility.read_bytes() != old
    visibility.write_bytes(old)
    user = server_user()
    if user is not None:
        os.chown(visibility, user.uid, user.gid)
    source.server.start()
    take(source.settings, "full")
    source.await_reach(source.now())
    course = drilled(source.settings, "exact")
    assert proof(course, "pg_verifybackup").ok
    wrong = [each.name for each in course.proofs if not each.ok]
    assert "pg_check_visible" in wrong
    assert "pg_check_frozen" in wrong
    assert "public.kept" in proof(course, "pg_check_visible").found or "kept" in (
        proof(course, "pg_check_visible").found
    )
    assert not course.ok
