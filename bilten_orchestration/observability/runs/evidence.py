"""Which runs that are over are still needed, and by what: Dagster's storage, the records of the platform, and
the catalogue of backups. Reads only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from psycopg import sql

from bilten_orchestration.errors import Mismatch
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores.postgres import Connection

Reason = Literal["newest of its job", "newest of an asset", "newest of a check", "backfill", "named"]

#: So many of each job stay, whatever their age: its page shows how it went.
OF_A_JOB: Final = 10
PAGE: Final = 500
_TERMINAL = ("COMPLETED", "FAILED", "CANCELED", "COMPLETED_SUCCESS", "COMPLETED_FAILED")
_RUN_ID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")

_COUNTS = "select count(*), count(*) filter (where update_timestamp >= %s) from runs"
_DAYS = "select count(distinct create_timestamp::date) from runs where create_timestamp >= %s"
_OF_JOBS = """
    select pipeline_name, min(id) from (
        select pipeline_name, id, row_number() over (partition by pipeline_name order by id desc) as number
        from runs
    ) newest where number <= %s group by pipeline_name
"""
_OVER = """
    select r.id, r.run_id, r.pipeline_name, r.status, r.update_timestamp, r.id >= n.id
    from runs r join unnest(%(jobs)s::text[], %(ids)s::bigint[]) n (job, id) on n.job = r.pipeline_name
    where r.status in ('SUCCESS', 'FAILURE', 'CANCELED') and r.update_timestamp < %(cutoff)s
      and r.id > %(after)s
    order by r.id limit %(page)s
"""
_ASSETS = """
    select distinct e.run_id from event_logs e
    where e.run_id = any(%s) and e.asset_key is not null
      and e.dagster_event_type in ('ASSET_MATERIALIZATION', 'ASSET_OBSERVATION')
      and case when e.partition is null
          then not exists (select from event_logs n where n.asset_key = e.asset_key
              and n.dagster_event_type = e.dagster_event_type and n.id > e.id and n.partition is null)
          else not exists (select from event_logs n where n.asset_key = e.asset_key
              and n.dagster_event_type = e.dagster_event_type and n.id > e.id and n.partition = e.partition)
          end
"""
_CHECKS = """
    select distinct c.run_id from asset_check_executions c
    where c.run_id = any(%s) and not exists (
        select from asset_check_executions n
        where n.asset_key = c.asset_key and n.check_name = c.check_name
          and n.partition is not distinct from c.partition
          and n.execution_status in ('SUCCEEDED', 'FAILED') and n.id > c.id)
"""
_BACKFILLS = """
    select distinct t.run_id from run_tags t join bulk_actions b on b.key = t.value
    where t.key = 'dagster/backfill' and t.run_id = any(%s) and not b.status = any(%s)
"""
# (table, condition): records of the platform that name a run
_RECORDS = (
    ("restore_drills", "true"),
    ("partition_metadata", "true"),
    ("search_indices", "state <> 'removed'"),
    ("search_swaps", "true"),
)


@dataclass(frozen=True, slots=True)
class Over:
    """A run that ended before the cutoff; `updated_at` in UTC. `number` is Dagster's own order."""

    number: int
    run_id: str
    job: str
    status: str
    updated_at: datetime
    of_newest: bool


def counts(connection: Connection, cutoff: datetime) -> tuple[int, int]:
    """All runs, and those that changed since."""
    row = connection.execute(_COUNTS, (_naive(cutoff),)).fetchone()
    assert row is not None  # noqa: S101 (an aggregate)
    return row[0], row[1]


def days_with_runs(connection: Connection, since: datetime) -> int:
    """Days (UTC) on which a run was made."""
    row = connection.execute(_DAYS, (_naive(since),)).fetchone()
    assert row is not None  # noqa: S101 (an aggregate)
    return int(row[0])


def newest_of_jobs(connection: Connection) -> dict[str, int]:
    """By job, the number of the oldest run of its newest ones."""
    return dict(connection.execute(_OF_JOBS, (OF_A_JOB,)).fetchall())


def over(connection: Connection, cutoff: datetime, newest: dict[str, int], after: int) -> list[Over]:
    """A page of runs that ended before then, oldest first."""
    given = {"jobs": list(newest), "ids": list(newest.values()), "cutoff": _naive(cutoff), "after": after}
    rows = connection.execute(_OVER, {**given, "page": PAGE}).fetchall()
    return [
        Over(number, run_id, job, status, updated.replace(tzinfo=UTC), of_newest)
        for number, run_id, job, status, updated, of_newest in rows
    ]


def needed(connection: Connection, runs: Sequence[Over], named: frozenset[str]) -> dict[str, Reason]:
    """By run, what still needs it; the others are missing."""
    ids = [run.run_id for run in runs]
    found: dict[str, Reason] = {}
    for (run_id,) in connection.execute(_CHECKS, (ids,)).fetchall():
        found[run_id] = "newest of a check"
    for (run_id,) in connection.execute(_ASSETS, (ids,)).fetchall():
        found[run_id] = "newest of an asset"
    for (run_id,) in connection.execute(_BACKFILLS, (ids, list(_TERMINAL))).fetchall():
        found[run_id] = "backfill"
    found |= {run.run_id: "newest of its job" for run in runs if run.of_newest}
    return found | dict.fromkeys((each for each in ids if each in named), "named")


def named_by_records(connection: Connection) -> frozenset[str]:
    """Runs that drills, partitions and search indices are recorded with."""
    found: set[str] = set()
    for table, condition in _RECORDS:
        rows = connection.execute(
            sql.SQL("select distinct run_id from {} where run_id is not null and {}").format(
                sql.Identifier("system", table),
                sql.SQL(condition),  # ours
            )
        )
        found.update(each for (text,) in rows for each in _RUN_ID.findall(text))
    return frozenset(found)


def named_by_backups(settings: Settings) -> frozenset[str]:
    """Runs that made a backup which has not expired, or said something of it.

    Raises Mismatch where the catalogue cannot be believed whole, Refused without the key file, and
    StoreUnavailable: what is not known to be needless stays.
    """
    from bilten_orchestration.backups.repository import catalogue
    from bilten_orchestration.backups.repository.opened import Opened

    if not _has_documents(settings, catalogue.ROOT):
        return frozenset()
    found: set[str] = set()
    with Opened.of(settings, new=False) as opened:
        read = catalogue.read(opened.repository, opened.ring)
    if read.problems:
        raise Mismatch(read.problems)
    for backup in read.backups:
        if backup.state != "expired":
            texts = (backup.manifest.run or "", *(mark.by for mark in backup.marks))
            found.update(each for text in texts for each in _RUN_ID.findall(text))
    return frozenset(found)


def _has_documents(settings: Settings, root: str) -> bool:
    """A deployment without a backup has no key file either."""
    from bilten_orchestration.backups.repository.bucket import Repository
    from bilten_orchestration.stores.object_store import connect

    with closing(connect(settings.object_store)) as client:
        listed = Repository(client, settings.object_store.bucket_backups).list(f"{root}/")
        return next(listed, None) is not None


def _naive(moment: datetime) -> datetime:
    """As Dagster's columns have them."""
    return moment.astimezone(UTC).replace(tzinfo=None)
