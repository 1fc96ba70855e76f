"""A drill in a process of its own that is killed at an exact step, and the drill that comes after it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from bilten_orchestration.backups.postgres import private
from bilten_orchestration.backups.repository.manifest import Store
from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.drills import attestation
from bilten_orchestration.drills.run import run
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from tests.integration.drills.at_work import at_work_in

#: It kills itself: at the entry of a phase, when it says something that begins so, instead of a call, or with
#: a program under way (`running`). One that writes files is stopped first (`program`): it stands for one that
#: would work on for as long as anybody lets it.
_DRILL = """
import importlib, os, signal, subprocess, sys
from bilten_orchestration.drills.course import Course
from bilten_orchestration.drills.run import run
from bilten_orchestration.settings.loading import load_settings

store, way, kind, what = sys.argv[1:]
kill = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)

def progress(text):
    print(text, flush=True)
    if kind == "said" and text.startswith(what):
        kill()

if kind == "phase":
    whole = Course.phase
    Course.phase = lambda course, name: kill() if name == what else whole(course, name)
elif kind == "call":
    module, *path, name = what.split(":")
    holder = importlib.import_module("bilten_orchestration." + module)
    for part in path:
        holder = getattr(holder, part)
    getattr(holder, name)
    setattr(holder, name, kill)
elif kind in ("program", "running"):
    start = subprocess.Popen.__init__

    def started(process, arguments, *more, **named):
        start(process, arguments, *more, **named)
        if os.path.basename(os.fspath(arguments[0])) == what:
            if kind == "program":
                os.kill(process.pid, signal.SIGSTOP)
            kill()

    subprocess.Popen.__init__ = started
run(load_settings(), store, way=way, progress=progress)
"""


class Enough(Exception):
    """What is to be seen of the next drill was seen."""


@dataclass(frozen=True)
class Killed:
    """`said` is everything that it told until then."""

    settings: Settings
    store: Store
    way: str
    said: list[str]

    @property
    def place(self) -> Path:
        return self.settings.home / f"drill-{self.store}"


def kill(settings: Settings, environment: dict[str, str], store: Store, way: str, at: str) -> Killed:
    """Hold a drill until `at` (`phase`, `said`, `call`, `program` or `running`, and what): there it dies."""
    kind, _, what = at.partition(" ")
    done = subprocess.run(
        [sys.executable, "-c", _DRILL, store, way, kind, what],
        env=environment | {"PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, f"it came to its end: {done.stdout}{done.stderr}"
    return Killed(settings, store, way, done.stdout.splitlines())


def next_one_cleans_up(killed: Killed) -> None:
    """The next drill, up to where it begins to walk: it says what it found, nothing is left, and the one that
    was killed is attested and recorded as one that failed."""
    sockets = [
        Path(json.loads(record.read_text())["socket"]) for record in killed.place.glob(f"*/{private.RECORD}")
    ]
    told: list[str] = []

    def progress(text: str) -> None:
        told.append(text)
        if text.startswith(f"drill of {killed.store}"):
            assert at_work_in(killed.place) == []
            assert list(killed.place.iterdir()) == []
            raise Enough

    with pytest.raises(Enough):
        run(killed.settings, killed.store, way=killed.way, progress=progress)
    assert any(f"a `bilten drill run {killed.store}` that was killed left" in line for line in told), told
    assert any(f"({killed.way}) did not come to its end: told as failed" in line for line in told), told
    assert not killed.place.exists()
    assert [socket for socket in sockets if socket.exists()] == []
    with Opened.of(killed.settings, new=False) as opened:
        series = attestation.read(opened.repository, opened.ring, killed.store)
    assert series.problems == ()
    report = series.drills[-1].report
    assert (report.ok, report.way, report.failed_phase) == (False, killed.way, "killed")
    assert rows(killed.settings)[-1] == (report.id, False)


def rows(settings: Settings) -> list[tuple[str, bool | None]]:
    """Of system.restore_drills: which drills, and whether they passed."""
    with postgres.connect(settings.postgres) as connection:
        return connection.execute(
            "select id::text, ok from system.restore_drills order by started_at, id"
        ).fetchall()
