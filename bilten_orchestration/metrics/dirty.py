"""Dirty days in PostgreSQL: local days whose facts changed after they were built (rules: late.py).

The sync raises `generation` of a day with every batch that touches it; a build sets `built_generation`
to the generation it saw before it read the batch. So a change that comes in while a build runs leaves
the day dirty.
"""

from __future__ import annotations

from collections.abc import Iterable

from bilten_orchestration.metrics.late import DirtyDay
from bilten_orchestration.stores.postgres import Connection


def dirty_days(connection: Connection) -> list[DirtyDay]:
    """All of them, in order of day."""
    rows = connection.execute(
        """
        select day, generation, batch, reason from system.metric_dirty_days
        where generation > built_generation order by day
        """
    ).fetchall()
    return [DirtyDay(*row) for row in rows]


def mark_built(connection: Connection, clean: Iterable[DirtyDay]) -> None:
    """Set `built_generation` to the generations seen. To be called inside a transaction."""
    with connection.cursor() as cursor:
        cursor.executemany(
            """
            update system.metric_dirty_days
            set built_generation = greatest(built_generation, %s), built_at = clock_timestamp()
            where day = %s and generation >= %s
            """,
            [(cause.generation, cause.day, cause.generation) for cause in clean],
        )
