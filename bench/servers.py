"""Servers of the bench's own in a temporary directory: nothing of a running stack is touched."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from bilten_orchestration.progress import Progress
from bilten_orchestration.settings import Settings
from tests import stack


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


def load_clicks(settings: Settings, scale: float, progress: Progress) -> None:
    """The clickstream of the same demo data: later than a first load, which comes before anybody clicks."""
    _load(settings, scale, progress, "clickstream")


def _load(settings: Settings, scale: float, progress: Progress, *parts: str) -> None:
    from bilten_orchestration.demo.load import load

    load(settings, scale=scale, parts=parts, progress=progress)
