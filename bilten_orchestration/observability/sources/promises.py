"""What the platform promises, measured where it is true: marts in ClickHouse, lags and partitions in
PostgreSQL, backups and drills in the repository. The rules are those of the domains."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from bilten_orchestration.backups import plan, recency
from bilten_orchestration.backups.repository import catalogue
from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.drills import attestation
from bilten_orchestration.drills import plan as drill_plan
from bilten_orchestration.drills import promises as drill_promises
from bilten_orchestration.errors import Problem
from bilten_orchestration.ingestion import lag as lags
from bilten_orchestration.observability.finding import Finding, Promise, Reading
from bilten_orchestration.observability.sources import bounded
from bilten_orchestration.partitions.declared import DECLARED
from bilten_orchestration.partitions.listing import PartitionRow
from bilten_orchestration.partitions.postgres.catalogue import attached
from bilten_orchestration.partitions.standing import standing, too_few_ahead
from bilten_orchestration.search import lag as search_lag
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores.driver_errors import translated

_SECONDS = 20.0
_DRILLS_REMEMBERED = 64
_MARTS_AFTER_SECONDS = 7200.0


@dataclass(frozen=True, slots=True)
class Marts:
    """The newest closed day of every daily mart is final."""

    settings: Settings
    name: str = "marts"
    interval_seconds: float = 120
    needs: tuple[str, ...] = ("store/clickhouse",)

    def read(self) -> Reading:
        from bilten_orchestration.metrics import freshness
        from bilten_orchestration.stores import clickhouse

        quick = self.settings.clickhouse.model_copy(
            update={"connect_timeout_seconds": 5, "query_timeout_seconds": 30}
        )
        now = datetime.now(UTC)
        with translated("the look at mart days"), closing(clickhouse.connect(quick)) as client:
            judged = freshness.judge(client, freshness.daily_marts(), now)
        findings = [
            Finding(
                f"mart/{each.mart}",
                "mart-not-fresh",
                "warning",
                Problem(
                    f"{each.mart} is not fresh: its newest closed day is not published as final",
                    expected=f"{each.due} final",
                    found=each.shown,
                    next=each.by_hand,
                ),
                after_seconds=_MARTS_AFTER_SECONDS if each.state is None else None,
            )
            for each in judged
            if not each.fresh
        ]
        fresh = sum(each.fresh for each in judged)
        kept = None if not judged else fresh == len(judged)
        promise = Promise("marts_fresh", kept, fresh, len(judged), "marts", least=True)
        return Reading(tuple(findings), (promise,), f"{fresh} of {len(judged)} marts are fresh")

    def overdue(self, began_at: datetime, now: datetime) -> None:
        return None


@dataclass(frozen=True, slots=True)
class Lags:
    """ClickHouse and the search index follow PostgreSQL."""

    settings: Settings
    name: str = "lags"
    interval_seconds: float = 30
    needs: tuple[str, ...] = ("store/postgres",)

    def read(self) -> Reading:
        with bounded.connected(self.settings, "the look at lags", seconds=_SECONDS) as connection:
            found = [lags.read(connection, "clickhouse")]
            if self.settings.opensearch.enabled:
                found.append(replace(search_lag.read(connection).followed, consumer="search"))
        readings = [_lag(each) for each in found]
        return Reading(
            tuple(finding for reading in readings for finding in reading.findings),
            tuple(promise for reading in readings for promise in reading.promises),
        )

    def overdue(self, began_at: datetime, now: datetime) -> None:
        return None


def _lag(found: lags.Lag) -> Reading:
    search = found.consumer == "search"
    name, by_hand = ("the search index", "bilten search status") if search else ("ClickHouse", "bilten sync")
    rules = search_lag if search else lags
    warn, fail = rules.WARN_SECONDS, rules.FAIL_SECONDS
    kept = found.seconds is not None and found.seconds <= warn
    promise = Promise("search_lag" if search else "sync_lag", kept, found.seconds, warn, "seconds")
    if kept:
        return Reading(promises=(promise,))
    interrupted = f"; batch {found.applying} was interrupted" if found.applying else ""
    finding = Finding(
        f"lag/{found.consumer}",
        "search-lag" if search else "sync-lag",
        "critical" if found.seconds is not None and found.seconds > fail else "warning",
        Problem(
            f"{name} is behind PostgreSQL",
            expected=f"a whole batch within {warn / 60:.0f} min",
            found="none ever"
            if found.seconds is None
            else f"the last one {found.seconds / 60:.0f} min ago{interrupted}",
            next=by_hand,
        ),
        since=found.as_of,
        after_seconds=float(warn) if found.seconds is None else None,
    )
    return Reading((finding,), (promise,))


@dataclass(frozen=True, slots=True)
class Partitions:
    """Partitions of every partitioned table of PostgreSQL are ready ahead."""

    settings: Settings
    name: str = "partitions"
    interval_seconds: float = 300
    needs: tuple[str, ...] = ("store/postgres",)

    def read(self) -> Reading:
        now = datetime.now(UTC)
        findings, promises = [], []
        with bounded.connected(self.settings, "the look at partitions", seconds=60) as connection:
            found = {table.name: attached(connection, table.name) for table in DECLARED}
        for table in DECLARED:
            rows = [
                PartitionRow(table.name, each.name, each.low, each.high, "attached", each.rows, each.bytes)
                for each in found[table.name]
            ]
            stands = standing(table, rows, now)
            few = too_few_ahead(table, stands)
            promises.append(
                Promise(
                    f"partitions_ahead/{table.name}", few is None, stands.ahead, 2, "intervals", least=True
                )
            )
            if few is not None:
                problem, fails = few
                findings.append(
                    Finding(
                        f"partitions/{table.name}",
                        "partitions-ahead",
                        "critical" if fails else "warning",
                        problem,
                    )
                )
        return Reading(tuple(findings), tuple(promises))

    def overdue(self, began_at: datetime, now: datetime) -> None:
        return None


@dataclass(frozen=True, slots=True)
class Repository:
    """Backups are young enough and drills keep what is promised, as the bucket itself says."""

    settings: Settings
    name: str = "repository"
    interval_seconds: float = 300
    needs: tuple[str, ...] = ("store/object-store",)

    def read(self) -> Reading:
        now = datetime.now(UTC)
        findings: list[Finding] = []
        promises: list[Promise] = []
        with Opened.of(self.settings, new=False, patience_seconds=1) as opened:
            for store in plan.stores():
                found = catalogue.read(opened.repository, opened.ring, store)
                findings += _altered(store, found.problems)
                for planned in (each for each in plan.PLANNED if each.store == store):
                    judged = recency.judge(found, planned, now)
                    promises.append(_backup(judged))
                    if judged.said:
                        findings.append(_overdue(judged))
            for drilled in drill_plan.drilled(self.settings):
                series = attestation.read(opened.repository, opened.ring, drilled, newest=_DRILLS_REMEMBERED)
                reports = [each.report for each in series.drills]
                for promise in drill_promises.judge(drilled, reports, self.settings.drills, now):
                    promises.append(_drilled(drilled, promise))
                    if not promise.kept and not promise.waits:
                        findings.append(_missed(drilled, promise, never=not reports))
                findings += [_missed_series(drilled, problem) for problem in series.problems[:1]]
        return Reading(tuple(findings), tuple(promises))

    def overdue(self, began_at: datetime, now: datetime) -> None:
        return None


def _backup(judged: recency.Recency) -> Promise:
    planned = judged.planned
    return Promise(
        f"backup_age/{planned.store}/{planned.kind}",
        not judged.said,
        None if judged.age is None else judged.age.total_seconds(),
        planned.within.total_seconds(),
        "seconds",
    )


def _overdue(judged: recency.Recency) -> Finding:
    planned = judged.planned
    within = planned.within.total_seconds()
    return Finding(
        f"backup/{planned.store}/{planned.kind}",
        "backup-overdue",
        "critical" if planned.store == "postgres" and planned.kind == "full" else "warning",
        Problem(
            f"the {planned.kind} backup of {planned.store} is overdue",
            expected=f"one within {recency.hours(planned.within)}",
            found=judged.found,
            next=planned.command,
        ),
        after_seconds=within if judged.age is None else None,
        step=0 if judged.age is None else int(judged.age.total_seconds() > 2 * within),
    )


def _altered(store: str, problems: tuple[Problem, ...] | list[Problem]) -> list[Finding]:
    if not problems:
        return []
    return [Finding(f"backup/{store}/altered", "backup-overdue", "critical", problems[0])]


def _drilled(store: str, promise: drill_promises.Promise) -> Promise:
    return Promise(
        f"drill/{store}/{promise.name}",
        True if promise.kept else None if promise.waits else False,
        promise.value,
        promise.limit,
        promise.unit,
        least=promise.name == drill_promises.WAYS,
    )


def _missed(store: str, promise: drill_promises.Promise, *, never: bool) -> Finding:
    said, _, helps = promise.said.partition("next: ")
    return Finding(
        f"drill/{store}/{promise.name}",
        "drill-promise",
        "critical" if promise.name == drill_promises.RECENT and not never else "warning",
        Problem(
            f"drills of {store} do not keep their promise: {promise.name}",
            expected=f"{promise.limit:,.0f} {promise.unit}",
            found=said.strip("; ") or "nothing",
            next=helps or f"bilten drill run {store}",
        ),
        after_seconds=promise.limit * 3600
        if never and promise.unit == "hours"
        else 86_400
        if never
        else None,
    )


def _missed_series(store: str, problem: Problem) -> Finding:
    return Finding(f"drill/{store}/series", "drill-promise", "critical", problem)
