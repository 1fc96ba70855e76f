"""Maintenance of partitions: what writers notice of it, and how long a plan of thousands takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from bench import traffic
from bench.harness import OURS, Comparison, Context, count, take_turns
from bilten_orchestration.partitions.bounds import Period
from bilten_orchestration.partitions.declared import PartitionedTable
from bilten_orchestration.partitions.postgres.apply import apply
from bilten_orchestration.partitions.postgres.catalogue import attached
from bilten_orchestration.partitions.postgres.premake import ensure_months
from bilten_orchestration.partitions.postgres.preview import preview
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.postgres import Connection

ROWS = 300_000
OLD_MONTHS = (6, 5, 4)
WITHOUT = "the same writers, no maintenance"
LIMIT_SECONDS = 0.2
PARTITIONS = 2000
PLAN_SECONDS = 2
_TABLE = PartitionedTable("users.user_behavior", retention=2, premake=6)
_DAYS = PartitionedTable("public.bench_days", retention=10, premake=1, interval="day")
_MOST_SECONDS = 600


def beside_writers(context: Context) -> list[Comparison]:
    """200 transactions a second, while seven months are made ahead and three leave, archived and proven."""
    rows = int(ROWS * context.scale)
    slowest: dict[str, list[float]] = {OURS: [], WITHOUT: []}
    usual: dict[str, list[float]] = {OURS: [], WITHOUT: []}
    lasted = [1.0]
    with postgres.connect(context.settings.postgres, autocommit=True) as connection:

        def before(who: str) -> None:
            _cleared(connection)
            for number in OLD_MONTHS if who == OURS else ():
                _fill(connection, number, rows)
            connection.execute("vacuum analyze users.user_behavior")
            connection.execute("checkpoint")

        def maintained() -> float:
            with traffic.running(context.settings.postgres) as found:
                began = time.perf_counter()
                report = apply(context.settings, tables=[_TABLE], limit=len(OLD_MONTHS), by="bench")
                lasted[0] = time.perf_counter() - began
            assert report.problems == (), report.problems
            assert report.count("drop") == len(OLD_MONTHS)
            assert report.count("create") >= _TABLE.premake
            return told(OURS, found)

        def alone() -> float:
            with traffic.running(context.settings.postgres) as found:
                time.sleep(min(lasted[0], _MOST_SECONDS))
            return told(WITHOUT, found)

        def told(who: str, found: traffic.Traffic) -> float:
            slowest[who].append(found.seconds[-1])
            usual[who].append(found.quantile(0.99))
            return found.seconds[-1]

        try:
            take_turns({OURS: maintained, WITHOUT: alone}, context.runs, context.progress, before=before)
        finally:
            _cleared(connection)
    size = (
        f"{traffic.WRITERS * traffic.PER_SECOND} transactions a second, {count(rows * len(OLD_MONTHS))} leave"
    )
    note = (
        "writers in a process of their own, each transaction timed from when it was due;"
        f" maintenance took {lasted[0]:.1f} s"
    )
    return [
        Comparison(
            "writers beside maintenance, the slowest transaction",
            context.scale,
            size,
            {who: max(found) for who, found in slowest.items()},
            context.runs,
            bound_seconds=LIMIT_SECONDS,
            note=note,
        ),
        Comparison(
            "writers beside maintenance, 99 of 100 within",
            context.scale,
            size,
            {who: statistics.median(found) for who, found in usual.items()},
            context.runs,
        ),
    ]


def planned(context: Context) -> Comparison:
    """A plan of one table with thousands of partitions, as the command line asks for it."""
    partitions = max(int(PARTITIONS * context.scale), 20)
    with _days(context, partitions):

        def ours() -> None:
            found = preview(context.settings, tables=[_DAYS])
            # they are over; without keys of a repository, or with young rows missing, they are kept
            assert sum(each.from_at is not None for each in found.actions) >= partitions

        seconds = take_turns({OURS: ours}, context.runs, context.progress)
    return Comparison(
        "plan of a table",
        context.scale,
        f"{partitions:,} partitions",
        seconds,
        context.runs,
        bound_seconds=PLAN_SECONDS,
    )


def _cleared(connection: Connection) -> None:
    """No month but the current one, and it without rows."""
    current = Period.of(datetime.now(UTC))
    for each in attached(connection, _TABLE.name):
        if not each.covers(current.start, current.end):
            connection.execute(f"drop table {each.name}")
    connection.execute("delete from system.partition_metadata where table_name = %s", (_TABLE.name,))
    ensure_months(connection, _TABLE.name, current.first, current.first)
    connection.execute("truncate users.user_behavior")
    # young rows say that time has passed
    connection.execute("insert into users.user_behavior (action) values ('view')")


def _fill(connection: Connection, months_ago: int, rows: int) -> None:
    month = Period.of(datetime.now(UTC)).plus(-months_ago)
    ensure_months(connection, _TABLE.name, month.first, month.first)
    connection.execute(
        """
        insert into users.user_behavior (action, resource_type, metadata, created_at)
        select 'view' || n %% 9, 'event', jsonb_build_object('n', n),
               %(month)s::date::timestamp at time zone 'UTC' + n %% 2000000 * interval '1 second'
        from generate_series(1, %(rows)s) n
        """,
        {"month": month.first, "rows": rows},
    )


@contextmanager
def _days(context: Context, partitions: int) -> Iterator[None]:
    with postgres.connect(context.settings.postgres, autocommit=True) as connection:
        connection.execute("drop table if exists public.bench_days")
        connection.execute(
            "create table public.bench_days (created_at timestamptz) partition by range (created_at)"
        )
        first = Period.of(datetime.now(UTC), "day").plus(-partitions - _DAYS.retention)
        for number in range(partitions):
            day = first.plus(number)
            connection.execute(
                f"create table public.bench_days_{day.suffix} partition of public.bench_days"
                f" for values from ('{day.start}') to ('{day.end}')"
            )
        connection.execute("insert into public.bench_days values (%s)", (first.plus(partitions - 1).start,))
        try:
            yield
        finally:
            for number in range(partitions):  # one statement for all would hold thousands of locks
                connection.execute(f"drop table public.bench_days_{first.plus(number).suffix}")
            connection.execute("drop table public.bench_days")
