"""A watchdog that is killed: nothing is lost, and nothing is told twice that was told."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bilten_orchestration.errors import LockHeld
from bilten_orchestration.observability import watchdog
from bilten_orchestration.observability.ledger import Ledger
from bilten_orchestration.settings import Settings
from bilten_orchestration.settings.loading import as_environment
from tests.integration.observability.conftest import Told, Watched, alerting, trouble
from tests.integration.observability.receivers import MailServer, Webhook
from tests.waiting import until

ROOT = Path(__file__).parents[3]

# a watchdog that finds what the lines of a file name, and kills itself at a step where it is told to
CHILD = """
import os, signal, sys, threading
from pathlib import Path
from bilten_orchestration.observability import delivery, ledger, watchdog
from bilten_orchestration.settings.loading import load_settings
from tests.integration.observability.conftest import Told, trouble

file, step = Path(sys.argv[1]), sys.argv[2]
watchdog.JUDGE_SECONDS = delivery.TICK_SECONDS = 0.1

class Named(Told):
    def read(self):
        self.findings = [trouble(key) for key in file.read_text().split()]
        return super().read()

def dying(kind, name, before):
    whole = getattr(kind, name)
    def die(*arguments, **named):
        if before:
            os.kill(os.getpid(), signal.SIGKILL)
        found = whole(*arguments, **named)
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(kind, name, die)

place, _, when = step.partition(" ")
if place != "never":
    dying(ledger.Ledger, place, when == "before")
stop = threading.Event()
with watchdog.opened(load_settings(), stop, print, sources=lambda *_: [Named()]) as running:
    running.start()
    print("at work", flush=True)
    stop.wait()
"""


@contextmanager
def child(settings: Settings, file: Path, step: str = "never") -> Iterator[subprocess.Popen[str]]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BILTEN_")}
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(file), step],
        env={
            **environment,
            **as_environment(settings),
            "BILTEN_HOME": str(settings.home),
            "PYTHONPATH": str(ROOT),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.communicate(timeout=60)


def killed(settings: Settings, file: Path, step: str) -> None:
    with child(settings, file, step) as process:
        assert process.wait(timeout=120) == -signal.SIGKILL


def test_a_killed_watchdog_knows_what_it_told(tmp_path: Path, hook: Webhook) -> None:
    settings, file = alerting(tmp_path / "home", hook.url), tmp_path / "keys"
    file.write_text("a b")
    with child(settings, file) as process:
        until(lambda: len(hook.posts) == 2, "both are told")
        # it was written that they are sent: else this is the test below
        until(lambda: _counts(settings) == {"sent": 2}, "written")
        process.kill()
    file.write_text("b c")
    with child(settings, file):
        until(lambda: len(hook.posts) == 4, "what changed meanwhile is told")
        until(lambda: _counts(settings) == {"sent": 4}, "written")
    told = sorted((_key(post["message"]), post["type"]) for post in hook.posts)
    assert told == [("a", "failure"), ("a", "success"), ("b", "failure"), ("c", "failure")]


@pytest.mark.parametrize(
    ("step", "twice"),
    [
        pytest.param("save before", False, marks=pytest.mark.faults),  # nothing is known yet
        pytest.param("save after", False, marks=pytest.mark.faults),  # case 1: it waits
        pytest.param("sending before", False, marks=pytest.mark.faults),
        # it says that it may be a repetition, and is none
        pytest.param("sending after", False, marks=pytest.mark.faults),
        ("sent before", True),  # case 2: nobody knows whether it arrived
        pytest.param("sent after", False, marks=pytest.mark.faults),  # case 3
    ],
)
def test_a_kill_at_every_step_of_a_message(tmp_path: Path, hook: Webhook, step: str, twice: bool) -> None:
    settings, file = alerting(tmp_path / "home", hook.url), tmp_path / "keys"
    file.write_text("a")
    killed(settings, file, step)
    with child(settings, file):
        until(lambda: _counts(settings) == {"sent": 1}, "it is told")
        file.write_text("a b")  # what comes later comes once
        until(lambda: _counts(settings) == {"sent": 2}, "the next one")
    keys = [_key(post["message"]) for post in hook.posts]
    assert keys == ["a", "a", "b"] if twice else keys == ["a", "b"]
    said = ["you may have read it before" in post["message"] for post in hook.posts]
    assert said == ([False, True, False] if twice else [step == "sending after", False])


def test_a_second_watchdog_in_the_same_place_is_refused(tmp_path: Path, quick: Watched) -> None:
    settings = alerting(tmp_path)
    with quick(settings, [Told()]), pytest.raises(LockHeld), quick(settings, [Told()]):
        pass


def test_a_full_disk_is_told_with_the_ballast(
    tmp_path: Path, mails: MailServer, quick: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sqlite3

    source = Told()
    with quick(alerting(tmp_path, mails.url), [source]) as running:
        ballast = watchdog.directory(alerting(tmp_path)) / "ballast"
        assert ballast.stat().st_size == 4 << 20
        with running.ledger._guard:  # shared with the thread: errors are the last call's
            limit = _pages(running.ledger)
            running.ledger._connection.execute(f"pragma max_page_count = {limit}")
            with pytest.raises(sqlite3.OperationalError, match="full"):
                running.ledger._connection.execute("create table filler as select zeroblob(100000)")
        whole = Path.unlink

        def unlink(path: Path, missing_ok: bool = False) -> None:
            if path == ballast:  # room, as on a disk
                running.ledger._connection.execute(f"pragma max_page_count = {limit + 100}")
            whole(path, missing_ok)

        monkeypatch.setattr(Path, "unlink", unlink)
        source.findings = [trouble(f"disk/{number}", problem=trouble().problem) for number in range(40)]
        until(lambda: mails.mails, "it is told")
    assert not ballast.exists()


def _pages(ledger: Ledger) -> int:
    return int(ledger._connection.execute("pragma page_count").fetchone()[0])


def _counts(settings: Settings) -> dict[str, int]:
    """Messages by state, read beside the watchdog."""
    import sqlite3

    from bilten_orchestration.observability.ledger import place

    path = place(watchdog.directory(settings))
    if not path.exists():
        return {}
    connection = sqlite3.connect(path, timeout=10)
    try:
        found = connection.execute("select state, count(*) from message group by state").fetchall()
    except sqlite3.OperationalError:  # it makes the tables just now
        return {}
    finally:
        connection.close()
    return dict(found)


def _key(message: str) -> str:
    return message.rpartition("incident: ")[2].split()[0]
