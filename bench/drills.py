"""A drill of PostgreSQL against the bare tools, one after the other, and what digests cost production."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

import psycopg

from bench.backups import MAJOR, bare_restore, put_rival
from bench.harness import OURS, Comparison, Context, size, take_turns
from bilten_orchestration.backups import scratch
from bilten_orchestration.backups.postgres import base, private, programs
from bilten_orchestration.drills.course import Course
from bilten_orchestration.drills.postgres import digests
from bilten_orchestration.drills.postgres.drill import walk
from bilten_orchestration.local.privileges import server_user
from bilten_orchestration.stores import postgres

RIVAL = "download, openssl, zstd, tar, pg_verifybackup, start, digests, pg_check_visible, pg_amcheck"
_MAPS = (
    "select count(*) from pg_class c cross join lateral {}(c.oid)"
    " where c.relkind in ('r', 'm', 't') and c.relpersistence = 'p'"
)


def drilled(context: Context) -> Comparison:
    """The oldest full backup as of its end, proven: at most 1.2 of the same tools by hand."""
    settings = context.settings
    base.take(settings, "full")
    put_rival(context)
    phases: Counter[str] = Counter()
    place = Path(tempfile.mkdtemp(prefix="bilten-bench-"))
    place.chmod(0o755)

    def ours() -> None:
        course = Course()
        with scratch.place(settings, "drill-bench", "bench", context.progress) as own:
            walk(settings, "oldest_full", own, course)
        assert course.ok, course.proofs
        phases.update(course.phases)

    def rival() -> None:
        bare_restore(context, place / "theirs")
        _prove_by_hand(context, place / "theirs")

    try:
        seconds = take_turns(
            {OURS: ours, RIVAL: rival},
            context.runs,
            context.progress,
            after=lambda _: shutil.rmtree(place / "theirs", ignore_errors=True),
        )
    finally:
        shutil.rmtree(place, ignore_errors=True)
    told = ", ".join(f"{name} {phases[name] / context.runs:.1f} s" for name in phases)
    return Comparison(
        "drill",
        context.scale,
        size(context),
        seconds,
        context.runs,
        {RIVAL: 1 / 1.2},
        note=f"{told}; ours also examines the rules of the trade and migrations",
    )


def cost(context: Context) -> Comparison:
    """Digests of every table of production, as a drill reads them."""
    with (
        postgres.connect(context.settings.postgres, autocommit=True) as one,
        postgres.connect(context.settings.postgres, autocommit=True) as other,
    ):
        for connection in (one, other):
            digests.pin(connection)
        found = digests.compute((one, other), digests.tables(one), context.progress)
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
