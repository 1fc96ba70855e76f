"""WAL into the repository by a real service, from a real server."""

from __future__ import annotations

import shutil

from bilten_orchestration.backups.wal import coverage, positions
from bilten_orchestration.backups.wal.archive import Piece, best
from bilten_orchestration.local import postgres as embedded
from tests.integration.backups.wal.conftest import Source, until

SEGMENT = positions.SEGMENT_BYTES


def _no_gap(pieces: list[Piece]) -> None:
    """On timeline 1, from the first piece to the last."""
    found = best(piece for piece in pieces if piece.is_segment and piece.timeline == 1)
    begin, end = min(p.begin for p in found.values()), max(p.end for p in found.values())
    assert coverage.gaps(found, positions.path_to(1, ()), begin, end, SEGMENT) == ()


def test_what_is_committed_is_in_both_buckets_within_seconds(streaming: Source) -> None:
    streaming.write(40)
    moment = streaming.now()
    for number, bucket in enumerate(("first", "copy")):
        assert streaming.await_reach(moment, number) >= moment
        pieces = streaming.pieces(bucket)
        _no_gap(pieces)
        whole = [piece for piece in pieces if piece.whole]
        assert len(whole) >= 2
        # parts of a segment that is whole by now are gone
        assert len({piece.file for piece in pieces}) >= len(pieces) - 1
    found, problems = streaming.stream.status()
    assert problems == ()
    assert found is not None
    assert (found.state, found.timeline) == ("streaming", 1)
    samples = until(
        "samples", lambda: streaming.execute("select bucket, rpo_seconds from system.rpo_samples")
    )
    assert {bucket for bucket, _ in samples} == set(streaming.settings.object_store.buckets[:2])


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

    assert until("the slot `shipped`", slots)["shipped"] > SEGMENT


def test_a_kill_loses_nothing(streaming: Source) -> None:
    """kill -9 of the service and pg_receivewal, with writes before, between and after."""
    streaming.write(20)
    streaming.stream.kill()
    streaming.write(40)
    streaming.stream.start()
    streaming.write(5)
    streaming.await_reach(streaming.now())
    _no_gap(streaming.pieces())
    assert streaming.stream.status()[1] == ()


def test_the_server_is_killed_and_comes_back(streaming: Source) -> None:
    streaming.write(20)
    streaming.server.kill()
    until("the service to tell it", lambda: streaming.stream.status()[1])
    streaming.server.start()
    streaming.write(20)
    streaming.await_reach(streaming.now())
    _no_gap(streaming.pieces())
    until("no problem left", lambda: streaming.stream.status()[1] == ())


def test_a_lost_spool_is_received_anew(streaming: Source) -> None:
    streaming.write(20)
    streaming.await_reach(streaming.now())
    streaming.stream.kill()
    streaming.write(40)
    shutil.rmtree(streaming.settings.home / "wal-spool")
    streaming.stream.start()
    streaming.await_reach(streaming.now())
    _no_gap(streaming.pieces())
    assert streaming.stream.status()[1] == ()


def test_a_promotion_is_followed(streaming: Source) -> None:
    """The same server goes on on timeline 2: its history is kept, and nothing is missing over the switch."""
    streaming.write(20)
    streaming.await_reach(streaming.now())
    streaming.server.stop()
    (streaming.server.cluster.data / "standby.signal").touch()
    streaming.server.start()
    with embedded.superuser(streaming.server.cluster) as connection:
        connection.execute("select pg_promote()")
    until(
        "the promotion",
        lambda: streaming.execute("select timeline_id = 2 from pg_control_checkpoint()") == [(True,)],
    )
    streaming.write(20)
    streaming.await_reach(streaming.now())
    until("timeline 2", lambda: _timeline(streaming) == 2)
    pieces = streaming.pieces()
    assert [piece.file for piece in pieces if not piece.is_segment] == ["00000002.history"]
    (switch,) = _history(streaming)
    found = best(piece for piece in pieces if piece.is_segment)
    path = positions.path_to(2, [switch])
    begin, end = min(p.begin for p in found.values()), max(p.end for p in found.values() if p.timeline == 2)
    assert coverage.gaps(found, path, begin, end, SEGMENT) == ()


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
    until("a full spool", lambda: "the spool of WAL is full" in " ".join(source.stream.status()[1]))
    found, problems = source.stream.status()
    assert found is not None
    assert found.spool_bytes <= (64 << 20) + 3 * SEGMENT
    assert any("does not serve" in problem for problem in problems)
    source.stream.stop()
    source.stream.environment["BILTEN_OBJECT_STORE__ENDPOINT_URL"] = address
    source.stream.start()
    source.await_reach(source.now())
    pieces = source.pieces()
    _no_gap(pieces)
    assert len({piece.file for piece in pieces}) >= 150 * 900_000 // SEGMENT


def test_a_second_writer_stops_it(streaming: Source) -> None:
    """A copy of the server, on the same timeline, streams into the same bucket."""
    from bilten_orchestration.backups.opened import Opened
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
    until("it stops", lambda: getattr(streaming.stream.status()[0], "state", "") == "halted")
    _, problems = streaming.stream.status()
    assert any("somebody else writes WAL" in problem for problem in problems)
    # neither of the two was overwritten or removed
    (other,) = [piece for piece in streaming.pieces() if piece.file == following]
    with Opened.of(streaming.settings) as opened:
        archive = Archive(opened.repository, opened.cipher, identifier, newest.segment_bytes)
        assert archive.contents(other) == b"other bytes"


def _timeline(source: Source) -> int | None:
    found, _ = source.stream.status()
    return None if found is None else found.timeline


def _history(source: Source) -> tuple[positions.Switch, ...]:
    from bilten_orchestration.backups.opened import Opened
    from bilten_orchestration.backups.wal.archive import Archive, servers

    with Opened.of(source.settings) as opened:
        ((identifier, size),) = servers(opened.repository)
        archive = Archive(opened.repository, opened.cipher, identifier, size)
        (piece,) = archive.pieces(positions.history_name(2))
        return archive.history_of(piece)
