"""WAL under faults: servers and services killed, spools and slots lost, stores away, a second writer."""

from __future__ import annotations

import shutil
from datetime import timedelta

import pytest

from bilten_orchestration.backups.wal import positions
from bilten_orchestration.backups.wal.status import BucketStatus
from bilten_orchestration.local import postgres as embedded
from tests.integration.backups.wal.conftest import Source
from tests.integration.backups.wal.test_stream import no_gap
from tests.waiting import until

pytestmark = pytest.mark.faults
SEGMENT = positions.SEGMENT_BYTES
DAY = timedelta(days=1)


def test_an_idle_server_stays_within_reach(streaming: Source) -> None:
    """Heartbeats alone move it on."""
    for _ in range(2):
        streaming.await_reach(streaming.now())


def test_the_slots_follow_what_each_is_for(streaming: Source) -> None:
    streaming.write(40)
    streaming.await_reach(streaming.now())
    shipped = max(piece.end for piece in streaming.pieces())

    def slots() -> dict[str, int]:
        found = {
            name: positions.lsn(restart)
            for name, restart in streaming.execute(
                "select slot_name, restart_lsn::text from pg_replication_slots"
            )
        }
        assert set(found) == {"stream", "shipped"}
        return found if found["shipped"] >= shipped - SEGMENT else {}

    assert until(slots, "the slot `shipped`")["shipped"] > SEGMENT


def test_the_server_is_killed_and_comes_back(streaming: Source) -> None:
    streaming.write(20)
    streaming.server.kill()
    until(lambda: streaming.stream.status()[1], "the service to tell it")
    streaming.server.start()
    streaming.write(20)
    streaming.await_reach(streaming.now())
    no_gap(streaming.pieces())
    until(lambda: streaming.stream.status()[1] == (), "no problem left")


def test_a_lost_spool_is_received_anew(streaming: Source) -> None:
    streaming.write(20)
    streaming.await_reach(streaming.now())
    streaming.stream.kill()
    streaming.write(40)
    shutil.rmtree(streaming.settings.home / "wal-spool")
    streaming.stream.start()
    streaming.await_reach(streaming.now())
    no_gap(streaming.pieces())
    assert streaming.stream.status()[1] == ()


def test_a_lost_slot_is_told_as_a_gap_and_wal_goes_on(source: Source) -> None:
    source.stream.start()
    source.await_reach(source.now())
    source.stream.kill()
    with embedded.superuser(source.server.cluster) as connection:
        connection.execute("alter system set max_slot_wal_keep_size = '32MB'")
        connection.execute("alter system set max_wal_size = '64MB'")
        connection.execute("alter system set min_wal_size = '32MB'")
        connection.execute("select pg_reload_conf()")
        for _ in range(10):
            connection.execute("select pg_switch_wal()")
            connection.execute("select pg_create_restore_point('here')")
        connection.execute("checkpoint")
    lost = "select wal_status from pg_replication_slots where slot_name = 'shipped'"
    assert source.execute(lost) == [("lost",)]
    source.stream.start()
    source.await_reach(source.now())
    _, problems = source.stream.status()
    assert any("was lost" in problem or "removed WAL" in problem for problem in problems), problems
    assert source.execute(lost) == [("reserved",)]


def test_a_full_spool_stops_taking_and_drops_nothing(source: Source) -> None:
    """The object store is away: the spool grows to its limit, PostgreSQL keeps the rest, all of it comes."""
    source.stream.environment["BILTEN_BACKUPS__WAL_SPOOL_BYTES"] = str(64 << 20)
    address = source.stream.environment["BILTEN_OBJECT_STORE__ENDPOINT_URL"]
    source.stream.environment["BILTEN_OBJECT_STORE__ENDPOINT_URL"] = "http://127.0.0.1:9"
    source.stream.start()
    source.write(150)
    until(lambda: "the spool of WAL is full" in " ".join(source.stream.status()[1]), "a full spool")
    found, problems = source.stream.status()
    assert found is not None
    assert found.spool_bytes <= (64 << 20) + 3 * SEGMENT
    assert any("does not serve" in problem for problem in problems)
    source.stream.stop()
    source.stream.environment["BILTEN_OBJECT_STORE__ENDPOINT_URL"] = address
    source.stream.start()
    source.await_reach(source.now())
    pieces = source.pieces()
    no_gap(pieces)
    assert len({piece.file for piece in pieces}) >= 150 * 900_000 // SEGMENT


def test_a_second_writer_stops_it(streaming: Source) -> None:
    """A copy of the server, on the same timeline, streams into the same bucket."""
    from bilten_orchestration.backups.repository.opened import Opened
    from bilten_orchestration.backups.wal.archive import Archive

    streaming.write(5)
    streaming.await_reach(streaming.now())
    with Opened.of(streaming.settings) as opened:
        newest = max((p for p in streaming.pieces() if p.is_segment), key=lambda piece: piece.end)
        identifier = newest.name.split("/")[1]
        archive = Archive(opened.repository, opened.cipher, identifier, newest.segment_bytes)
        # what a copy would have written into the segment that comes next
        following = positions.segment(1, newest.begin + SEGMENT)
        archive.store(archive.seal(following, b"other bytes", None))
    streaming.write(40)
    until(lambda: getattr(streaming.stream.status()[0], "state", "") == "halted", "it stops")
    _, problems = streaming.stream.status()
    assert any("somebody else writes WAL" in problem for problem in problems)
    # neither of the two was overwritten or removed
    (other,) = [piece for piece in streaming.pieces() if piece.file == following]
    with Opened.of(streaming.settings) as opened:
        archive = Archive(opened.repository, opened.cipher, identifier, newest.segment_bytes)
        assert archive.contents(other) == b"other bytes"


