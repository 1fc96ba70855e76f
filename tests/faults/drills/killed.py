"""A drill in a process of its own that is killed at an exact step, and the drill that comes after it."""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bilten_orchestration.backups.postgres import private
from bilten_orchestration.backups.repository.manifest import Store
from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.drills import attestation
from bilten_orchestration.drills.course import Course
from bilten_orchestration.drills.run import run
from bilten_orchestration.progress import Progress
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from tests.kills import NEVER, killed_when_told
from tests.processes import at_work_in


def _die_at(kind: str, what: str) -> None:
    """At the entry of a phase, instead of a call, or with a program under way (`running`).

    One that writes files is stopped first (`program`): it stands for one that would work on for as long as
    anybody lets it.
    """

    def die(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    if kind == "phase":
        whole = Course.phase
        die_or_enter: Any = lambda course, name: die() if name == what else whole(course, name)  # noqa: E731
        setattr(Course, "phase", die_or_enter)  # noqa: B010 a method of a class
    elif kind == "call":
        module, *path, name = what.split(":")
        holder: Any = importlib.import_module(f"bilten_orchestration.{module}")
        for part in path:
            holder = getattr(holder, part)
        getattr(holder, name)
        setattr(holder, name, die)
    elif kind in ("program", "running"):
        start: Any = subprocess.Popen.__init__

        def started(process: Any, arguments: Any, *more: Any, **named: Any) -> None:
            start(process, arguments, *more, **named)
            if Path(os.fspath(arguments[0])).name == what:
                if kind == "program":
                    os.kill(process.pid, signal.SIGSTOP)
                die()

        setattr(subprocess.Popen, "__init__", started)  # noqa: B010


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


def kill(settings: Settings, store: Store, way: str, at: str) -> Killed:
    """Hold a drill until `at` (`phase`, `said`, `call`, `program` or `running`, and what): there it dies."""
    kind, _, what = at.partition(" ")

    def drill(tell: Progress) -> None:
        _die_at(kind, what)
        run(settings, store, way=way, progress=tell)

    said = killed_when_told(drill, f"^{re.escape(what)}" if kind == "said" else NEVER)
    return Killed(settings, store, way, said)


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
