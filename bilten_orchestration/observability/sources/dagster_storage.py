"""What Dagster's own storage tells of runs, checks, ticks and daemons, asked by SQL: see docs/adr/0030.

It answers while webserver, daemon and code server are dead. Only columns that Dagster filters by itself are
read, and of its serialized events single fields, each of which may be missing. Nothing here is written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from bilten_orchestration.errors import StoreUnavailable
from bilten_orchestration.stores.postgres import Connection

#: Days that are looked back: what failed before then and was never made up for is no news any more.
BACK_DAYS: Final = 7

_TAGS = (
    "dagster/schedule_name",
    "dagster/sensor_name",
    "dagster/backfill",
    "dagster/partition",
    "dagster/asset_partition_range_start",
    "dagster/asset_partition_range_end",
    "dagster/will_retry",
    "bilten/by_hand",
    "bilten/on_failure",
)

_RUN = """
    select r.run_id, r.pipeline_name, r.status, r.create_timestamp, r.start_time, r.end_time,
           r.update_timestamp,
           (select coalesce(jsonb_object_agg(t.key, t.value), '{}') from run_tags t
            where t.run_id = r.run_id and t.key = any(%(tags)s))
    from runs r
"""

_UNFINISHED = f"""
    {_RUN}
    where r.status in ('NOT_STARTED', 'QUEUED', 'STARTING', 'STARTED', 'CANCELING')
    order by r.id limit 1000
"""

_FAILED = f"""
    {_RUN}
    where r.status = 'FAILURE' and r.end_time > %(since)s
    order by r.id limit 5000
"""

_MADE_UP = f"""
    {_RUN}
    where r.status = 'SUCCESS' and r.end_time > %(since)s and r.pipeline_name = any(%(jobs)s)
    order by r.id
"""

_SAID = """
    select event from event_logs
    where run_id = %s and dagster_event_type in ('STEP_FAILURE', 'PIPELINE_FAILURE')
    order by dagster_event_type desc, id limit 1
"""

# the newest evaluation of each check and partition, where it failed
_CHECKS = """
    select f.asset_key, f.check_name, f.partition, f.run_id, f.evaluation_event,
           f.evaluation_event_timestamp
    from asset_check_executions f
    where f.execution_status = 'FAILED'
      and f.evaluation_event_timestamp > (now() at time zone 'UTC') - make_interval(days => %(days)s)
      and not exists (
          select from asset_check_executions n
          where n.asset_key = f.asset_key and n.check_name = f.check_name
            and n.partition is not distinct from f.partition
            and n.execution_status in ('SUCCEEDED', 'FAILED') and n.id > f.id)
    order by f.id desc limit 2000
"""

# Dagster's daemon writes a state when it changes, and nothing else
_STALE = """
    select asset_key, event from (
        select distinct on (asset_key) asset_key, event from event_logs
        where dagster_event_type = 'FRESHNESS_STATE_CHANGE' and asset_key is not null
        order by asset_key, id desc
    ) newest
"""

_BEATS = "select daemon_type, max(timestamp) from daemon_heartbeats group by daemon_type"

_TICKS = """
    select status, tick_body, timestamp from (
        select distinct on (coalesce(selector_id, job_origin_id)) status, tick_body, timestamp
        from job_ticks
        where timestamp > (now() at time zone 'UTC') - interval '1 day'
          and status in ('SUCCESS', 'SKIPPED', 'FAILURE')
        order by coalesce(selector_id, job_origin_id), id desc
    ) newest where status = 'FAILURE'
