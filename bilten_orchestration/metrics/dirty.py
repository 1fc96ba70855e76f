"""Dirty days: local days whose facts changed after they were built.

The sync raises `generation` of a day with every batch that touches it; a build that has published all
marts of all days that the day reaches sets `built_generation` to the generation it saw before it read
the batch. So a change that comes in while a build runs leaves the day dirty.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime

from bilten_orchestration.metrics import days as day_rules
from bilten_orchestration.metrics import evidence
from bilten_orchestration.metrics.days import Reach
from bilten_orchestration.metrics.late import DirtyDay
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse, postgres
from bilten_orchestration.stores.postgres import Connection


def dirty_days(
    connection: Connection, *, first: date | None = None, last: date | None = None
) -> list[DirtyDay]:
    """In order of day, both bounds included."""
    rows = connection.execute(
        """
        select day, generation, reason from system.metric_dirty_days
        where generation > built_generation
          and day between coalesce(%s, '-infinity'::date) and coalesce(%s, 'infinity'::date)
        order by day
        """,
        (first, last),
    ).fetchall()
    return [DirtyDay(*row) for row in rows]


def days_to_build(
    settings: Settings, reach: Reach, *, first: date | None, last: date | None, now: datetime
) -> list[date]:
    """The dirty days within the bounds and all that they reach into, in order.

    Days that no build may touch (before the first control totals, ahead of every zone) are left out.
    """
    with postgres.connect(
        settings.postgres, "etl", application_name="bilten dirty days", autocommit=True
    ) as connection:
        dirty = dirty_days(connection, first=first, last=last)
    if not dirty:
        return []
    client = clickhouse.connect(settings.clickhouse)
    try:
        begin = evidence.first_control_day(client)
    finally:
        client.close()
    if begin is None:
        return []
    end = day_rules.last_day(now)
    return sorted({day for found in dirty for day in reach.of(found.day, first=begin, last=end)})


def mark(connection: Connection, days: Sequence[date], reason: str, batch: int) -> int:
    """Make days dirty that no batch has touched, say because they differ from the controls.

    A day that is dirty already keeps its generation. Returns how many were clean before.
    """
    return connection.execute(
        """
        insert into system.metric_dirty_days as held (day, batch, reason)
        select unnest(%s::date[]), %s, %s
        on conflict (day) do update
            set generation = held.generation + 1, batch = excluded.batch, reason = excluded.reason,
                marked_at = clock_timestamp()
            where held.generation = held.built_generation
        """,
        (list(days), batch, reason),
    ).rowcount


def mark_built(
    connection: Connection,
    generations: Mapping[date, int],
    published: Collection[date],
    reach: Reach,
    *,
    first: date,
    last: date,
) -> list[date]:
    """Set `built_generation` of the days whose whole reach is published; returns those left dirty.

    `generations` are those captured before the batch was read. To be called inside a transaction.
    """
    left = []
    for day, generation in sorted(generations.items()):
        if reach.of(day, first=first, last=last) <= set(published):
            connection.execute(
                """
                update system.metric_dirty_days
                set built_generation = greatest(built_generation, %(seen)s), built_at = clock_timestamp()
                where day = %(day)s and generation >= %(seen)s
                """,
                {"day": day, "seen": generation},
            )
        else:
            left.append(day)
    return left
