"""`make up` as on the first day: a clean clone, nothing cached, ports of its own; then once more, then idle.

Home and caches of packages are empty directories, while what the machine was told about its package index
stays: packages come from there in each turn. What is committed is what is cloned.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.harness import OURS, Comparison, Context
from bilten_orchestration.progress import Progress
from bilten_orchestration.settings import CHECKOUT

COLD_SECONDS = 300.0
AGAIN_SECONDS = 20.0
IDLE_GIB = 3.5
SETTLED_SECONDS = 60.0  # after the second `up`: Dagster's daemon has looked around
IDLE_SAMPLES = 12
BETWEEN_SAMPLES_SECONDS = 5.0
# the index that the machine uses is none of ours; nor is where jars come from
_KEPT_OF_BILTEN = "BILTEN_OPENSEARCH__MAVEN_URL"
_LEFT_OUT = ("BILTEN_", "XDG_", "VIRTUAL_ENV", "PYTHON", "MAKE", "MFLAGS")


@dataclass(frozen=True, slots=True)
class Turn:
    """Seconds, those of the phases for the first `up`; bytes as the programs share them (PSS)."""

    cold: float
    again: float
    idle_bytes: float
    phases: dict[str, float]


def cold(context: Context) -> list[Comparison]:
    """Time from nothing, time of the second `up`, and memory of everything idle."""
    turns = []
    for number in range(1, context.runs + 1):
        turns.append(_turn(context.scale, context.progress))
        newest = turns[-1]
        context.progress(
            f"  turn {number}/{context.runs}: {newest.cold:.0f} s, again {newest.again:.1f} s,"
            f" {newest.idle_bytes / 2**30:.2f} GiB"
        )
    usual = sorted(turns, key=lambda turn: turn.cold)[len(turns) // 2]
    phases = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in usual.phases.items())

    def row(bench: str, size: str, value: float, bound: float, unit: str = "s", note: str = "") -> Comparison:
        # promised for the data that `make up` loads unless told otherwise
        aim = bound if context.scale <= 1 else None
        return Comparison(
            bench, context.scale, size, {OURS: value}, context.runs, bound_seconds=aim, unit=unit, note=note
        )

    return [
        row(
            "up, packages not yet cached",
            "a clean clone, an empty home",
            statistics.median(turn.cold for turn in turns),
            COLD_SECONDS,
            note=phases,
        ),
        row(
            "up, a second time",
            "everything runs",
            statistics.median(turn.again for turn in turns),
            AGAIN_SECONDS,
        ),
        row(
            "up, idle",
            "memory of all programs",
            statistics.median(turn.idle_bytes for turn in turns) / 2**30,
            IDLE_GIB,
            unit="GiB",
            note="shared pages divided among those who share them",
        ),
    ]


def _turn(scale: float, progress: Progress) -> Turn:
    with _clone() as (checkout, environment):
        first, took = _make(checkout, environment, "up", f"ARGS=--json --scale {scale:g}")
        phases = {phase["name"]: phase["seconds"] for phase in first["phases"]}
        progress(f"  from nothing: {took:.0f} s")
        _, again = _make(checkout, environment, "up", f"ARGS=--json --scale {scale:g}")
        progress(f"  a second time: {again:.1f} s")
        time.sleep(SETTLED_SECONDS)
        samples = []
        for _ in range(IDLE_SAMPLES):
            samples.append(_status(checkout, environment)["memory_bytes"])
            time.sleep(BETWEEN_SAMPLES_SECONDS)  # a sample each time, not a wait for something
        installing = took - first["seconds"]
        return Turn(took, again, statistics.median(samples), {"packages": installing, **phases})


@contextmanager
def _clone() -> Iterator[tuple[Path, dict[str, str]]]:
    """A checkout of what is committed, and an environment that knows no cache. Both are gone afterwards."""
    base = Path(tempfile.mkdtemp(prefix="bilten-bench-up-"))
    base.chmod(0o755)  # the servers may run as another user
    checkout = base / "checkout"
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_LEFT_OUT) or name == _KEPT_OF_BILTEN
    } | {
        "HOME": str(base / "home"),
        "XDG_CACHE_HOME": str(base / "cache"),
        "PIP_CACHE_DIR": str(base / "cache" / "pip"),
        "UV_CACHE_DIR": str(base / "cache" / "uv"),
        **_index_settings(),
    }
    (base / "home").mkdir()
    try:
        subprocess.run(["git", "clone", "--quiet", str(CHECKOUT), str(checkout)], check=True)
        yield checkout, environment
    finally:
        try:
            if (checkout / ".venv" / "bin" / "bilten").exists():
                _run(checkout, environment, ".venv/bin/bilten", "down", "--json")
        finally:
            shutil.rmtree(base, ignore_errors=True)


def _index_settings() -> dict[str, str]:
    """pip's configuration in the home, where there is one: another home would hide it."""
    for place in (".config/pip/pip.conf", ".pip/pip.conf"):
        if (Path.home() / place).is_file():
            return {"PIP_CONFIG_FILE": os.environ.get("PIP_CONFIG_FILE", str(Path.home() / place))}
    return {}


def _make(checkout: Path, environment: dict[str, str], *arguments: str) -> tuple[dict[str, Any], float]:
    """What it reports, and the seconds it took."""
    python = getattr(sys, "_base_executable", sys.executable)
    began = time.perf_counter()
    result = _run(checkout, environment, "make", f"PYTHON={python}", *arguments)
    return result, time.perf_counter() - began


def _status(checkout: Path, environment: dict[str, str]) -> dict[str, Any]:
    return _run(checkout, environment, ".venv/bin/bilten", "status", "--json")


def _run(checkout: Path, environment: dict[str, str], *command: str) -> dict[str, Any]:
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout[-1000:]}{done.stderr[-2000:]}"
    return dict(json.loads(done.stdout)["result"])
