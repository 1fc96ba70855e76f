"""kill -9 at every step of rebuild, delta, rollback and removal: the same call again makes it whole."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from bilten_orchestration.errors import LockHeld, StoreUnavailable
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.search import loading, state
from bilten_orchestration.search.delta import delta
from bilten_orchestration.search.prune import prune
from bilten_orchestration.search.rollback import rollback
from bilten_orchestration.search.status import status
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import opensearch
from tests.integration.search.shopfront import Shopfront, rebuild
from tests.kills import killed_at_store, killed_when_told

pytestmark = pytest.mark.faults

STEPS = (
    "building events-",
    "ranges to load",
    "loaded 2 of",
    "documents in",
    "s behind",
    "gate counts",
    "gate size",
    "events_index is",
)


def whole(search: Settings, front: Shopfront) -> None:
    """Exact, and the record is the truth: one index serves, nobody holds the lease."""
    assert front.differing() == set()
    found = status(search)
    assert found.problems == ()
    assert found.lease_holder is None
    assert [index.name for index in found.indices if index.state == "serving"] == [found.index]


def killed_in(
    work: Callable[[Progress], object], module: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run `work` in a child that dies instead of calling `module.name`."""
    with monkeypatch.context() as deadly:
        deadly.setattr(module, name, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
        killed_when_told(work, "never told")


@pytest.mark.parametrize("step", STEPS)
def test_killed_in_a_rebuild(
    search: Settings, front: Shopfront, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "TELL_SECONDS", 0)
    first = rebuild(search).index
    front.edit(1, 100)
    killed_when_told(lambda told: rebuild(search, progress=told), step)
    if step != "events_index is":
        assert status(search).index == first
    front.edit(101, 200)
    report = rebuild(search)
    assert report.swapped
    assert report.resumed is (step != "events_index is")
    whole(search, front)


def test_killed_between_the_alias_and_its_record(
    search: Settings, front: Shopfront, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = rebuild(search).index
    killed_in(lambda told: rebuild(search, progress=told), state, "record_swap", monkeypatch)
    second = status(search).index
    assert second not in (None, first)
    front.edit(1, 100)
    delta(search)  # into the one that serves, and writes the swap down
    whole(search, front)
    assert [swap.reason for swap in status(search).swaps] == ["rebuild", "rebuild"]
    assert rollback(search).index == first
    whole(search, front)


@pytest.mark.parametrize("step", ["s behind", "gate content", "events_index is", "record"])
def test_killed_in_a_rollback(
    search: Settings, front: Shopfront, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = rebuild(search).index, rebuild(search).index
    front.edit(1, 200)
    if step == "record":
        killed_in(lambda told: rollback(search, progress=told), state, "record_swap", monkeypatch)
    else:
        killed_when_told(lambda told: rollback(search, progress=told), step)
    live = status(search).index
    assert live == (first if step in ("events_index is", "record") else second)
    delta(search)
    whole(search, front)
    if live == second:
        assert rollback(search).index == first
        whole(search, front)


def test_killed_while_removing(search: Settings, front: Shopfront, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = rebuild(search).index, rebuild(search).index
    front.run(
        "update system.search_indices set replaced_at = now() - interval '15 days' where index_name = %s",
        first,
    )
    killed_in(lambda told: prune(search, execute=True, progress=told), state, "forget", monkeypatch)
    client = opensearch.connect(search.opensearch)
    assert not client.indices.exists(index=first)
    assert prune(search, execute=True).removed == (first,)
    assert status(search).index == second
    whole(search, front)


def test_killed_at_every_turn_of_a_delta(search: Settings, front: Shopfront) -> None:
    small = search.model_copy(update={"search": search.search.model_copy(update={"bulk_bytes": 16 << 10})})
    rebuild(search)
    turn, killed = 0, True
    while killed:
        turn += 1
        first = 1 + turn * 7 % 280
        front.run(
            "update events.events set title = title || '.' where id in "
            "(select md5('event' || n)::uuid from generate_series(%s::int, %s::int) n)",
            first,
            first + 20,
        )
        killed = killed_at_store(lambda: delta(small), turn)
        if killed:
            delta(small)
        assert front.differing() == set(), f"turn {turn}"
    assert turn > 15
    whole(search, front)


def test_a_builder_that_hangs_loses_its_lease_and_does_no_harm_when_it_wakes(
    search: Settings, front: Shopfront, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "TELL_SECONDS", 0)
    search = search.model_copy(
        update={"search": search.search.model_copy(update={"lease_seconds": 3, "parallel": 1})}
    )

    def hang(text: str) -> None:
        if "loaded 1 of" in text:
            os.kill(os.getpid(), signal.SIGSTOP)

    child = os.fork()
    if child == 0:
        try:
            rebuild(search, progress=hang)
        except (LockHeld, StoreUnavailable):  # by whichever of its sessions it finds out
            os._exit(7)
        except BaseException:  # noqa: BLE001 nothing of pytest may run in the child
            import traceback

            traceback.print_exc()
        os._exit(1)
    try:
        _, stopped = os.waitpid(child, os.WUNTRACED)
        assert os.WIFSTOPPED(stopped)
        front.edit(1, 100)
        report = None
        while report is None:
            try:
                report = rebuild(search, progress=silent)
            except LockHeld:  # the lease has not run out yet
                continue
        assert report.swapped
        assert report.resumed
        front.edit(101, 150)
        delta(search)
    finally:
        os.kill(child, signal.SIGCONT)
        _, ended = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(ended) == 7
    assert status(search).index == report.index
    whole(search, front)
