"""Servers of the bench's own in a temporary directory: nothing of a running stack is touched."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from bilten_orchestration.progress import Progress
from bilten_orchestration.settings import Settings
from tests import stack


@contextmanager
def filled(scale: float, progress: Progress, *, clicks: bool) -> Iterator[Settings]:
    """PostgreSQL and ClickHouse, migrated, with demo data at that scale; not yet synced."""
    from bilten_orchestration.demo.load import load
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
            load(settings, scale=scale, parts=["clickstream"] if clicks else [], progress=progress)
            yield settings
    finally:
        shutil.rmtree(base, ignore_errors=True)
