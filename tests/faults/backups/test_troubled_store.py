"""Every engine, and the stream of WAL, before an object store that is away, failing, slow, full or lying.

After each: nothing good is lost, nothing bad is listed, no server of ours is still at it, and the next backup
is whole.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from functools import partial

import pytest

from bilten_orchestration.backups.clickhouse import operations
from bilten_orchestration.backups.repository.manifest import Manifest
from bilten_orchestration.backups.retention.prune import prune
from bilten_orchestration.backups.wal import status as statuses
from bilten_orchestration.errors import Mismatch, StoreFull, TransientError
from tests.conftest import Servers
from tests.integration.backups import engines
from tests.integration.backups.engines import Engine
from tests.integration.backups.troubled_store import Request, TroubledStore, before
from tests.integration.backups.wal.conftest import Source
from tests.integration.backups.wal.test_stream import no_gap
from tests.waiting import until

pytestmark = pytest.mark.faults
AWAY_SECONDS = 30
STREAM_AWAY_SECONDS = 60
# of an engine, from the store's return or its own giving up to its end
SOON_SECONDS = 25

# what goes through us, and what the server itself writes
SHAPES = pytest.mark.parametrize("engine", ["postgres", "clickhouse"], indirect=True)


@pytest.fixture(scope="module")
def each_engine(servers: Servers) -> Iterator[Callable[[str], Engine]]:
    with ExitStack() as stack:
        made: dict[str, Engine] = {}

        def of(name: str) -> Engine:
            if name not in made:
                made[name] = stack.enter_context(engines.engine(servers, name))
            return made[name]

        yield of


@pytest.fixture(params=engines.NAMES)
def engine(request: pytest.FixtureRequest, each_engine: Callable[[str], Engine]) -> Iterator[Engine]:
    """One for all tests of its kind, which leave its store well."""
    found = each_engine(request.param)
    found.troubled.well()
    yield found
    found.troubled.well()


def content(request: Request) -> bool:
    return request.writes_content


def test_away_for_half_a_minute(each_engine: Callable[[str], Engine]) -> None:
    """Each goes on where it was, and does not begin again. All at once: it is the waiting that takes time."""

    def one(engine: Engine) -> tuple[Manifest, list[str], float]:
        told: list[str] = []
        away: list[float] = []

        def go() -> None:
            away.append(time.monotonic())
            engine.troubled.away()
            threading.Timer(AWAY_SECONDS, engine.troubled.back).start()

        engine.troubled.once(content, go, number=3)
        taken = engine.take(progress=told.append)
        assert away, "it was over before the store went away"
        return taken, told, time.monotonic() - away[0]

    all_of_them = [each_engine(name) for name in engines.NAMES]
    listed = [engine.listed() for engine in all_of_them]
    with ThreadPoolExecutor(len(all_of_them)) as pool:
        done = list(pool.map(one, all_of_them))
    for engine, before_, (taken, told, seconds) in zip(all_of_them, listed, done, strict=True):
        assert AWAY_SECONDS < seconds < AWAY_SECONDS + SOON_SECONDS, engine.name
        assert any("waiting for it" in text for text in told), told
        assert engine.listed() == [*before_, taken.id]
        engine.proves(taken)


@pytest.mark.parametrize("trouble", ["gone", "500"])
def test_for_good(engine: Engine, trouble: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends in bounded time, and leaves nothing that retention does not sweep."""
    monkeypatch.setattr(operations, "_QUIET_SECONDS", 1.0)
    good = engine.take()
    listed = engine.listed()
    begins = {
        "gone": engine.troubled.away,
        "500": lambda: engine.troubled.fails(status=500, code="InternalError"),
    }[trouble]
    engine.troubled.once(content, begins, number=3)
    began = time.monotonic()
    with pytest.raises(TransientError):
        engine.take(engine.impatient(2))
    assert time.monotonic() - began < SOON_SECONDS
    engine.await_idle()
    engine.troubled.well()
    assert engine.listed() == listed
    engine.proves(good)
    engine.sweep()
    assert engine.listed() == listed


@SHAPES
def test_failing_for_a_while(engine: Engine) -> None:
    listed = engine.listed()
    engine.troubled.once(content, lambda: engine.troubled.fails(times=6), number=2)
    taken = engine.take()
    assert engine.listed() == [*listed, taken.id]
    engine.proves(taken)


