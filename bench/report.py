"""docs/benchmarks.md, made from bench/results.json, which holds the newest result of each bench and scale."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from bench.harness import OURS, Comparison
from bilten_orchestration.settings import CHECKOUT

RESULTS = Path(__file__).with_name("results.json")
PAGE = CHECKOUT / "docs" / "benchmarks.md"

_HEAD = """# Benchmarks

Written by `make bench`; what is compared, and how, stands in `bench/`. Contestants take turns in one run on
servers of their own; seconds are medians, so a ratio does not depend on the machine, the seconds do. Scale 1
is 120,000 orders, 300,000 tickets and 3 million clicks, scale 10 ten times that
(`make bench ARGS="--scale 10"`, which takes an hour). What stands beside pgBackRest needs that and PostgreSQL
15 or 16 (Debian 12: `apt-get install pgbackrest postgresql-15`), and is left out where they are not.

| bench | scale | worked on | seconds | against | seconds | ratio | aim | |
|---|---:|---|---:|---|---:|---:|---:|---|
"""


def save(comparisons: Sequence[Comparison]) -> None:
    """Put the new results beside those of other benches and scales, and write the page."""
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    new = [
        asdict(comparison) | {"machine": _machine(), "at": f"{datetime.now(UTC):%F}"}
        for comparison in comparisons
    ]
    done = {(result["bench"], result["scale"]) for result in new}
    results = [result for result in kept if (result["bench"], result["scale"]) not in done] + new
    results.sort(key=lambda result: (result["bench"], result["scale"]))
    RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    PAGE.write_text(page(results))


def page(results: Sequence[dict[str, Any]]) -> str:
    text = _HEAD + "".join(_lines(result) for result in results)
    if growth := _growth(results):
        text += f"\n## From scale 1 to 10\n\n{growth}"
    notes = [
        f"- {result['bench']}, scale {result['scale']:g}: {result['note']}."
        for result in results
        if result["note"]
    ]
    machines = sorted({f"- {result['machine']}, {result['at']}" for result in results})
    return text + "\n## Notes\n\n" + "\n".join(notes) + "\n\n## Machines\n\n" + "\n".join(machines) + "\n"


def seconds(value: float) -> str:
    """Hundredths; of less than that, what is left of it."""
    return f"{value:.2f}" if value >= 0.01 else f"{value:.5f}"


def measured(comparison: Comparison, who: str) -> str:
    """In the column of seconds, another unit is named."""
    value = seconds(comparison.seconds[who])
    return value if comparison.unit == "s" else f"{value} {comparison.unit}"


def _ratio(value: float) -> str:
    """Of less than one, two places: 0.1x could be anything from 7 to 20 times as slow."""
    return f"{value:.0f}x" if value >= 100 else f"{value:.1f}x" if value >= 1 else f"{value:.2f}x"


def _wanted(comparison: Comparison, aim: float | None) -> str:
    if aim:
        return f"{aim:.0f}x" if aim >= 100 else f"{aim:.2g}x"
    return f"{comparison.bound_seconds:g} {comparison.unit}" if comparison.bound_seconds else ""


def _lines(result: dict[str, Any]) -> str:
    fields = {name: value for name, value in result.items() if name in Comparison.__dataclass_fields__}
    comparison = Comparison(**fields)
    rivals = [name for name in comparison.seconds if name != OURS] or [""]
    text = ""
    for rival in rivals:
        aim = comparison.aim.get(rival)
        ratio = comparison.ratio(rival) if rival else None
        met = ratio >= aim if aim and ratio else comparison.met
        judged = aim is not None or comparison.bound_seconds is not None
        cells = (
            comparison.bench,
            f"{comparison.scale:g}",
            comparison.size,
            measured(comparison, OURS),
            rival,
            measured(comparison, rival) if rival else "",
            _ratio(ratio) if ratio else "",
            _wanted(comparison, aim),
            ("met" if met else "**missed**") if judged else "",
        )
        text += f"| {' | '.join(cells)} |\n"
    return text


def _growth(results: Sequence[dict[str, Any]]) -> str:
    by_name: dict[str, dict[float, dict[str, float]]] = {}
    days: dict[str, set[str]] = {}
    for result in results:
        by_name.setdefault(result["bench"], {})[result["scale"]] = result["seconds"]
        days.setdefault(result["bench"], set()).add(result["at"])
    lines = [
        f"- {name}: "
        + ", ".join(
            f"{who} {_ratio(scales[10][who] / scales[1][who])}" for who in scales[10] if who in scales[1]
        )
        + (" (on two days: compare the contestants alone)" if len(days[name]) > 1 else "")
        for name, scales in by_name.items()
        if 1 in scales and 10 in scales
    ]
    return "Ten times the data take:\n\n" + "\n".join(lines) + "\n" if lines else ""


def _machine() -> str:
    memory = psutil.virtual_memory().total / 2**30
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, {system}"
