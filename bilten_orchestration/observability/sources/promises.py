"""What the platform promises, measured where it is true: marts in ClickHouse, lags and partitions in
PostgreSQL, backups and drills in the repository. The rules are those of the domains."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from bilten_orchestration.errors import Problem
from bilten_orchestration.ingestion import lag as lags
from bilten_orchestration.observability.finding import Finding, Promise, Reading
from bilten_orchestration.observability.installed import Due, Installed, after, whenever
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


@dataclass(frozen=True, slots=True)
class Marts:
    """The newest closed day of every daily mart is final."""

    settings: Settings
    installed: Callable[[], Installed]
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
        due = self.installed().due(after(freshness.FINAL_CRON, freshness.FINAL_GRACE), now)
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
            )
            for each in judged
            if not each.fresh and (due == "due" or each.state is not None)
        ]
        fresh = sum(each.fresh for each in judged)
        kept = None if not judged else fresh == len(judged)
        early = bool(judged) and not kept and due != "due" and not findings
        promise = Promise(
            "marts_fresh",
            None if early else kept,
            fresh,
            len(judged),
            "marts",
            least=True,
            not_due=early and due == "not_yet",
        )
        return Reading(tuple(findings), (promise,), f"{fresh} of {len(judged)} marts are fresh")

    def overdue(self, began_at: datetime, now: datetime) -> None:
        return None


@dataclass(frozen=True, slots=True)
class Lags:
    """ClickHouse and the search index follow PostgreSQL."""

    settings: Settings
    installed: Callable[[], Installed]
    name: str = "lags"
    interval_seconds: float = 30
    needs: tuple[str, ...] = ("store/postgres",)

    def read(self) -> Reading:
        with bounded.connected(self.settings, "the look at lags", seconds=_SECONDS) as connection:
            found = [lags.read(connection, "clickhouse")]
            if self.settings.opensearch.enabled:
                found.append(replace(search_lag.read(connection).followed, consumer="search"))
        now, installed = datetime.now(UTC), self.installed()
        readings = [_lag(each, installed, now) for each in found]
        return Reading(
            tuple(finding for reading in readings for finding in reading.findings),
            tuple(promise for reading in readings for promise in reading.promises),
        )

    def overdue(self, began_at: datetime, now: datetime) -> None:
        return None


def _lag(found: lags.Lag, installed: Installed, now: datetime) -> Reading:
    search = found.consumer == "search"
    name, by_hand = ("the search index", "bilten search status") if search else ("ClickHouse", "bilten sync")
    rules = search_lag if search else lags
    warn, fail = rules.WARN_SECONDS, rules.FAIL_SECONDS
    kept = found.seconds is not None and found.seconds <= warn
    promise = Promise("search_lag" if search else "sync_lag", kept, found.seconds, warn, "seconds")
    if kept:
        return Reading(promises=(promise,))
    due: Due = "due" if found.seconds is not None else installed.due(whenever(warn), now)
    if due != "due":
        return Reading(promises=(replace(promise, kept=None, not_due=due == "not_yet"),))
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
