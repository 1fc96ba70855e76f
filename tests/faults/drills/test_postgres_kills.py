"""kill -9 of a drill of PostgreSQL in each phase: the next one says so, and nothing is left."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from bilten_orchestration.backups import scratch
from bilten_orchestration.stores import postgres
from tests.integration.backups.wal.conftest import Source, until
from tests.integration.drills.postgres.conftest import PLACE, drilled, selling, slots

pytestmark = pytest.mark.faults
_DRILL = f"""
from bilten_orchestration.backups import scratch
from bilten_orchestration.drills.course import Course
from bilten_orchestration.drills.postgres.drill import walk
from bilten_orchestration.settings.loading import load_settings

def progress(text):
    print(text, flush=True)

settings = load_settings()
with scratch.place(settings, "{PLACE}", "drill run", progress) as place:
    print(f"the place is {{place}}", flush=True)
    walk(settings, "exact", place, Course(), progress=progress)
"""


class Child:
    def __init__(self, shop: Source) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _DRILL],
            env=shop.stream.environment | {"PYTHONPATH": str(Path(__file__).parents[3])},
            stdout=subprocess.PIPE,
            text=True,
        )
        self.place = Path(self.upto("the place is ").removeprefix("the place is "))

    def upto(self, said: str) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(said):
                return line.strip()
        raise AssertionError(f"it never said {said!r}")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def _sessions(shop: Source) -> list[object]:
    return shop.execute("select pid, query from pg_stat_activity where application_name like 'bilten drill%'")


def _within(place: Path) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(place.resolve()):
                found.append(process.pid)
        except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
            continue
    return found


def _cleaned(shop: Source, place: Path) -> None:
    until("its sessions to end", lambda: _sessions(shop) == [])
    assert slots(shop) == ["shipped", "stream"]
    told: list[str] = []
    with scratch.place(shop.settings, PLACE, "drill run", told.append):
        assert any("that was killed left" in line for line in told)
        assert _within(place) == []
        assert list(place.iterdir()) == []
    assert not place.exists()


@pytest.mark.parametrize(
    "said",
    ["the point is ", "from ", "verifying", "starting, replaying", "proving: digests", "proving: pg_amcheck"],
)
def test_a_kill_leaves_nothing_behind_the_next_one(shop: Source, said: str) -> None:
    with selling(shop):
        child = Child(shop)
        child.upto(said)
        child.kill()
    _cleaned(shop, child.place)


def test_a_kill_while_it_waits_for_its_point(shop: Source) -> None:
    with postgres.connect(shop.settings.postgres) as writer:
        writer.execute("insert into kept (words) values ('never')")
        child = Child(shop)
        until(
            "the slot to be waited for",
            lambda: shop.execute(
                "select pid from pg_stat_replication where application_name = 'bilten drill'"
            ),
        )
        time.sleep(0.5)
        child.kill()
        writer.rollback()
    _cleaned(shop, child.place)


def test_and_the_next_drill_passes(shop: Source) -> None:
    assert drilled(shop.settings, "exact").ok