def test_the_store_is_away_and_comes_back(streaming: Source) -> None:
    """Requests are refused for a while (its keys are wrong): nothing is lost, the server is not held up."""
    streaming.await_reach(streaming.now())
    streaming.stream.kill()
    key = "BILTEN_OBJECT_STORE__SECRET_ACCESS_KEY"
    right = streaming.stream.environment[key]
    streaming.stream.environment[key] = "wrong-secret-key"
    streaming.stream.start()
    streaming.write(40)
    until(lambda: "refuses" in " ".join(streaming.stream.status()[1]), "it is told")
    found, _ = streaming.stream.status()
    assert found is not None
    assert found.spool_bytes >= 2 * SEGMENT
    streaming.stream.stop()
    streaming.stream.environment[key] = right
    streaming.stream.start()
    streaming.await_reach(streaming.now())
    no_gap(streaming.pieces())


def test_the_second_bucket_is_away_and_catches_up(source: Source) -> None:
    """Nothing waits for it."""
    name = "BILTEN_OBJECT_STORE__BUCKET_BACKUPS_COPY"
    right = source.stream.environment[name]
    source.stream.environment[name] = "no-such-bucket"
    source.stream.start()
    source.write(40)
    source.await_reach(source.now())
    assert any("the second bucket is behind" in problem for problem in source.stream.status()[1])
    source.stream.stop()
    source.stream.environment[name] = right
    source.stream.start()
    source.await_reach(source.now(), number=1)
    first = {piece.name for piece in source.pieces() if piece.whole}
    assert first <= {piece.name for piece in source.pieces("copy")}
    until(lambda: source.stream.status()[1] == (), "no problem left")


def test_two_streams_of_one_server(streaming: Source) -> None:
    """The second one takes nothing, and says who does."""
    import subprocess
    import sys

    second = subprocess.run(
        [sys.executable, "-m", "bilten_orchestration.cli.main", "wal", "stream"],
        env=streaming.stream.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert second.returncode == 3
    assert "another command is at work" in second.stderr
    assert str(streaming.stream.process.pid if streaming.stream.process else "") in second.stderr


CLOCK = """
    create schema wrong;
    create table wrong.clock (ahead interval not null);
    insert into wrong.clock values ('0');
    create function wrong.clock_timestamp() returns timestamptz language sql volatile
        as 'select pg_catalog.clock_timestamp() + (select ahead from wrong.clock)';
"""


def test_a_clock_a_year_ahead_and_back(source: Source) -> None:
    """Heartbeats as a server makes them whose clock jumps: they are believed nowhere, and told."""
    from bilten_orchestration.backups.postgres.base import take
    from bilten_orchestration.backups.wal.audit import audit
    from bilten_orchestration.backups.wal.reach import reach

    def jump(ahead: str) -> None:
        source.execute(f"update wrong.clock set ahead = '{ahead}'")

    def first() -> BucketStatus:
        found, _ = source.stream.status()
        assert found is not None
        return found.buckets[0]

    source.execute(CLOCK)
    role = source.settings.postgres.user
    with embedded.superuser(source.server.cluster) as connection:
        connection.execute(f"alter role {role} set search_path = wrong, pg_catalog, public")
    take(source.settings)
    source.stream.start()
    source.write(5)
    before = source.await_reach(source.now())
    jump("1 year")
    source.write(5)
    until(lambda: "clocks" in " ".join(source.stream.status()[1]), "it is told")
    source.await_reach(before + timedelta(days=364))
    # a segment of its own: what the jump left is the newest heartbeat in the ones before
    source.write(40)
    (span,) = reach(source.settings).spans[:1]
    assert span.to < before + timedelta(minutes=5), "the map does not reach into next year"
    report = audit(source.settings)
    assert any("clock was ahead" in problem.what for problem in report.problems)

    jump("0")
    until(lambda: (at := first().reachable_until) and at < before + DAY, "the status to be of now")
    source.write(40)
    source.await_reach(source.now())
    until(lambda: "clocks" not in " ".join(source.stream.status()[1]), "clocks that agree")
    found = first().rpo_seconds
    assert found is not None
    assert found < 30
    # silence is seen again: the jump is no reserve of a year
    moment = source.now()
    (still,) = reach(source.settings).spans[:1]
    assert still.to < moment
    taken = take(source.settings)
    source.await_reach(source.now())
    last = [span for span in reach(source.settings).spans if span.bucket == still.bucket][-1]
    assert last.backups == (taken.manifest.id,)
    assert still.to < moment < last.begin < last.to < source.now()
