"""What the backup repository proves: backups young enough, drills that keep what is promised, and both day by
day. Read from the bucket itself, so that it tells while every database is away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from bilten_orchestration import cron
from bilten_orchestration.backups import plan, recency
from bilten_orchestration.backups.repository import catalogue
from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.drills import attestation
from bilten_orchestration.drills import plan as drill_plan
from bilten_orchestration.drills import promises as drill_promises
from bilten_orchestration.drills.plan import Drilled
from bilten_orchestration.errors import Problem
from bilten_orchestration.observability.finding import Finding, Promise, Reading
from bilten_orchestration.observability.history import Cell, Level
from bilten_orchestration.observability.installed import Due, Installed, after, whenever
from bilten_orchestration.observability.sources import days
from bilten_orchestration.settings import Settings

_DRILLS_REMEMBERED = 64


@dataclass(frozen=True, slots=True)
class Repository:
    """Backups are young enough and drills keep what is promised, as the bucket itself says."""

    settings: Settings
    installed: Callable[[], Installed]
    name: str = "repository"
    interval_seconds: float = 300
    needs: tuple[str, ...] = ("store/object-store",)

    def read(self) -> Reading:
        now = datetime.now(UTC)
        findings: list[Finding] = []
        promises: list[Promise] = []
        cells: list[Cell] = []
        levels: list[Level] = []
        with Opened.of(self.settings, new=False, patience_seconds=1) as opened:
            installed = self.installed()
            for store in plan.stores():
                found = catalogue.read(opened.repository, opened.ring, store)
                known = installed.seen(backup.manifest.started_at for backup in found.backups)
                findings += _altered(store, found.problems)
                planned = [each for each in plan.PLANNED if each.store == store]
                for each in planned:
                    judged = recency.judge(found, each, now)
                    due = "due" if judged.age is not None else known.due(after(each.cron, plan.GRACE), now)
                    promises.append(_backup(judged, due))
                    if judged.said and due == "due":
                        findings.append(_overdue(judged))
                cells += days.of_backups(store, planned, found.backups, installed, now)
                stored = sum(backup.manifest.stored_bytes for backup in found.backups)
                levels.append(Level(f"repository/{store}", now.date(), stored))
            for drilled in drill_plan.drilled(self.settings):
                series = attestation.read(opened.repository, opened.ring, drilled, newest=_DRILLS_REMEMBERED)
                reports = [each.report for each in series.drills]
                never = not reports
                for promise in drill_promises.judge(drilled, reports, self.settings.drills, now):
                    due = _due(promise, installed, drilled, never, now)
                    promises.append(_drilled(drilled, promise, due))
                    if not promise.kept and not promise.waits and due == "due":
                        findings.append(_missed(drilled, promise, never=never))
                findings += [_missed_series(drilled, problem) for problem in series.problems[:1]]
                whole = len(series.drills) < _DRILLS_REMEMBERED and not series.problems
                cells += days.of_drills(drilled, reports, whole=whole, installed=installed, now=now)
        return Reading(tuple(findings), tuple(promises), cells=tuple(cells), levels=tuple(levels))

    def overdue(self, began_at: datetime, now: datetime) -> None:
        return None


def _first_drill(store: Drilled) -> Callable[[datetime], datetime]:
    def first(installed: datetime) -> datetime:
        backup = days.first_backup(store, installed)
        return cron.first_after(drill_plan.CRONS[store][0], backup) + drill_plan.GRACE

    return first


def _backup(judged: recency.Recency, due: Due) -> Promise:
    planned = judged.planned
    return Promise(
        f"backup_age/{planned.store}/{planned.kind}",
        not judged.said if due == "due" else None,
        None if judged.age is None else judged.age.total_seconds(),
        planned.within.total_seconds(),
        "seconds",
        not_due=due == "not_yet",
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
        step=0 if judged.age is None else int(judged.age.total_seconds() > 2 * within),
    )


def _altered(store: str, problems: Sequence[Problem]) -> list[Finding]:
    if not problems:
        return []
    return [Finding(f"backup/{store}/altered", "backup-overdue", "critical", problems[0])]


def _drilled(store: str, promise: drill_promises.Promise, due: Due) -> Promise:
    """`due`: whether it can be judged at all yet."""
    return Promise(
        f"drill/{store}/{promise.name}",
        promise.kept if due == "due" else None,
        promise.value if due == "due" else None,
        promise.limit,
        promise.unit,
        least=promise.name == drill_promises.WAYS,
        not_due=due == "not_yet",
    )


def _due(
    promise: drill_promises.Promise, installed: Installed, store: Drilled, never: bool, now: datetime
) -> Due:
    if promise.name == drill_promises.CALM:  # nobody warned where nobody drilled, which is no good sign
        return "due" if not never else "unknown" if _none(installed, store, now) != "not_yet" else "not_yet"
    if never and promise.waits:
        return installed.due(whenever(drill_plan.EVERY_WAY_WITHIN.total_seconds()), now)
    if never:
        return _none(installed, store, now)
    return "not_yet" if promise.waits and not promise.kept else "due"


def _none(installed: Installed, store: Drilled, now: datetime) -> Due:
    return installed.due(_first_drill(store), now)


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
    )


def _missed_series(store: str, problem: Problem) -> Finding:
    return Finding(f"drill/{store}/series", "drill-promise", "critical", problem)
