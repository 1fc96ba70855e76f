"""Partitions: how long an attach holds its lock, and how fast a month becomes an archive that is proven."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from bench.harness import OURS, Comparison, Context, count, take_turns
from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.drills.postgres import digests
from bilten_orchestration.partitions.bounds import Period
from bilten_orchestration.partitions.declared import PartitionedTable
from bilten_orchestration.partitions.postgres import archive
from bilten_orchestration.partitions.postgres.archive import Source
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.postgres import Connection

ROWS = 5_000_000
SCAN = "attach without a CHECK"
PIPE = "COPY TO PROGRAM 'zstd', neither encrypted nor proven"
PROVEN = "the same, and back into a table, both digested"
_TABLE = PartitionedTable("public.bench_visits", retention=1)
_PERIOD = Period.of(date(2026, 1, 1))
_PART = "public.bench_visits_p202601"
_CHECK = (
    f"alter table {_PART} add constraint bounds check (created_at is not null"
    " and created_at >= '2026-01-01+00' and created_at < '2026-02-01+00')"
)
_ATTACH = (
    f"alter table public.bench_visits attach partition {_PART}"
    " for values from ('2026-01-01+00') to ('2026-02-01+00')"
)
_DIGEST = "select count(*), sum(hashtextextended(r::text, 0)) from {} r"


def attach(context: Context) -> Comparison:
    """The time of ATTACH alone, for so long its lock is held."""
    rows = int(ROWS * context.scale)
    with _month(context, rows) as connection:

        def before(who: str) -> None:
            if who == OURS:
                connection.execute(_CHECK)

        def attached() -> float:
            began = time.perf_counter()
            connection.execute(_ATTACH)
            return time.perf_counter() - began

        def after(who: str) -> None:
            connection.execute(f"alter table public.bench_visits detach partition {_PART}")
            connection.execute(f"alter table {_PART} drop constraint if exists bounds")

        seconds = take_turns(
            {OURS: attached, SCAN: attached}, context.runs, context.progress, before=before, after=after
        )
    return Comparison("attach of a partition", context.scale, count(rows), seconds, context.runs, {SCAN: 100})


def archived(context: Context) -> Comparison:
    """Parquet, encrypted, in the bucket, read back and compared; against rows through a pipe to a file, and
    against what a careful user would add to that by hand."""
    rows = int(ROWS * context.scale)
    stored: list[int] = []
    with _month(context, rows) as connection, Opened.of(context.settings) as opened:
        digests.pin(connection)

        def ours() -> None:
            source = Source(_TABLE, _PART, _PERIOD.start, _PERIOD.end)
            made = archive.make(connection, opened, context.settings, source, None, context.progress)
            stored.append(made.stored_bytes)

        with tempfile.TemporaryDirectory() as directory:
            # the server writes there, as a user of its own
            Path(directory).chmod(0o777)
            file = f"{directory}/visits.zst"

            def pipe() -> None:
                connection.execute(f"copy {_PART} to program 'zstd -q -f -o {file}'")

            def proven() -> None:
                before = connection.execute(_DIGEST.format(_PART)).fetchone()
                pipe()
                connection.execute(f"create temporary table visits_back (like {_PART} including generated)")
                connection.execute(f"copy visits_back from program 'zstd -q -d -c {file}'")
                assert connection.execute(_DIGEST.format("visits_back")).fetchone() == before
                connection.execute("drop table visits_back")

            seconds = take_turns({OURS: ours, PIPE: pipe, PROVEN: proven}, context.runs, context.progress)
    return Comparison(
        "archive of a partition",
        context.scale,
        count(rows),
        seconds,
        context.runs,
        note=f"{stored[-1] / 2**20:.0f} MiB stored; ours is read back from the bucket and compared",
    )


@contextmanager
def _month(context: Context, rows: int) -> Iterator[Connection]:
    """A month of that many rows, beside its parent."""
    with postgres.connect(context.settings.postgres, autocommit=True) as connection:
        connection.execute("drop table if exists public.bench_visits, public.bench_visits_p202601")
        connection.execute(
            "create table public.bench_visits (id uuid not null, action text, metadata jsonb,"
            " created_at timestamptz not null, primary key (id, created_at)) partition by range (created_at)"
        )
        connection.execute(f"create table {_PART} (like public.bench_visits including all)")
        connection.execute(
            f"insert into {_PART} select gen_random_uuid(), 'view' || n % 9, jsonb_build_object('n', n),"
            " '2026-01-01+00'::timestamptz + n % 2600000 * interval '1 second'"
            f" from generate_series(1, {rows}) n"
        )
        connection.execute(f"vacuum analyze {_PART}")
        try:
            yield connection
        finally:
            connection.execute("drop table if exists public.bench_visits, public.bench_visits_p202601")
