"""A recovery of rows that is killed: everything or nothing, and the next call says which."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from bilten_orchestration.backups import scratch
from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.progress import silent
from bilten_orchestration.recovery import beside, journal, rows, settled, writing
from tests.integration.recovery.conftest import Platform
from tests.kills import killed_before_line

pytestmark = pytest.mark.faults

DAMAGE = "update payments.payments set payment_method = 'cash'"


def _die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_everything_or_nothing_and_the_next_call_says_which(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = platform.content()
    bad, _ = platform.execute(DAMAGE)
    damaged = platform.content()
    platform.shipped()
    with scratch.place(platform.settings, "kept", "test", silent) as place:
        # restored once: what is killed here lies behind it
        found = beside.changes(platform.settings, bad, place, backup=None, bucket="first", progress=silent)
        monkeypatch.setattr(beside, "changes", lambda *_, **__: found)

        def run(*, execute: bool = True) -> rows.RowsReport:
            return rows.recover(
                platform.settings,
                "payments.payments",
                transaction=bad,
                execute=execute,
                rebuild=False,
                by="test",
            )

        def killed_at(module: object, name: str) -> None:
            def work() -> None:
                setattr(module, name, _die)
                run()

            assert killed_before_line(work, [], 1)

        # while it writes, behind the journal's entry
        number = 1
        while killed_before_line(run, [writing], number):
            assert platform.content() == damaged
            number += 15
            [*_, last] = run(execute=False).killed
            assert (last.done, last.transaction) == (False, bad)
        assert number > 30
        assert platform.content() == content
        assert run(execute=False).killed == ()  # the run that was not killed has settled them

        for module, name, done in (
            (beside, "changes", None),
            (journal, "begin", None),
            (writing, "apply", False),
            (journal, "end", True),
            (settled, "settle", None),
        ):
            platform.execute(DAMAGE)
            killed_at(rows if name == "settle" else module, name)
            told = run(execute=False)
            assert [each.done for each in told.killed] == ([] if done is None else [done])
            assert platform.content() == (content if name in ("end", "settle") else damaged)
            report = run()
            assert report.settled is not None
            assert report.settled.equal
            assert platform.content() == content
    with Opened.of(platform.settings, new=False) as opened:
        entries = journal.read(opened)
    outcomes = {str(entry.id): entry.ended and entry.ended["outcome"] for entry in entries}
    assert {name for name, outcome in outcomes.items() if outcome == "done"} == {
        name for (name,) in platform.ask("select id::text from system.recoveries")
    }
    assert set(outcomes.values()) == {"done", "nothing"}