"""


@dataclass(frozen=True, slots=True)
class Run:
    """A run as the storage has it; times in UTC, None where it has not come to that."""

    run_id: str
    job: str
    status: str
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    updated_at: datetime
    tags: Mapping[str, str]

    @property
    def scheduled(self) -> bool:
        return "dagster/schedule_name" in self.tags

    @property
    def backfill(self) -> str | None:
        return self.tags.get("dagster/backfill")

    @property
    def span(self) -> tuple[str, str] | None:
        """First and last partition key, None where it has none."""
        one = self.tags.get("dagster/partition")
        first = self.tags.get("dagster/asset_partition_range_start", one)
        last = self.tags.get("dagster/asset_partition_range_end", one)
        return None if first is None or last is None else (first, last)


@dataclass(frozen=True, slots=True)
class FailedCheck:
    """The newest evaluation of a check, that failed."""

    asset: tuple[str, ...]
    check: str
    partition: str | None
    run_id: str
    at: datetime
    severity: str
    blocking: bool
    description: str


@dataclass(frozen=True, slots=True)
class Stale:
    """An asset that is not fresh by its policy, and since when (UTC)."""

    asset: tuple[str, ...]
    since: datetime


@dataclass(frozen=True, slots=True)
class FailedTick:
    """The newest tick of a schedule or sensor, that failed."""

    name: str
    at: datetime
    said: str


def require(connection: Connection) -> None:
    """Raises StoreUnavailable before Dagster has made its tables."""
    row = connection.execute("select to_regclass('public.job_ticks')").fetchone()
    if row is None or row[0] is None:
        raise StoreUnavailable(
            "Dagster's storage has no tables yet",
            expected="the tables that Dagster makes at its first start",
            found="none",
            next="bilten up",
        )


def unfinished(connection: Connection) -> list[Run]:
    return _runs(connection, _UNFINISHED, {})


def failed(connection: Connection, now: datetime) -> list[Run]:
    """Runs that failed, oldest first; one that Dagster starts again by itself is none."""
    since = now.timestamp() - BACK_DAYS * 86_400
    found = _runs(connection, _FAILED, {"since": since})
    return [run for run in found if run.tags.get("dagster/will_retry") != "true"]


def made_up(connection: Connection, among: Sequence[Run]) -> list[Run]:
    """Runs of the same jobs that succeeded after the first of these had failed."""
    ends = [run.ended_at.timestamp() for run in among if run.ended_at is not None]
    if not ends:
        return []
    jobs = sorted({run.job for run in among})
    return _runs(connection, _MADE_UP, {"since": min(ends), "jobs": jobs})


def said(connection: Connection, run_id: str) -> str:
    """What a failed run gave as its reason, in its own words; empty where it gave none."""
    row = connection.execute(_SAID, (run_id,)).fetchone()
    event = {} if row is None else _field(_parsed(row[0]), "dagster_event")
    data = _field(event, "event_specific_data")
    user = _field(data, "user_failure_data").get("description")
    error = _field(data, "error")
    cause = _field(error, "cause").get("message")
    found = user or cause or error.get("message") or event.get("message") or ""
    return str(found).strip()


def failed_checks(connection: Connection) -> list[FailedCheck]:
    rows = connection.execute(_CHECKS, {"days": BACK_DAYS}).fetchall()
    found = []
    for asset, check, partition, run_id, event, at in rows:
        data = _field(_field(_parsed(event), "dagster_event"), "event_specific_data")
        severity = data.get("severity")
        if isinstance(severity, dict):  # {"__enum__": "AssetCheckSeverity.WARN"}
            severity = severity.get("__enum__")
        found.append(
            FailedCheck(
                asset=tuple(json.loads(asset)),
                check=check,
                partition=partition or data.get("partition"),
                run_id=run_id,
                at=at.replace(tzinfo=UTC),
                severity=str(severity or "ERROR").rpartition(".")[2],
                blocking=bool(data.get("blocking")),
                description=str(data.get("description") or ""),
            )
        )
    return found


def stale(connection: Connection) -> list[Stale]:
    """Assets that Dagster's daemon found to be older than their policy allows; a warning is none."""
    found = []
    for asset, event in connection.execute(_STALE).fetchall():
        change = _field(_field(_parsed(event), "dagster_event"), "event_specific_data")
        state = _field(change, "new_state").get("__enum__")
        if state == "FreshnessState.FAIL":
            since = datetime.fromtimestamp(float(change["state_change_timestamp"]), UTC)
            found.append(Stale(tuple(json.loads(asset)), since))
    return found


def beats(connection: Connection) -> dict[str, datetime]:
    """The newest heartbeat of each of Dagster's daemons (UTC), by its kind."""
    return {
        kind: at if at.tzinfo else at.replace(tzinfo=UTC)
        for kind, at in connection.execute(_BEATS).fetchall()
    }


def failed_ticks(connection: Connection) -> list[FailedTick]:
    found = []
    for _, body, at in connection.execute(_TICKS).fetchall():
        tick = _parsed(body)
        error = _field(tick, "error")
        name = tick.get("instigator_name") or tick.get("job_name")
        if name:
            told = str(error.get("message") or "no reason").strip()
            found.append(FailedTick(str(name), at.replace(tzinfo=UTC), told))
    return found


def _runs(connection: Connection, statement: str, parameters: dict[str, Any]) -> list[Run]:
    rows = connection.execute(statement, {**parameters, "tags": list(_TAGS)}).fetchall()
    return [
        Run(
            run_id,
            job,
            status,
            created.replace(tzinfo=UTC),
            _moment(start),
            _moment(end),
            updated.replace(tzinfo=UTC),
            tags,
        )
        for run_id, job, status, created, start, end, updated, tags in rows
    ]


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _parsed(text: str | None) -> dict[str, Any]:
    found = json.loads(text) if text else {}
    return found if isinstance(found, dict) else {}


def _field(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = document.get(name)
    return found if isinstance(found, dict) else {}
