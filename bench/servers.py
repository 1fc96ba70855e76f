"""Servers of the bench's own in a temporary directory: nothing of a running stack is touched."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from bilten_orchestration.progress import Progress
from bilten_orchestration.settings import Settings
from tests import stack

ROWS_TO_SAVE = 12_000_000


@contextmanager
def filled(scale: float, progress: Progress) -> Iterator[Settings]:
    """PostgreSQL with the operational rows of the demo at that scale; ClickHouse migrated and empty."""
    from bilten_orchestration.migrations import runner
    from bilten_orchestration.partitions.premake import premake

    base = stack.make_base()
    try:
        with stack.stopping() as running:
            postgres = stack.start_postgres(base)
            running.append(postgres)
            clickhouse = stack.start_clickhouse(base)
            running.append(clickhouse)
            settings = Settings(
                home=base / "home",
                environment="test",
                postgres=postgres.settings(),
                clickhouse=clickhouse.settings,
            )
            runner.up(settings)
            premake(settings)
            _load(settings, scale, progress)
            yield settings
    finally:
        shutil.rmtree(base, ignore_errors=True)


@contextmanager
def saved(scale: float, progress: Progress) -> Iterator[Settings]:
    """PostgreSQL with 1.6 GiB of rows at scale 1, and an object store."""
    from bilten_orchestration.migrations import runner
    from bilten_orchestration.stores import postgres as clients

    base = stack.make_base()
    try:
        with stack.stopping() as running:
            postgres = stack.start_postgres(base)
            running.append(postgres)
            store, objects = stack.start_object_store(base)
            running.append(store)
            settings = Settings(
                home=base / "home", environment="test", postgres=postgres.settings(), object_store=objects
            )
            runner.up(settings, store="postgres")
            progress("writing rows")
            with clients.connect(settings.postgres, autocommit=True) as connection:
                connection.execute(
                    "create table bench_rows as select n as id, md5(n::text) as a, md5((n * 7)::text) as b,"
                    " timestamptz '2026-01-01' + n * interval '1 s' as happened, n % 1000 as k,"
                    f" 'organization ' || n % 57 as w from generate_series(1, {int(ROWS_TO_SAVE * scale)}) n"
                )
                connection.execute("vacuum bench_rows")
                connection.execute("checkpoint")
            yield settings
    finally:
        shutil.rmtree(base, ignore_errors=True)


def load_clicks(settings: Settings, scale: float, progress: Progress) -> None:
    """The clickstream of the same demo data: later than a first load, which comes before anybody clicks."""
    _load(settings, scale, progress, "clickstream")


def _load(settings: Settings, scale: float, progress: Progress, *parts: str) -> None:
    from bilten_orchestration.demo.load import load

    load(settings, scale=scale, parts=parts, progress=progress)
