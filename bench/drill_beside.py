"""What the application notices of a drill of PostgreSQL that runs beside it, on the same machine."""

from __future__ import annotations

import statistics
import time
from collections import Counter

from bench import traffic
from bench.drills import streaming, walked
from bench.harness import OURS, Comparison, Context, size, take_turns
from bilten_orchestration.backups.postgres import base
from bilten_orchestration.drills.course import Course
from bilten_orchestration.partitions.postgres.premake import premake
from bilten_orchestration.stores import postgres

WITHOUT = "the same writers, no drill"
_PARTS = {
    "half of all within": 0.5,
    "99 of 100 within": 0.99,
    "the slowest": 1.0,
}
_MOST_SECONDS = 900


def beside_writers(context: Context) -> list[Comparison]:
    """200 small transactions a second, while a drill walks the exact way: it takes its point, reads every
    table of production, restores on the same cores and disks, and proves. Nothing is taken from a drill
    before, so this is the dearest one there is. WAL is shipped in both turns.
    """
    found: dict[str, dict[str, list[float]]] = {part: {OURS: [], WITHOUT: []} for part in _PARTS}
    lasted, locked_out = [1.0], [0.0]
    phases: Counter[str] = Counter()
    premake(context.settings)
    base.take(context.settings, "full")

    def told(who: str, seen: traffic.Traffic) -> float:
        for part, share in _PARTS.items():
            found[part][who].append(seen.quantile(share))
        return seen.quantile(0.99)

    def beside() -> float:
        course = Course()
        with traffic.running(context.settings.postgres) as seen:
            lasted.append(walked(context, "exact", course, phases))
        locked_out.append(course.figures["writers_locked_out_seconds"])
        return told(OURS, seen)

    def alone() -> float:
        with traffic.running(context.settings.postgres) as seen:
            time.sleep(min(lasted[-1], _MOST_SECONDS))
        return told(WITHOUT, seen)

    with streaming(context):
        with postgres.connect(context.settings.postgres, autocommit=True) as connection:
            connection.execute("vacuum (freeze, analyze)")
        take_turns({OURS: beside, WITHOUT: alone}, context.runs, context.progress)
    took = ", ".join(f"{name} {phases[name] / context.runs:.1f} s" for name in phases)
    worked_on = f"{size(context)}, {traffic.WRITERS * traffic.PER_SECOND} transactions a second"
    return [
        Comparison(
            f"writers beside a drill, {part}",
            context.scale,
            worked_on,
            {
                who: max(seconds) if part == "the slowest" else statistics.median(seconds)
                for who, seconds in by_who.items()
            },
            context.runs,
            note=(
                "drill and server share the machine; writers in a process of their own, each transaction"
                f" timed from when it was due; the drill took {statistics.median(lasted[1:]):.1f} s, and"
                f" locked writers out for at most {max(locked_out):.2f} s; {took}"
                if part == "99 of 100 within"
                else ""
            ),
        )
        for part, by_who in found.items()
    ]
