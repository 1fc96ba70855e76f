"""Dagster's runs, checks, ticks and daemons, read from its storage (dagster_storage.py) and judged there by
rules (dagster_rules.py)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from bilten_orchestration.backups import plan
from bilten_orchestration.local import addresses
from bilten_orchestration.observability.finding import Promise, Reading
from bilten_orchestration.observability.owners import Owners
from bilten_orchestration.observability.sources import bounded, dagster_rules, dagster_storage
from bilten_orchestration.observability.sources.dagster_storage import Run
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores.postgres import Connection

_SECONDS = 20.0
_REMEMBERED = 1000
#: Their age is a promise (sources/repository.py, sources/promises.py): one incident is enough.
_PROMISED = frozenset({"raw", *(f"backups/{each.store}/{each.kind}" for each in plan.PLANNED)})


@dataclass(slots=True)
class DagsterRuns:
    """Runs, ticks and heartbeats. Why a run failed does not change, and is asked once."""

    settings: Settings
    owners: Owners
    name: str = "dagster/runs"
    interval_seconds: float = 20
    needs: tuple[str, ...] = ("store/postgres",)
    _reasons: dict[str, str] = field(default_factory=dict)

    def read(self) -> Reading:
        ui, alerts = addresses.ui(self.settings), self.settings.alerts
        with bounded.connected(
            self.settings, "the look at Dagster's runs", role="dagster", seconds=_SECONDS
        ) as connection:
            dagster_storage.require(connection)
            now = datetime.now(UTC)
            failed = dagster_storage.failed(connection, now)
            left = dagster_rules.failing(failed, dagster_storage.made_up(connection, failed))
            findings = [
                dagster_rules.of_failures(each, self._reason(connection, each.newest), ui, self.owners)
                for each in dagster_rules.series(left)
            ]
            going = dagster_storage.unfinished(connection)
            beats = dagster_storage.beats(connection)
            ticks = dagster_storage.failed_ticks(connection)
        findings += dagster_rules.too_long(going, now, alerts, ui, self.owners)
        findings += dagster_rules.of_ticks(ticks, ui)
        limit = timedelta(seconds=alerts.daemon_silence_seconds)
        silent = dagster_rules.silent(beats, now, limit)
        newest = max(beats.values(), default=None)
        beat = Promise(
            "dagster_daemon_heartbeat_age",
            not silent,
            None if newest is None else max(0.0, (now - newest).total_seconds()),
            limit.total_seconds(),
            "seconds",
        )
        waiting = sum(run.status in ("NOT_STARTED", "QUEUED", "STARTING") for run in going)
        return Reading(
            (*findings, *silent),
            (beat,),
            f"{len(going) - waiting} runs going, {waiting} waiting, {len(left)} failed",
        )

    def overdue(self, began_at: datetime, now: datetime) -> None:
        return None

    def _reason(self, connection: Connection, run: Run) -> str:
        if run.run_id not in self._reasons:
            if len(self._reasons) >= _REMEMBERED:
                self._reasons.clear()
            self._reasons[run.run_id] = dagster_storage.said(connection, run.run_id)
        return self._reasons[run.run_id]


@dataclass(frozen=True, slots=True)
class DagsterChecks:
    """Checks whose newest evaluation failed, and assets that are older than their policies allow."""

    settings: Settings
    owners: Owners
    name: str = "dagster/checks"
    interval_seconds: float = 60
    needs: tuple[str, ...] = ("store/postgres",)

    def read(self) -> Reading:
        with bounded.connected(
            self.settings, "the look at asset checks", role="dagster", seconds=_SECONDS
        ) as connection:
            dagster_storage.require(connection)
            found = dagster_storage.failed_checks(connection)
            stale = dagster_storage.stale(connection)
        ui = addresses.ui(self.settings)
        failed = dagster_rules.of_checks(found, ui, self.owners)
        late = dagster_rules.of_stale(stale, _PROMISED, ui, self.owners)
        return Reading((*failed, *late), detail=f"{len(failed)} checks failed, {len(stale)} assets are late")

    def overdue(self, began_at: datetime, now: datetime) -> None:
        return None