@SHAPES
def test_slow(engine: Engine) -> None:
    """Through, and who looks meanwhile is answered."""
    listed = engine.listed()
    size = engine.take().stored_bytes
    seconds: list[float] = []

    def look() -> None:
        began = time.monotonic()
        engine.listed(engine.settings)
        seconds.append(time.monotonic() - began)

    engine.troubled.slow(size // 4)
    looks = threading.Timer(1.0, look)
    looks.start()
    began = time.monotonic()
    taken = engine.take()
    assert time.monotonic() - began > 3
    engine.troubled.well()
    looks.join()
    assert seconds
    assert seconds[0] < 6
    assert engine.listed()[len(listed) + 1 :] == [taken.id]
    engine.proves(taken)


def test_full(engine: Engine) -> None:
    """Refused at once in words of its own; with room the next one is whole."""
    listed = engine.listed()
    # the others hear the same words from the same place
    refusals = [(507, "XMinioStorageFull"), (403, "QuotaExceeded")][: 2 if engine.name == "clickhouse" else 1]
    for status, code in refusals:
        engine.troubled.once(content, partial(engine.troubled.full, status=status, code=code), number=3)
        began = time.monotonic()
        with pytest.raises(StoreFull, match="no room") as refused:
            engine.take()
        assert time.monotonic() - began < SOON_SECONDS
        assert "bilten backup prune" in refused.value.problems[0].next
        engine.await_idle()
        engine.troubled.well()
    assert engine.listed() == listed
    taken = engine.take()
    assert engine.listed() == [*listed, taken.id]
    engine.proves(taken)
    engine.sweep()


def test_an_empty_listing(engine: Engine) -> None:
    """Nothing is listed, nothing is removed; what builds on another backup is none, or begins anew."""
    engine.take()
    listed = engine.listed()
    names = engine.names()
    engine.troubled.lists_nothing()
    assert engine.listed(engine.settings) == []
    hasty = engine.settings.backups.model_copy(update={"orphan_grace_hours": 0})
    report = prune(engine.settings.model_copy(update={"backups": hasty}), execute=True, by="a test")
    assert (report.backups_going, report.removed_objects) == (0, 0)
    assert set(engine.names()) >= set(names)
    if engine.name == "postgres":
        taken = engine.take(kind="incremental")
        assert (taken.kind, taken.parent) == ("full", None)
        listed.append(taken.id)
    elif engine.name == "clickhouse":
        with pytest.raises(Mismatch, match="is not there"):
            engine.take(kind="incremental")
    engine.troubled.well()
    assert engine.listed() == listed


@pytest.fixture
def troubled(source: Source) -> Iterator[TroubledStore]:
    """Before the store that the stream writes to."""
    with before(source.settings.object_store) as found:
        source.stream.environment["BILTEN_OBJECT_STORE__ENDPOINT_URL"] = found.address
        source.stream.start()
        yield found


def _told(source: Source, word: str) -> bool:
    return word in " ".join(source.stream.status()[1])


def test_the_stream_has_no_end_of_patience(source: Source, troubled: TroubledStore) -> None:
    """Nothing counts attempts. What does not fit into the spool waits in PostgreSQL, and all of it comes."""
    source.stream.kill()
    source.stream.environment["BILTEN_BACKUPS__WAL_SPOOL_BYTES"] = str(64 << 20)
    source.stream.start()
    source.await_reach(source.now())
    process = source.stream.process
    assert process is not None
    troubled.away()
    ends = time.monotonic() + STREAM_AWAY_SECONDS
    source.write(120)
    until(lambda: _told(source, "does not serve"), "it is told")
    until(lambda: _told(source, "the spool of WAL is full"), "a full spool")
    while time.monotonic() < ends:
        found, _ = source.stream.status()
        assert found is not None
        assert (found.pid, process.poll()) == (process.pid, None)
        assert found.state != "halted"
        assert source.now() - found.at < timedelta(seconds=30) < statuses.STALE, "it has gone silent"
        time.sleep(1)
    troubled.back()
    source.await_reach(source.now(), seconds=30)
    no_gap(source.pieces())
    until(lambda: source.stream.status()[1] == (), "no problem left")


def test_the_stream_is_refused_and_goes_on(source: Source, troubled: TroubledStore) -> None:
    source.await_reach(source.now())
    refusals: list[tuple[Callable[[], None], str]] = [
        (troubled.full, "no room"),
        (lambda: troubled.fails(status=500, code="InternalError"), "does not serve"),
    ]
    for begins, word in refusals:
        begins()
        source.write(20)
        until(partial(_told, source, word), "it is told")
        troubled.well()
        source.await_reach(source.now(), seconds=15)
        until(lambda: source.stream.status()[1] == (), "no problem left")
    no_gap(source.pieces())


def test_the_stream_before_an_empty_listing(source: Source, troubled: TroubledStore) -> None:
    """It neither stops nor takes itself for a second writer."""
    source.write(20)
    source.await_reach(source.now())
    before_ = {piece.name for piece in source.pieces()}
    troubled.lists_nothing()
    source.write(20)
    source.await_reach(source.now())
    source.stream.kill()
    source.stream.start()
    source.write(5)
    source.await_reach(source.now())
    found, problems = source.stream.status()
    assert found is not None
    assert (found.state, problems) == ("streaming", ())
    troubled.well()
    source.write(20)
    source.await_reach(source.now())
    pieces = source.pieces()
    no_gap(pieces)
    assert {name for name in before_ if ".01000000." in name} <= {piece.name for piece in pieces}
    assert source.stream.status()[1] == ()
