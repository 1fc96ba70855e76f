"""One run over all partitioned tables of both stores: what CLI and Dagster call.

PostgreSQL first (apply.py), whose writers fail without partitions; then the comparison with what is recorded
(drift.py), then the months of ClickHouse (clickhouse/apply.py). A store that is away is told, and does not
keep the other one from its maintenance.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bilten_orchestration.errors import BiltenError, Problem
from bilten_orchestration.partitions.actions import (
    Action,
    Done,
    Hindrance,
    Plan,
    hindrances,
    problems_of,
)
from bilten_orchestration.partitions.bounds import Period
from bilten_orchestration.partitions.clickhouse import apply as of_clickhouse
from bilten_orchestration.partitions.clickhouse.months import Month
from bilten_orchestration.partitions.clickhouse.preview import MonthsReport
from bilten_orchestration.partitions.clickhouse.preview import preview as preview_clickhouse
from bilten_orchestration.partitions.declared import CLICKHOUSE, PartitionedTable
from bilten_orchestration.partitions.postgres import apply as of_postgres
from bilten_orchestration.partitions.postgres.apply import ApplyReport
from bilten_orchestration.partitions.postgres.preview import preview as preview_postgres
from bilten_orchestration.partitions.postgres.reconcile import reconcile
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import Settings


@dataclass(frozen=True, slots=True)
class RunReport:
    """`months` are those of ClickHouse by table, as they are now; `hindrances` of both stores, and drift."""

    plan: Plan
    done: tuple[Done, ...]
    swept_bytes: int
    hindrances: tuple[Hindrance, ...]
    months: dict[str, tuple[Month, ...]] = field(default_factory=dict)

    @property
    def problems(self) -> tuple[Problem, ...]:
        return problems_of(self.hindrances)

    def of(self, table: str) -> tuple[list[Action], list[Done]]:
        """What was planned, and what was done, for one table."""
        return (
            [each for each in self.plan.actions if each.table == table],
            [each for each in self.done if each.action.table == table],
        )

    def problems_of(self, table: str) -> tuple[Problem, ...]:
        """Its own, and those of every table."""
        return problems_of(self.hindrances, table)


def preview(settings: Settings, *, limit: int | None = None, progress: Progress = silent) -> Plan:
    """What a run would do. Raises what that of PostgreSQL does."""
    plans = [preview_postgres(settings, limit=limit, progress=progress)]
    for table in _months(settings, progress):
        try:
            found = preview_clickhouse(settings, table, limit=limit)
            plans.append(Plan(found.plan.actions, found.problems))
        except BiltenError as error:
            plans.append(Plan((), error.problems))
    return Plan.joined(plans)


def apply(
    settings: Settings,
    *,
    limit: int | None = None,
    by: str,
    run: str | None = None,
    progress: Progress = silent,
) -> RunReport:
    """Do it. Raises what `apply.apply` of PostgreSQL does."""
    first: ApplyReport = of_postgres.apply(settings, limit=limit, by=by, run=run, progress=progress)
    found = [*first.hindrances]
    found += [Hindrance(each.problem, each.table) for each in reconcile(settings, run=run).drift]
    plans, done, swept = [first.plan], list(first.done), first.swept_bytes
    months: dict[str, tuple[Month, ...]] = {}
    for table in _months(settings, progress):
        try:
            one: MonthsReport = of_clickhouse.apply(
                settings, table, limit=limit, by=by, run=run, progress=progress
            )
        except BiltenError as error:
            found += hindrances(error.problems, table.name)
            continue
        plans.append(one.plan)
        done += one.done
        swept += one.swept_bytes
        months[table.name] = one.months
        found += hindrances(one.problems, table.name)
    return RunReport(Plan.joined(plans), tuple(done), swept, tuple(found), months)


def _months(settings: Settings, progress: Progress) -> tuple[PartitionedTable, ...]:
    """No address is a deployment without ClickHouse; one that does not answer is a problem."""
    if settings.clickhouse.host is None:
        progress("ClickHouse has no address: nothing is done there")
        return ()
    return CLICKHOUSE


def is_of_clickhouse(name: str) -> bool:
    return any(table.name == name for table in CLICKHOUSE)


@dataclass(frozen=True, slots=True)
class RestoredMonth:
    """A month of ClickHouse that came back; `rows` 0 where all of them were there."""

    partition: str
    rows: int
    archive: str


def restore_month(
    settings: Settings, name: str, period: str, *, by: str, progress: Progress = silent
) -> RestoredMonth:
    """Raises UsageError (no such period), Refused (no archive), Mismatch."""
    table = next(each for each in CLICKHOUSE if each.name == name)
    archive, rows = of_clickhouse.restore(
        settings, Period.parse(period, table.interval), table, run=by, progress=progress
    )
    return RestoredMonth(archive.partition, rows, archive.document)
