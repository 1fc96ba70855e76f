"""A drill of PostgreSQL against the bare tools, one after the other, and what digests cost production."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg

from bench.backups import MAJOR, await_reach, bare_restore, put_rival
from bench.harness import OURS, Comparison, Context, size, take_turns
from bilten_orchestration.backups import scratch
from bilten_orchestration.backups.postgres import base, private, programs
from bilten_orchestration.drills.course import Course
from bilten_orchestration.drills.postgres import digests
from bilten_orchestration.drills.postgres.digests import Digests
from bilten_orchestration.drills.postgres.drill import walk
from bilten_orchestration.local.privileges import server_user
from bilten_orchestration.settings.loading import as_environment
from bilten_orchestration.stores import postgres

RIVAL = "download, openssl, zstd, tar, pg_verifybackup, start, digests, pg_check_visible, pg_amcheck"
_MAPS = (
    "select count(*) from pg_class c cross join lateral {}(c.oid)"
    " where c.relkind in ('r', 'm', 't') and c.relpersistence = 'p'"
)


def drilled(context: Context) -> Comparison:
    """The oldest full backup as of its end, proven: at most 1.2 of the same tools by hand."""
    base.take(context.settings, "full")

    def ours(phases: Counter[str]) -> float:
        return walked(context, "oldest_full", Course(), phases)

    return _against_bare(context, "drill", ours, lambda: None, RIVAL)


def exact(context: Context) -> Comparison:
    """The newest chain to the exact point, digests of production included: at most 1.2 of the same by hand.

    Waiting for the point's WAL is no work, and not counted; it is bounded by the heartbeat. One more drill
    behind the turns takes the digests of what did not change from the one before.
    """
    settings = context.settings
    last = Course()

    def ours(phases: Counter[str]) -> float:
        nonlocal last
        last = Course()
        seconds = walked(context, "exact", last, phases)
        return seconds - last.phases["wal"]

    def rival() -> None:
        _digested(context)

    with streaming(context):
        with postgres.connect(settings.postgres, autocommit=True) as connection:
            # a first reader's hints are WAL: they are not what is measured
            connection.execute("vacuum (freeze, analyze)")
        base.take(settings, "full")
        found = _against_bare(context, "drill-exact", ours, rival, f"digests of production, {RIVAL}")
        again = Course()
        again.previous_seen = last.seen
        walked(context, "exact", again, Counter())
        assert again.figures["unchanged_tables"], "nothing was written since, and everything was read"
    return replace(
        found,
        note=f"{found.note}; once more, {again.figures['unchanged_tables']:.0f} of"
        f" {again.figures['tables']:.0f} tables unchanged: digests of production"
        f" {again.phases['digests']:.1f} s, and {again.phases.get('tail', 0.0):.1f} s to know it",
    )


def walked(context: Context, way: str, course: Course, phases: Counter[str]) -> float:
    """Seconds of one drill."""
    began = time.perf_counter()
    with scratch.place(context.settings, "drill-bench", "bench", context.progress) as own:
        walk(context.settings, way, own, course)
    assert course.ok, course.proofs
    phases.update(course.phases)
    return time.perf_counter() - began


def _against_bare(
    context: Context,
    bench: str,
    ours: Callable[[Counter[str]], float],
    before: Callable[[], None],
    rival: str,
) -> Comparison:
    """`before` is what the rival does besides restoring and proving."""
    put_rival(context)
    phases: Counter[str] = Counter()
    place = Path(tempfile.mkdtemp(prefix="bilten-bench-"))
    place.chmod(0o755)

    def theirs() -> None:
        before()
        bare_restore(context, place / "theirs")
        _prove_by_hand(context, place / "theirs")

    try:
        seconds = take_turns(
            {OURS: lambda: ours(phases), rival: theirs},
            context.runs,
            context.progress,
            after=lambda _: shutil.rmtree(place / "theirs", ignore_errors=True),
        )
    finally:
        shutil.rmtree(place, ignore_errors=True)
    told = ", ".join(f"{name} {phases[name] / context.runs:.1f} s" for name in phases)
    return Comparison(
        bench,
        context.scale,
        size(context),
        seconds,
        context.runs,
        {rival: 1 / 1.2},
        note=f"{told}; ours also examines the rules of the trade and migrations",
    )


@contextmanager
def streaming(context: Context) -> Iterator[None]:
    """WAL is taken, as on production."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bilten_orchestration.cli.main", "wal", "stream"],
        env=os.environ | as_environment(context.settings),
        stderr=subprocess.DEVNULL,
    )
    try:
        await_reach(context.settings, process)
        yield
    finally:
        process.terminate()
        process.wait(60)


def _digested(context: Context) -> Digests:
    with (
        postgres.connect(context.settings.postgres, autocommit=True) as one,
        postgres.connect(context.settings.postgres, autocommit=True) as other,
    ):
        for connection in (one, other):
            digests.pin(connection)
        return digests.compute((one, other), digests.tables(one), context.progress)


def cost(context: Context) -> Comparison:
    """Digests of every table of production, as a drill reads them."""
    found = _digested(context)
    return Comparison(
        "digests of production",
        context.scale,
        f"{found.bytes / 2**30:.2f} GiB, two connections",
        {OURS: found.seconds},
        1,
        note=f"{found.bytes_per_second / 1e6:.0f} MB/s,"
        f" {found.seconds_per_100_gb / 60:.0f} minutes per 100 GB",
    )


def _prove_by_hand(context: Context, directory: Path) -> None:
    bin_directory = programs.directory(context.settings.postgres, MAJOR)
    subprocess.run([bin_directory / "pg_verifybackup", "--quiet", directory], check=True)
    owner = server_user()
    private.give(directory, owner)
    running = private.start(directory, bin_directory, context.settings.postgres, owner, context.progress)
    try:
        superuser = f"host={running.socket} port={private.PORT} user=postgres dbname={running.database}"
        with psycopg.connect(superuser, autocommit=True) as one, psycopg.connect(superuser) as other:
            digests.pin(one)
            digests.pin(other)
            digests.compute((one, other), digests.tables(one), context.progress)
        with psycopg.connect(superuser, autocommit=True) as connection:
            for check in ("pg_check_visible", "pg_check_frozen"):
                connection.execute(_MAPS.format(check))
        subprocess.run(
            [
                bin_directory / "pg_amcheck",
                *("--all", "--install-missing", "--heapallindexed", "--jobs=2", "--no-password"),
                *(f"--host={running.socket}", f"--port={private.PORT}", "--username=postgres"),
            ],
            check=True,
        )
    finally:
        private.stop(directory)
