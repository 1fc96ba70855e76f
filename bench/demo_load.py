"""Demo data into empty stores: all parts, by the command, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time

from bench.harness import OURS, Comparison, Context, take_turns
from bench.servers import empty
from bilten_orchestration.local import processes
from bilten_orchestration.local.supervision import base_environment
from bilten_orchestration.settings import CHECKOUT, Settings
from bilten_orchestration.settings.loading import as_environment

AIM_SECONDS = 120.0
SAMPLE_SECONDS = 0.2


def loaded(context: Context) -> Comparison:
    """Seconds from the command to its end, with the start of Python; servers are made anew for each turn."""
    peaks: list[int] = []
    rows: list[int] = []

    def load() -> float:
        with empty(context.progress) as settings:
            seconds, written, peak = _load(settings, context.scale)
        peaks.append(peak)
        rows.append(written)
        return seconds

    seconds = take_turns({OURS: load}, context.runs, context.progress)
    written = max(rows)
    return Comparison(
        "demo load",
        context.scale,
        f"{written:,} rows, clicks and keys",
        seconds,
        context.runs,
        bound_seconds=AIM_SECONDS * max(1.0, context.scale),
        note=f"{written / seconds[OURS]:,.0f} a second; the loading process had {max(peaks) / 2**20:.0f} MiB"
        " at its peak, servers apart",
    )


def _load(settings: Settings, scale: float) -> tuple[float, int, int]:
    """Seconds, rows of all parts, and the most bytes that the process held."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "bilten_orchestration.cli.main"),
            *("demo", "load", "--json", f"--scale={scale:g}"),
        ],
        env=base_environment(settings.home)
        | as_environment(settings)
        | {"BILTEN_HOME": str(settings.home), "PYTHONPATH": str(CHECKOUT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    peak = 0
    ended = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.wait(SAMPLE_SECONDS):
            peak = max(peak, processes.memory_bytes(process.pid) or 0)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        out, errors = process.communicate()
        seconds = time.perf_counter() - began
    finally:
        ended.set()
        watcher.join()
    assert process.returncode == 0, errors[-2000:]
    return seconds, sum(phase["rows"] for phase in json.loads(out)["result"]["phases"]), peak
