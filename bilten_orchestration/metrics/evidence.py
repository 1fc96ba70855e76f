"""What a build reads, and whether it may: one whole batch, no row of a newer one, days with controls.

To be gathered under the shared lock `sync`: then batch and generations belong together, for the sync
writes both in one transaction under the exclusive lock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from bilten_orchestration.errors import Problem, Refused
from bilten_orchestration.metrics import days as day_rules
from bilten_orchestration.stores.postgres import Connection

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

CONSUMER = "clickhouse"


@dataclass(frozen=True, slots=True)
class Batch:
    """The batch that a build reads. `as_of` is the moment of PostgreSQL's snapshot (UTC); of transactions
    that had an id at `settled_until` (UTC) it has all, for they had ended."""

    number: int
    as_of: datetime
    settled_until: datetime
    first_control_day: date


def usable_batch(connection: Connection, client: Client) -> Batch:
    """The last batch. Raises Refused with every reason why nothing may be built from it."""
    row = connection.execute(
        "select batch, applying_batch, as_of from system.sync_state where consumer = %s", (CONSUMER,)
    ).fetchone()
    if row is None or (row[0] == 0 and row[1] is None):
        raise Refused(
            "there is nothing to build from: no sync has run yet",
            expected="at least one whole batch",
            found="none",
            next="bilten sync",
        )
    batch, applying, as_of = row
    settled = settled_until(client, batch)
    problems = []
    if applying is not None:
        problems.append(
            Problem(
                f"batch {applying} is half applied: a sync was interrupted",
                expected=f"batch {batch} and nothing newer",
                found=f"batch {applying} begun and not ended",
                next="bilten sync ends it; then build again",
            )
        )
    elif settled is None:
        problems.append(
            Problem(
                f"batch {batch} is not recorded as whole in ClickHouse",
                expected=f"a row in analytics.sync_batches for batch {batch}",
                found="none: the two stores do not belong together, or analytics was emptied",
                next="bilten sync --full loads everything again",
            )
        )
    newer = newer_versions(client, batch)
    if newer and applying is None:
        problems.append(
            Problem(
                f"raw rows are newer than batch {batch}",
                expected=f"no version above {batch}",
                found=", ".join(f"{table}: {version}" for table, version in newer.items()),
                next="bilten sync; if it stays, PostgreSQL was set back: bilten sync --accept-epoch",
            )
        )
    first = first_control_day(client)
    if first is None:
        problems.append(
            Problem(
                "there are no control totals to compare with",
                expected="a row in analytics.control_days for every day",
                found="an empty table",
                next="bilten sync --full",
            )
        )
    if problems or first is None or settled is None:
        raise Refused(problems)
    return Batch(batch, as_of.astimezone(UTC), settled, first)


def settled_until(client: Client, batch: int) -> datetime | None:
    """Of that batch (UTC); None where it is not whole in ClickHouse."""
    rows = client.query(
        "select settled_until from analytics.sync_batches where batch = {batch:UInt64} limit 1",
        {"batch": batch},
    ).result_rows
    return rows[0][0].replace(tzinfo=UTC) if rows else None


@dataclass(frozen=True, slots=True)
class Newest:
    """Moments (UTC) of the newest batch; both 1970 before the first."""

    as_of: datetime
    settled_until: datetime


def newest(client: Client) -> Newest:
    [(as_of, settled)] = client.query(
        "select argMax(as_of, batch), argMax(settled_until, batch) from analytics.sync_batches"
    ).result_rows
    return Newest(as_of.replace(tzinfo=UTC), settled.replace(tzinfo=UTC))


def first_control_day(client: Client) -> date | None:
    """The oldest day that PostgreSQL's own totals are known for; None before the first sync."""
    day, count = client.query("select min(metric_date), count() from analytics.control_days").result_rows[0]
    return day if count else None


def newer_versions(client: Client, batch: int) -> dict[str, int]:
    """Raw tables that hold rows of a batch above this one, with the highest version."""
    tables = [
        name
        for (name,) in client.query(
            "select name from system.tables"
            " where database = 'bilten_raw' and engine like '%MergeTree' order by name"
        ).result_rows
    ]
    if not tables:
        return {}
    highest = " union all ".join(
        f"select '{table}' as name, max(version) as version from bilten_raw.`{table}`" for table in tables
    )
    rows = client.query(
        f"select name, version from ({highest}) where version > {batch:d} order by name"
    ).result_rows
    return {str(name): int(version) for name, version in rows}


def refuse_days(days: Sequence[date], *, first: date | None, now: datetime) -> list[Problem]:
    """Problems of days that cannot be built: ahead of every zone, or before there are controls.

    `first` is None where the first control day is not known yet.
    """
    problems = []
    last = day_rules.last_day(now)
    if late := [day for day in days if day > last]:
        problems.append(
            Problem(
                f"{len(late)} of the days lie in the future",
                expected=f"days up to {last} (UTC today and two days)",
                found=_listed(late),
                next=f"end the range at {last}",
            )
        )
    if first is not None and (early := [day for day in days if day < first]):
        problems.append(
            Problem(
                f"{len(early)} of the days lie before the first day that has control totals",
                expected=f"days from {first} on",
                found=_listed(early),
                next=f"begin the range at {first}",
            )
        )
    return problems


def refuse_archived(connection: Connection, days: Sequence[date]) -> list[Problem]:
    """Problems of days whose clicks are archived and dropped (partitions/clickhouse): a build finds none,
    and publishes that. A local day may reach into the UTC days beside it."""
    rows = connection.execute(
        """
        select from_at::date, to_at::date from system.partition_metadata
        where table_name = 'analytics.events' and state = 'dropped' order by 1
        """
    ).fetchall()
    beside = timedelta(days=1)
    gone = {day for day in days for low, high in rows if low - beside <= day <= high}
    if not gone:
        return []
    months = sorted({f"{low:%Y-%m}" for low, high in rows if any(low - beside <= d <= high for d in gone)})
    return [
        Problem(
            f"{len(gone)} of the days have clicks that were archived and dropped",
            expected="days whose clicks are there",
            found=_listed(sorted(gone)),
            next="; ".join(f"bilten partitions restore analytics.events {month}" for month in months),
        )
    ]


def _listed(days: Sequence[date]) -> str:
    return ", ".join(str(found) for found in day_rules.ranges(days))
