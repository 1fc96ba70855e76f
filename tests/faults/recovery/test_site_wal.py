"""A lost PostgreSQL, and WAL that is not what it should be: nothing is called equal that came back short."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bilten_orchestration.backups.postgres import private, programs
from bilten_orchestration.backups.postgres.base import take
from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.backups.wal.archive import Archive, Piece, servers
from bilten_orchestration.errors import Mismatch, Refused
from bilten_orchestration.progress import silent
from bilten_orchestration.recovery import site, site_state
from bilten_orchestration.recovery.site_plan import data_directory
from bilten_orchestration.settings import Settings
from tests.integration.backups.wal.conftest import Source

pytestmark = pytest.mark.faults


class Servers(Exception):
    """Everything before the servers was done: no more is wanted here."""


@pytest.fixture(scope="module")
def traded(module_source: Source) -> Source:
    """A backup, and some whole segments behind it; nobody writes any more."""
    source = module_source
    source.stream.start()
    take(source.settings, "full")
    source.write(20)
    source.await_reach(source.now())  # a heartbeat lies between
    source.write(30)
    source.await_reach(source.now())
    source.stream.stop()
    return source


@pytest.fixture
def away(traded: Source) -> Iterator[Settings]:
    """An empty machine with the key file."""
    home = traded.base / "another"
    home.mkdir(mode=0o755)
    shutil.copy(traded.settings.home / "backup-keys.json", home / "backup-keys.json")
    yield traded.settings.model_copy(update={"home": home})
    shutil.rmtree(home)


def _segments(source: Source) -> list[Piece]:
    return sorted(
        (piece for piece in source.pieces() if piece.whole and piece.is_segment), key=lambda each: each.file
    )


@contextmanager
def _exchanged(source: Source, piece: Piece, *, damaged: bool) -> Iterator[None]:
    """Without that segment, or with another one in its place: whole, signed, with records that are none."""
    with Opened.of(source.settings) as opened:
        [(identifier, size)] = servers(opened.repository)
        archive = Archive(opened.repository, opened.cipher, identifier, size)
        body = archive.contents(piece)
        opened.repository.remove(piece.name)
        bad = None
        if damaged:
            middle = size // 2
            contents = body[:middle] + bytes(each ^ 0xFF for each in body[middle : middle + 4096])
            bad = archive.seal(piece.file, contents + body[middle + 4096 :], piece.beat_at)
            archive.store(bad)
        try:
            yield
        finally:
            if bad is not None:
                opened.repository.remove(bad.piece.name)
            archive.store(archive.seal(piece.file, body, piece.beat_at))


def _recover(settings: Settings, **more: Any) -> Any:
    def start(_: Settings) -> Settings:
        raise Servers

    return site.recover(settings, ("postgres",), bucket="first", execute=True, start=start, **more)


def _rows(settings: Settings) -> int:
    directory = data_directory(settings) / "postgres"
    found = programs.directory(settings.postgres, int((directory / "PG_VERSION").read_text()))
    running = private.start(directory, found, settings.postgres, private.owner_of(directory), silent)
    try:
        with running.connect() as connection:
            row = connection.execute("select count(*) from kept").fetchone()
    finally:
        private.stop(directory)
    assert row is not None
    return int(row[0])


def _set_aside(directory: Path) -> None:
    directory.rename(directory.with_name("postgres.short"))


def test_a_gap_is_in_the_plan_and_ends_nothing_in_silence(traded: Source, away: Settings) -> None:
    with _exchanged(traded, _segments(traded)[-1], damaged=False):
        planned = site.recover(away, ("postgres",), bucket="first", start=lambda settings: settings)
        [problem] = planned.problems
        assert "the end of WAL cannot be restored" in problem.what
        moment = problem.next.rpartition("--target-time ")[2]

        def make_way() -> None:
            raise AssertionError("nothing is stopped for what is refused")

        with pytest.raises(Refused, match="the end of WAL cannot be restored"):
            _recover(away, make_way=make_way)
        assert site_state.read(away) is None
        with pytest.raises(Servers):
            _recover(away, until=moment)
    state = site_state.read(away)
    assert state is not None
    assert (state.until, state.done) == (moment, ("postgres", "epoch"))
    assert 20_000 <= _rows(away) < 50_000


def test_wal_that_only_this_machine_has_comes_back_too(traded: Source, away: Settings) -> None:
    whole = _segments(traded)[-1]
    behind = [piece for piece in traded.pieces() if piece.is_segment and piece.begin >= whole.begin]
    with Opened.of(traded.settings) as opened:
        [(identifier, size)] = servers(opened.repository)
        archive = Archive(opened.repository, opened.cipher, identifier, size)
        spool = away.home / "wal-spool" / identifier / "000001"
        spool.mkdir(parents=True)
        for piece in behind:
            name = piece.file if piece.whole else f"{piece.file}.partial"
            (spool / name).write_bytes(archive.contents(piece).ljust(size, b"\0"))
            opened.repository.remove(piece.name)
    received = sorted(path.name for path in spool.iterdir())
    planned = site.recover(away, ("postgres",), bucket="first", start=lambda settings: settings)
    assert planned.problems == ()
    [store] = planned.plan.stores
    assert store.spool is not None
    assert store.spool.segments == len(behind)
    assert "WAL that only this machine has" in planned.plan.steps[0]
    assert {piece.name for piece in traded.pieces()}.isdisjoint(piece.name for piece in behind)
    with pytest.raises(Servers):
        _recover(away)
    assert _rows(away) == 50_000
    assert {(piece.file, piece.end_offset) for piece in behind} <= {
        (piece.file, piece.end_offset) for piece in traded.pieces()
    }
    # it is the stream's, for the first bucket; links are gone
    assert sorted(path.name for path in spool.iterdir()) == received
    assert [path.name for path in (away.home / "wal-spool").iterdir()] == [identifier]


def test_a_replay_that_ends_early_is_no_recovery(traded: Source, away: Settings) -> None:
    with _exchanged(traded, _segments(traded)[-2], damaged=True):
        for _ in range(2):
            with pytest.raises(Mismatch, match="recovery ended before the last record that is stored"):
                _recover(away)
            state = site_state.read(away)
            assert state is not None
            assert state.done == ("postgres",)
    _set_aside(data_directory(away) / "postgres")
    with pytest.raises(Servers):
        _recover(away)
    state = site_state.read(away)
    assert state is not None
    assert state.reached_at is not None
    assert _rows(away) == 50_000
