"""WAL into the repository by a real service, from a real server."""

from __future__ import annotations

import subprocess
from pathlib import Path

from bilten_orchestration.backups.postgres import programs
from bilten_orchestration.backups.wal import coverage, positions
from bilten_orchestration.backups.wal.archive import Piece, best
from bilten_orchestration.local import postgres as embedded
from tests.integration.backups.wal.conftest import Source
from tests.waiting import until

SEGMENT = positions.SEGMENT_BYTES


def no_gap(pieces: list[Piece]) -> None:
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
        no_gap(pieces)
        whole = [piece for piece in pieces if piece.whole]
        assert len(whole) >= 2
        # parts of a segment that is whole by now are gone
        assert len({piece.file for piece in pieces}) >= len(pieces) - 1
    found, problems = streaming.stream.status()
    assert problems == ()
    assert found is not None
    assert (found.state, found.timeline) == ("streaming", 1)
    samples = until(
        lambda: streaming.execute("select bucket, rpo_seconds from system.rpo_samples"), "samples"
    )
    assert {bucket for bucket, _ in samples} == set(streaming.settings.object_store.buckets[:2])


def test_a_kill_loses_nothing(streaming: Source) -> None:
    """kill -9 of the service, with writes before, between and after: nothing of it goes on without it."""
    streaming.write(20)
    streaming.stream.kill()
    streaming.write(40)
    streaming.stream.start()
    streaming.write(5)
    streaming.await_reach(streaming.now())
    no_gap(streaming.pieces())
    assert streaming.stream.status()[1] == ()


def test_whoever_was_left_at_the_slot_is_ended(streaming: Source, tmp_path: Path) -> None:
    """A pg_receivewal whose service is gone, on another machine say: PostgreSQL has not noticed."""
    streaming.await_reach(streaming.now())
    streaming.stream.kill()
    with programs.connection_arguments(streaming.settings.postgres, "left over") as (conninfo, environment):
        left = subprocess.Popen(
            [
                programs.directory(streaming.settings.postgres, 18) / "pg_receivewal",
                f"--dbname={conninfo}",
                f"--directory={tmp_path}",
                "--slot=stream",
                "--no-loop",
            ],
            env=environment,
        )
        until(
            lambda: streaming.execute("select active_pid from pg_replication_slots where active_pid > 0"),
            "the slot in use",
        )
        streaming.stream.start()
        assert left.wait(30) != 0
    streaming.write(5)
    streaming.await_reach(streaming.now())
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
        lambda: streaming.execute("select timeline_id = 2 from pg_control_checkpoint()") == [(True,)],
        "the promotion",
    )
    streaming.write(20)
    streaming.await_reach(streaming.now())
    until(lambda: _timeline(streaming) == 2, "timeline 2")
    pieces = streaming.pieces()
    assert [piece.file for piece in pieces if not piece.is_segment] == ["00000002.history"]
    (switch,) = _history(streaming)
    found = best(piece for piece in pieces if piece.is_segment)
    path = positions.path_to(2, [switch])
    begin, end = min(p.begin for p in found.values()), max(p.end for p in found.values() if p.timeline == 2)
    assert coverage.gaps(found, path, begin, end, SEGMENT) == ()


def _timeline(source: Source) -> int | None:
    found, _ = source.stream.status()
    return None if found is None else found.timeline


def _history(source: Source) -> tuple[positions.Switch, ...]:
    from bilten_orchestration.backups.repository.opened import Opened
    from bilten_orchestration.backups.wal.archive import Archive, servers

    with Opened.of(source.settings) as opened:
        ((identifier, size),) = servers(opened.repository)
        archive = Archive(opened.repository, opened.cipher, identifier, size)
        (piece,) = archive.pieces(positions.history_name(2))
        return archive.history_of(piece)
