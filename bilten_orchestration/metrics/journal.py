"""The journal of builds in PostgreSQL (system.build_journal): one row per build, mart and day.

A row is `planned` before dbt starts and ends as swapped, unchanged, refused or abandoned. What really
happened to a day stands in analytics.mart_days, written by the swap itself; the journal of a killed
build is completed from there by the next one, under the lock `build`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

from bilten_orchestration.metrics.verdicts import MartDay
from bilten_orchestration.stores.postgres import Connection


@dataclass(frozen=True, slots=True)
class Entry:
    mart: str
    day: date
    state: str
    batch: int
    generation: int | None


def open_builds(connection: Connection) -> list[str]:
    """Builds with rows that have not ended, newest first. Under the lock `build` they are all dead."""
    rows = connection.execute(
        """
        select run_id from system.build_journal where ended_at is null
        group by run_id order by max(started_at) desc
        """
    ).fetchall()
    return [run_id for (run_id,) in rows]


def entries(connection: Connection, build_id: str) -> list[Entry]:
    rows = connection.execute(
        "select mart, day, state, batch, generation from system.build_journal"
        " where run_id = %s order by day, mart",
        (build_id,),
    ).fetchall()
    return [Entry(*row) for row in rows]


def plan(
    connection: Connection,
    build_id: str,
    marts: Iterable[str],
    days: Iterable[date],
    batch: int,
    generations: Mapping[date, int],
) -> None:
    """Write what is going to be built; rows of an earlier attempt of the same build begin anew."""
    with connection.transaction(), connection.cursor() as cursor:
        cursor.executemany(
            """
            insert into system.build_journal (run_id, mart, day, state, batch, generation)
            values (%s, %s, %s, 'planned', %s, %s)
            on conflict (run_id, mart, day) do update
                set state = 'planned', batch = excluded.batch, generation = excluded.generation,
                    rows = null, detail = null, started_at = clock_timestamp(), ended_at = null
            """,
            [(build_id, mart, day, batch, generations.get(day)) for day in days for mart in marts],
        )


def complete(
    connection: Connection,
    build_id: str,
    outcomes: Iterable[MartDay],
    details: Mapping[tuple[str, date], str],
) -> None:
    """End rows with what became of them. To be called inside a transaction."""
    with connection.cursor() as cursor:
        cursor.executemany(
            """
            update system.build_journal
            set state = %s, rows = %s, detail = %s, ended_at = clock_timestamp()
            where run_id = %s and mart = %s and day = %s and ended_at is null
            """,
            [
                (
                    found.verdict,
                    found.rows,
                    details.get((found.mart, found.day)),
                    build_id,
                    found.mart,
                    found.day,
                )
                for found in outcomes
            ],
        )


def abandon(connection: Connection, build_id: str, reason: str) -> None:
    """End what is still open of a dead build. To be called inside a transaction."""
    connection.execute(
        """
        update system.build_journal set state = 'abandoned', detail = %s, ended_at = clock_timestamp()
        where run_id = %s and ended_at is null
        """,
        (reason, build_id),
    )
