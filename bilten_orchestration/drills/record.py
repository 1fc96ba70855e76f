"""system.restore_drills: a row for each drill, begun with its order and ended with what it found.

The attestation in the repository is the truth and is written first; rows are for queries beside other tables.
While PostgreSQL is down a drill goes on without them, and the next one writes what is missing. A row that a
kill left open (`ok` is null) is found by the next drill of its store, under the lock of which it is dead.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from bilten_orchestration.drills.report import DrillReport
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.driver_errors import translated

_END = """
    insert into system.restore_drills
        (id, store, way, started_at, finished_at, ok, rpo_seconds, rto_seconds, bytes, phases, problems,
         run_id)
    values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
    on conflict (id) do update
    set finished_at = excluded.finished_at, ok = excluded.ok, rpo_seconds = excluded.rpo_seconds,
        rto_seconds = excluded.rto_seconds, bytes = excluded.bytes, phases = excluded.phases,
        problems = excluded.problems
    where restore_drills.ok is null
"""


@dataclass(frozen=True, slots=True)
class Begun:
    """A row that was not ended."""

    id: str
    way: str
    started_at: datetime
    run: str | None


@dataclass(frozen=True, slots=True)
class Lost:
    """What would have been lost by the newest sample of a bucket: `rpo_seconds` at `sampled_at`."""

    bucket: str
    sampled_at: datetime
    reachable_until: datetime | None
    rpo_seconds: float | None


class Record:
    """The table. Every method raises StoreUnavailable or AccessRefused while PostgreSQL is away."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def begin(self, drill: str, store: str, way: str, started_at: datetime, run: str | None) -> None:
        with self._connected() as connection:
            connection.execute(
                "insert into system.restore_drills (id, store, way, started_at, run_id)"
                " values (%s, %s, %s, %s, %s)",
                (drill, store, way, started_at, run),
            )

    def left(self, store: str) -> list[Begun]:
        """Rows of a store that nobody ended, oldest first."""
        with self._connected() as connection:
            rows = connection.execute(
                "select id::text, way, started_at, run_id from system.restore_drills"
                " where store = %s and ok is null order by started_at, id",
                (store,),
            ).fetchall()
        return [Begun(*row) for row in rows]

    def end(self, reports: Iterable[DrillReport]) -> None:
        """Write what drills found; a row that has ended stays as it is."""
        with self._connected() as connection, connection.transaction():
            for report in reports:
                connection.execute(
                    _END,
                    (
                        report.id,
                        report.store,
                        report.way,
                        report.started_at,
                        report.finished_at,
                        report.ok,
                        report.rpo_seconds,
                        report.rto_seconds,
                        report.restored_bytes,
                        json.dumps(dict(report.phases)),
                        json.dumps([asdict(problem) for problem in report.problems]),
                        report.run,
                    ),
                )

    def samples(self) -> dict[str, Lost]:
        """The newest sample of each bucket, by its name."""
        with self._connected() as connection:
            rows = connection.execute(
                "select distinct on (bucket) bucket, sampled_at, reachable_until, rpo_seconds"
                " from system.rpo_samples order by bucket, sampled_at desc"
            ).fetchall()
        return {row[0]: Lost(*row) for row in rows}

    def clock(self) -> datetime:
        """PostgreSQL's own, UTC."""
        with self._connected() as connection:
            row = connection.execute("select clock_timestamp()").fetchone()
        assert row is not None  # noqa: S101
        at: datetime = row[0]
        return at.astimezone(UTC)

    @contextmanager
    def _connected(self) -> Iterator[postgres.Connection]:
        with (
            translated("the record of drills"),
            postgres.connect(
                self._settings.postgres, application_name="bilten drill", autocommit=True
            ) as connection,
        ):
            yield connection
