"""Dagster, as its own storage tells it (docs/adr/0030): what waits and runs, heartbeats, ticks, durations.

What ended is told of the last day, for retention takes old runs away and a counter must not fall.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from bilten_orchestration.observability.finding import Reading
from bilten_orchestration.observability.series import Collected, gauge
from bilten_orchestration.observability.sources import bounded, dagster_storage
from bilten_orchestration.settings import Settings

_SECONDS: Final = 15.0
_D = "bilten_dagster_"
_UNFINISHED: Final = ("NOT_STARTED", "QUEUED", "STARTING", "STARTED", "CANCELING")
_WAITING: Final = ("NOT_STARTED", "QUEUED", "STARTING")
_TICKS: Final = ("STARTED", "SUCCESS", "SKIPPED", "FAILURE")
_MOST_JOBS: Final = 100

RUNS = gauge(f"{_D}runs", "Runs that have not ended, by status", "status")
QUEUE_AGE = gauge(f"{_D}longest_queued_seconds", "How long a run has been waiting to start at most")
RUN_AGE = gauge(f"{_D}longest_run_seconds", "How long a run has been going on at most")
BEAT_AGE = gauge(f"{_D}daemon_heartbeat_age_seconds", "Since the newest heartbeat of a daemon", "daemon")
TICKS = gauge(f"{_D}ticks_last_hour", "Evaluations of schedules and sensors within an hour", "status")
ENDED = gauge(f"{_D}runs_ended_last_day", "Runs that ended within a day", "job_name", "status")
MEAN = gauge(f"{_D}run_duration_mean_seconds", "Mean duration of those that succeeded", "job_name")
LONGEST = gauge(f"{_D}run_duration_max_seconds", "Longest duration of those", "job_name")
SUCCEEDED_AT = gauge(f"{_D}last_success_timestamp_seconds", "When the newest of those ended", "job_name")

# creation is in UTC without a zone; starts are seconds since 1970
_GOING = """
    select status, count(*),
           extract(epoch from (now() at time zone 'UTC') - min(create_timestamp))::float8,
           extract(epoch from now())::float8 - min(start_time)
    from runs where status = any(%s) group by status
"""

# by the index on status and update; a run is not updated long after its end
_ENDED = """
    select pipeline_name, status, count(*), avg(end_time - start_time), max(end_time - start_time),
           max(end_time)
    from runs
    where status in ('SUCCESS', 'FAILURE', 'CANCELED')
      and update_timestamp > (now() at time zone 'UTC') - interval '1 day'
      and end_time > extract(epoch from now())::float8 - 86400
    group by 1, 2 order by 3 desc, 1, 2 limit %s
"""

# no index has the time alone; ticks are written in the order of their ids
_TICKED = """
    select status, count(*) from job_ticks
    where id > (select coalesce(max(id), 0) - 20000 from job_ticks)
      and timestamp > (now() at time zone 'UTC') - interval '1 hour'
    group by status
"""


@dataclass(frozen=True, slots=True)
class DagsterInternals:
    settings: Settings
    name: str = "metrics/dagster"
    needs: tuple[str, ...] = ("store/postgres",)

    @property
    def interval_seconds(self) -> float:
        return self.settings.serve.metrics_seconds

    def read(self) -> Reading:
        with bounded.connected(
            self.settings, "the look at Dagster's numbers", role="dagster", seconds=_SECONDS
        ) as connection:
            dagster_storage.require(connection)
            going = connection.execute(_GOING, (list(_UNFINISHED),)).fetchall()
            ended = connection.execute(_ENDED, (_MOST_JOBS,)).fetchall()
            ticked = dict(connection.execute(_TICKED).fetchall())
            beats = dagster_storage.beats(connection)
        now = datetime.now(UTC)
        found = Collected()
        counts = {status: count for status, count, *_ in going}
        for status in _UNFINISHED:
            found.add(RUNS, counts.get(status, 0), status)
        waited = [age or 0.0 for status, _, age, _ in going if status in _WAITING]
        found.add(QUEUE_AGE, max(waited, default=0.0))
        found.add(RUN_AGE, max((age or 0.0 for *_, age in going), default=0.0))
        for daemon, at in beats.items():
            found.add(BEAT_AGE, max(0.0, (now - at).total_seconds()), daemon)
        for status in {*_TICKS, *ticked}:
            found.add(TICKS, ticked.get(status, 0), status)
        for job, status, count, mean, longest, newest in ended:
            found.add(ENDED, count, job, status)
            if status == "SUCCESS":
                found.add(MEAN, mean, job)
                found.add(LONGEST, longest, job)
                found.add(SUCCEEDED_AT, newest, job)
        return Reading(samples=found.samples)

    def overdue(self, began_at: datetime, now: datetime) -> None:
        return None
