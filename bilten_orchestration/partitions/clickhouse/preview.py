"""What a run over the months of ClickHouse would do, and everything that was read for it. Writes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from bilten_orchestration.backups.repository.opened import Opened, key_file
from bilten_orchestration.errors import Problem, Refused
from bilten_orchestration.partitions import archives, metadata
from bilten_orchestration.partitions.actions import Done, Plan
from bilten_orchestration.partitions.archives import Archives
from bilten_orchestration.partitions.clickhouse import health, months, record
from bilten_orchestration.partitions.clickhouse.plan import Seen, plan
from bilten_orchestration.partitions.declared import CLICKHOUSE, PartitionedTable
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse, postgres
from bilten_orchestration.stores.driver_errors import translated
from bilten_orchestration.stores.postgres import Connection

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

APART = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class MonthsReport:
    """`done` in the order in which it was done; `months` as they are now; `plan` what was found.
    `drift`, which is among `problems`, are months that somebody else dropped. `swept_bytes` were left by
    archives that were killed."""

    table: str
    plan: Plan
    done: tuple[Done, ...]
    months: tuple[months.Month, ...]
    problems: tuple[Problem, ...]
    drift: tuple[Problem, ...] = ()
    swept_bytes: int = 0


def preview(
    settings: Settings, table: PartitionedTable = CLICKHOUSE[0], *, limit: int | None = None
) -> MonthsReport:
    """What a run would do, and what is wrong."""
    with opened_stores(settings) as (connection, client), ExitStack() as stack:
        # without keys nothing was archived yet, and a preview makes none
        opened = stack.enter_context(Opened.of(settings, new=False)) if key_file(settings).exists() else None
        seen = see(connection, client, opened, table)
        return report(seen, planned(seen, settings, limit, opened), (), client, settings)


def see(connection: Connection, client: Client, opened: Opened | None, table: PartitionedTable) -> Seen:
    """Everything that a plan needs. Raises Refused: an archive that cannot be believed."""
    found = Archives((), ())
    if opened is not None:
        found = archives.read(opened.repository, opened.ring, "clickhouse", table.name)
    if found.problems:
        raise Refused(found.problems)
    aside = tuple(m for m in months.read(client, months.leaving(table)) if m.rows)
    return Seen(
        table,
        months.clock(client),
        months.read(client, table.name),
        aside,
        metadata.read(connection, table.name),
        found.archives,
    )


def planned(seen: Seen, settings: Settings, limit: int | None, opened: Opened | None) -> Plan:
    limits = settings.partitions.end_limit if limit is None else limit
    store = None if opened is None else opened.repository.clock()
    return plan(seen, limit=limits, untrusted=untrusted(seen, settings, store))


def untrusted(seen: Seen, settings: Settings, store: datetime | None) -> list[Problem]:
    """Why nothing may end: clocks that differ, or rows that are old (all clocks may be ahead)."""
    found = [
        Problem(
            f"nothing is ended: {who} and ClickHouse do not agree on the time",
            expected=f"{seen.now:%F %T} UTC, as ClickHouse says",
            found=f"{at:%F %T} UTC",
            next="correct the clock that is wrong",
        )
        for who, at in (("this machine", datetime.now(UTC)), ("the object store", store))
        if at is not None and abs(at - seen.now) > APART
    ]
    newest = max((m.period.end for m in seen.months if m.rows), default=None)
    silence = timedelta(days=settings.partitions.silence_days)
    if newest is not None and seen.now - newest > silence:
        found.append(
            Problem(
                "nothing is ended: the newest clicks are old, and time without rows makes nothing older",
                expected=f"clicks of the last {silence.days} days",
                found=f"the newest month with rows ended {newest:%F}",
                next="see why nothing is written, or correct the clocks (all of them may be ahead)",
            )
        )
    return found


def report(
    seen: Seen,
    found: Plan,
    done: Sequence[Done],
    client: Client,
    settings: Settings,
    swept_bytes: int = 0,
) -> MonthsReport:
    gone = record.drift(seen)
    told = [*found.problems, *gone, *health.problems(client, seen, settings.partitions)]
    return MonthsReport(
        seen.table.name, found, tuple(done), seen.months, tuple(told), tuple(gone), swept_bytes
    )


@contextmanager
def opened_stores(settings: Settings) -> Iterator[tuple[Connection, Client]]:
    with (
        translated("the maintenance of clickstream months"),
        postgres.connect(
            settings.postgres, application_name="bilten partitions clickhouse", autocommit=True
        ) as connection,
        closing(clickhouse.connect(settings.clickhouse)) as client,
    ):
        yield connection, client
