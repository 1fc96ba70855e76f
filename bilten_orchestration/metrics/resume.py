"""Settles what dead builds left open, and decides whether a build goes on under the id of one.

To be called under the lock `build`: whatever is open in the journal then is dead.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from bilten_orchestration.metrics import journal, leftovers, verdicts
from bilten_orchestration.metrics.journal import Entry
from bilten_orchestration.metrics.verdicts import MartDay
from bilten_orchestration.progress import Progress
from bilten_orchestration.stores.postgres import Connection

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client


@dataclass(frozen=True, slots=True)
class Start:
    """Under which id a build runs, and the days it has to do."""

    build_id: str
    pending: tuple[date, ...]
    resumed: bool


def begin(
    connection: Connection,
    client: Client,
    marts: Collection[str],
    days: Sequence[date],
    needed: Mapping[date, int],
    run_id: str,
    progress: Progress,
    *,
    retry_refused: bool,
) -> Start:
    """Complete the journal of dead builds; resume the newest one of the same days and marts.

    `needed`: the batch that a day must show at least. Which mart days have ended is read from
    ClickHouse, where the swap itself wrote it.
    """
    dead = journal.open_builds(connection)
    leftovers.await_statements(client, dead, progress)
    leftovers.drop_build_tables(client)
    start: Start | None = None
    for build_id in dead:
        entries = journal.entries(connection, build_id)
        found = verdicts.mart_days(client, {entry.mart for entry in entries}, run_id=build_id)
        same = {(entry.mart, entry.day) for entry in entries} == {
            (mart, day) for mart in marts for day in days
        }
        with connection.transaction():
            journal.complete(connection, build_id, found, {})
            if start is not None or not same:
                journal.abandon(connection, build_id, f"killed; build {run_id} came after it")
        if start is None and same:
            start = _resumed(build_id, entries, found, days, needed, retry_refused=retry_refused)
        else:
            progress(f"build {build_id} was killed; what it had not ended is abandoned")
    return start or Start(named(run_id), tuple(days), resumed=False)


def named(run_id: str) -> str:
    """The id as dbt's variables and table names take it: [a-z0-9_]{1,40}."""
    return run_id.lower().replace("-", "_")[:40]


def _resumed(
    build_id: str,
    entries: Sequence[Entry],
    found: Sequence[MartDay],
    days: Sequence[date],
    needed: Mapping[date, int],
    *,
    retry_refused: bool,
) -> Start:
    ended = {(day.mart, day.day): day for day in found}
    pending = [
        day
        for day in days
        if not all(
            _holds(ended.get((entry.mart, day)), needed.get(day, 0), retry_refused)
            for entry in entries
            if entry.day == day
        )
    ]
    return Start(build_id, tuple(pending), resumed=True)


def _holds(found: MartDay | None, needed: int, retry_refused: bool) -> bool:
    if found is None:
        return False
    if found.verdict == "refused":
        return not retry_refused
    return found.batch >= needed  # else its facts have changed since
