"""`python -m bench [--scale 10] [--runs 3] [--only NAME ...] [--no-save]`.

Of backups and drills scale 1 is 1.5 GiB, and 4 is 6 GiB:
`make bench ARGS="--scale 4 --only drill drill-exact digests"`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence

from bench import (
    backups,
    copying,
    demo_load,
    drill_beside,
    drills,
    first_up,
    loading,
    maintenance,
    marts,
    observation,
    partitions,
    pgbackrest,
    report,
    search,
)
from bench.harness import OURS, Comparison, Context
from bench.servers import filled, load_clicks, saved, saved_on_older
from bilten_orchestration.errors import BiltenError
from bilten_orchestration.settings import Settings

Bench = Callable[[Context], Comparison | list[Comparison]]

# in this order: the later ones work on what the earlier ones leave
ON_CLICKS = {"rebuild", "uniques"}
BENCHES: dict[str, Bench] = {
    "loading": loading.definitions,
    "first-load": copying.first_load,
    "incremental": copying.incremental,
    "rebuild": marts.rebuild,
    "uniques": marts.uniques,
}
# on servers of their own, with rows that say nothing and compress as rows do
BACKUPS: dict[str, Bench] = {
    "backup-full": backups.full,
    "backup-full-to-nothing": backups.full_to_nothing,
    "restore": backups.restored,
    "backup-incremental": backups.incremental,
    "drill": drills.drilled,
    "drill-exact": drills.exact,
    "digests": drills.cost,
    "drill-beside": drill_beside.beside_writers,
    "wal-shipping": backups.wal,
    "partition-attach": partitions.attach,
    "partition-archive": partitions.archived,
    "partition-writers": maintenance.beside_writers,
    "partition-plan": maintenance.planned,
}
# each on servers of its own, OpenSearch among them
ALONE: dict[str, Bench] = {
    "search": search.loads,
    "observation": observation.observed,
    "demo-load": demo_load.loaded,
    "up": first_up.cold,
}
# on an older PostgreSQL, where that and the rival are installed
BESIDE = "pgbackrest"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Speeds, in docs/benchmarks.md.")
    parser.add_argument("--scale", type=float, default=1.0, help="amount of demo data (default 1)")
    parser.add_argument("--runs", type=int, default=3, help="turns of each contestant (default 3)")
    parser.add_argument(
        "--only", nargs="+", choices=[*BENCHES, *BACKUPS, *ALONE, BESIDE], help="some alone (default: all)"
    )
    parser.add_argument("--no-save", action="store_true", help="leave docs/benchmarks.md as it is")
    options = parser.parse_args(arguments)
    only = options.only or [*BENCHES, *BACKUPS, *ALONE, BESIDE]
    found: list[Comparison] = []
    try:
        if wanted := [name for name in BENCHES if name in only]:
            say(f"servers and demo data at scale {options.scale:g}")
            with filled(options.scale, say) as settings:
                context = Context(settings, options.scale, options.runs, say)
                clicks = False
                for name in wanted:
                    if name in ON_CLICKS and not clicks:
                        load_clicks(settings, options.scale, say)
                        clicks = True
                    found += _run(name, BENCHES[name], context)
        if wanted := [name for name in BACKUPS if name in only]:
            say("servers, and rows to be backed up")
            with saved(options.scale, say) as settings:
                for name in wanted:
                    found += _run(name, BACKUPS[name], Context(settings, options.scale, options.runs, say))
        for name in ALONE:
            if name in only:
                found += _run(name, ALONE[name], _on_its_own(options.scale, options.runs))
        if BESIDE in only and (lacking := pgbackrest.lacking()):
            say(f"{BESIDE} is left out: {lacking}")
        elif BESIDE in only:
            say("an older PostgreSQL, and rows to be backed up")
            with saved_on_older(options.scale, say) as (settings, server):
                found += _run(
                    BESIDE,
                    lambda context: pgbackrest.side_by_side(context, server),
                    Context(settings, options.scale, options.runs, say),
                )
    except BiltenError as error:
        say(str(error))
        return error.exit_code
    finally:
        if found and not options.no_save:
            report.save(found)
    return 0 if all(comparison.met for comparison in found) else 1


def _on_its_own(scale: float, runs: int) -> Context:
    """Of a bench that starts what it needs."""
    return Context(Settings(), scale, runs, say)


def _run(name: str, bench: Bench, context: Context) -> list[Comparison]:
    say(name)
    result = bench(context)
    found = result if isinstance(result, list) else [result]
    for comparison in found:
        say(_line(comparison))
    return found


def _line(comparison: Comparison) -> str:
    unit = comparison.unit
    parts = [f"{who} {report.seconds(value)} {unit}" for who, value in comparison.seconds.items()]
    ratios = [
        f"{comparison.ratio(who):.1f}x against {who}"
        + (f" (aim {comparison.aim[who]:g}x)" if who in comparison.aim else "")
        for who in comparison.seconds
        if who != OURS
    ]
    if comparison.bound_seconds is not None:
        ratios.append(f"at most {comparison.bound_seconds:g} {unit}: {'met' if comparison.met else 'missed'}")
    verdict = ", ".join(ratios) or ("met" if comparison.met else "missed")
    return f"  {comparison.bench}: {', '.join(parts)}; {verdict}"


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
