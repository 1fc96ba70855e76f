"""A backup that is cancelled in the middle, as its run is told by "Terminate" in the UI.

The daemon of Dagster asks the code server, which sets an event in the run worker, which sends itself SIGINT
and raises in its main thread (tests/e2e goes the whole way). So does the child here: when the upload that
`at` names is open in the store in parts, or, with `at` "spool", when the first piece of a snapshot lies in
the spool.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bilten_orchestration.backups.repository import catalogue
from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.settings import Settings
from tests.processes import runs
from tests.waiting import until

_CHILD = """
import json, os, signal, sys, time
import psutil
from dagster._core.errors import raise_execution_interrupts
from bilten_orchestration.backups.create import create
from bilten_orchestration.backups.redis import spool
from bilten_orchestration.backups.repository import bucket
from bilten_orchestration.settings.loading import load_settings
from tests.processes import living
store, kind, at = sys.argv[1:]
begun = []
def cancel(uploads):
    begun.append(at)
    children = psutil.Process().children(recursive=True)
    programs = {each.pid: each.name() for each in living(lambda each: True, children)}
    print(json.dumps({"programs": programs, "uploads": uploads}), flush=True)
    os.kill(os.getpid(), signal.SIGINT)
def when_open(self, name, chunks):
    taken = 0
    for chunk in chunks:
        yield chunk
        taken += len(chunk)
        if name.endswith(at) and not begun and taken > bucket.PART_BYTES:
            deadline = time.monotonic() + 60
            while not (uploads := [each.name for each in self.unfinished()]):
                assert time.monotonic() < deadline, "the upload was not begun"
                time.sleep(0.02)
            cancel(uploads)
def when_spooled(file, chunk, *room):
    spooled(file, chunk, *room)
    if not begun:
        cancel([])
write, spooled = bucket.Repository.write, spool._write
if at == "spool":
    spool._write = when_spooled
else:
    bucket.PART_BYTES = 1 << 16  # of an upload in parts that is begun; each part has the 5 MiB of S3
    bucket.Repository.write = lambda self, name, chunks: write(self, name, when_open(self, name, chunks))
with raise_execution_interrupts():
    create(load_settings(), store, kind)
"""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """What was at work at that moment: names of programs, and of objects that were being uploaded."""

    programs: frozenset[str]
    uploads: tuple[str, ...]


def sliced(settings: Settings, slice_bytes: int) -> Settings:
    """With slices of that size: S3 takes one of less than 5 MiB in one step, which nothing can leave open."""
    return settings.model_copy(
        update={"backups": settings.backups.model_copy(update={"slice_bytes": slice_bytes})}
    )


def cancelled(
    settings: Settings, environment: Mapping[str, str], store: str, kind: str, at: str
) -> Cancelled:
    """Take that backup, cancel it, and assert what holds of every store: the run ends by the interrupt, its
    programs are gone, the repository lists no more than before, and no upload stays open."""
    with Opened.of(settings) as opened:
        before = catalogue.read(opened.repository, opened.ring).backups
    ended = subprocess.run(
        [sys.executable, "-c", _CHILD, store, kind, at],
        env={
            **environment,
            "PYTHONPATH": str(Path(__file__).parents[3]),
            "BILTEN_HOME": str(settings.home),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ended.returncode == 1, ended.stderr
    assert "DagsterExecutionInterruptedError" in ended.stderr
    found = json.loads(ended.stdout)
    for pid, name in found["programs"].items():
        until(lambda pid=pid: not runs(int(pid)), f"the end of {name}")  # type: ignore[misc]
    with Opened.of(settings) as opened:
        assert catalogue.read(opened.repository, opened.ring).backups == before
        assert [each.name for each in opened.repository.unfinished()] == []
    return Cancelled(frozenset(found["programs"].values()), tuple(found["uploads"]))
