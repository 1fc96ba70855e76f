"""Cells of days from what the repository and ClickHouse hold: which day had its backups, its drill and its
marts. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

from bilten_orchestration import cron
from bilten_orchestration.backups import plan as backup_plan
from bilten_orchestration.backups.plan import Planned
from bilten_orchestration.backups.repository.catalogue import Backup
from bilten_orchestration.drills import plan as drill_plan
from bilten_orchestration.drills.plan import Drilled
from bilten_orchestration.drills.report import DrillReport
from bilten_orchestration.metrics import freshness
from bilten_orchestration.metrics.verdicts import MartDay
from bilten_orchestration.observability.history import Cell, State, begin_of, last_days
from bilten_orchestration.observability.installed import Installed

_DAY = timedelta(days=1)
#: From so many days back on, retention has begun to remove what a day's cell is made of.
_SETTLED = 2


def of_backups(
    store: str, planned: Sequence[Planned], backups: Sequence[Backup], installed: Installed, now: datetime
) -> list[Cell]:
    """As many backups of each day as its schedules ask for, and one of every kind that was due.

    Retention has removed the old ones: kinds that are not kept for so long say nothing of such a day, and
    where none is kept there is no cell.
    """
    found: dict[date, list[str]] = {}
    for backup in backups:
        manifest = backup.manifest
        found.setdefault(manifest.started_at.astimezone(UTC).date(), []).append(manifest.kind)
    begun = _begin(installed, (backup.manifest.started_at for backup in backups))
    cells = []
    for back, day in enumerate(reversed(last_days(now))):
        kept = [each for each in planned if each.kept > (back + 1) * _DAY]
        if not kept:
            if installed.at is not None and begin_of(day) + _DAY <= begun:
                cells.append(Cell(f"backups/{store}", day, *_nothing_due(day, installed, begun)))
            continue
        due = {each.kind: _due(each.cron, day, begun, now, backup_plan.GRACE) for each in kept}
        counts = {
            each.kind: sum(kind in (each.kind, *each.as_good) for kind in found.get(day, ())) for each in kept
        }
        wanted = sum(due.values())
        had = sum(kind in due for kind in found.get(day, ()))
        without = [kind for kind, count in due.items() if count and not counts[kind]]
        said = f"{had} of {wanted} backups" if wanted else f"{had} backups"
        if without:
            said += f"; no {' and no '.join(without)} one"
        state: State
        if not wanted and not had:
            state, said = _nothing_due(day, installed, begun)
        elif not had:
            state = "bad"
        else:
            state = "partly" if had < wanted or without else "good"
        cells.append(Cell(f"backups/{store}", day, state, said, first_holds=back >= _SETTLED))
    return cells


def of_drills(
    store: Drilled, reports: Sequence[DrillReport], *, whole: bool, installed: Installed, now: datetime
) -> list[Cell]:
    """The newest drill of a day's daily way; `whole` where these are all that there ever were."""
    daily = {way.name for way in drill_plan.ways_of(store) if way.daily}
    newest: dict[date, DrillReport] = {}
    for report in reports:
        if report.way in daily:
            newest[report.finished_at.astimezone(UTC).date()] = report
    held = [report.started_at for report in reports]
    known = _begin(installed, held)
    begun = min([*held, first_backup(store, known)])
    oldest = min((report.finished_at for report in reports), default=now).astimezone(UTC).date()
    cells = []
    for day in last_days(now):
        if held_then := newest.get(day):
            took = "" if held_then.rto_seconds is None else f", back in {held_then.rto_seconds:,.0f} s"
            said = f"passed{took}" if held_then.ok else f"failed in {held_then.failed_phase or 'its proof'}"
            cells.append(Cell(f"drills/{store}", day, "good" if held_then.ok else "bad", said))
        elif not whole and day <= oldest:
            continue  # drills before these were not read
        elif _due(drill_plan.CRONS[store][0], day, begun, now, drill_plan.GRACE):
            cells.append(Cell(f"drills/{store}", day, "bad", "no drill"))
        else:
            cells.append(Cell(f"drills/{store}", day, *_nothing_due(day, installed, known)))
    return cells


def first_backup(store: Drilled, installed: datetime) -> datetime:
    """When the first backup of a new installation begins that the store's drill could restore."""
    return min(
        cron.first_after(each.cron, installed)
        for each in backup_plan.PLANNED
        if each.store == drill_plan.comes_from(store) and each.kind != "logical"
    )


def of_marts(
    marts: Sequence[str], states: Iterable[MartDay], installed: Installed, now: datetime
) -> list[Cell]:
    """Whether every daily mart of that (local) day is published as final."""
    of: dict[date, dict[str, MartDay]] = {}
    for state in states:
        of.setdefault(state.day, {})[state.mart] = state
    return [_of_marts(day, marts, of.get(day, {}), installed, now) for day in last_days(now)]


def _of_marts(
    day: date, marts: Sequence[str], found: Mapping[str, MartDay], installed: Installed, now: datetime
) -> Cell:
    refused = sorted(mart for mart, state in found.items() if state.verdict == "refused")
    final = sum(state.is_final and state.verdict != "refused" for state in found.values())
    said = f"{final} of {len(marts)} marts final" + (f"; refused: {', '.join(refused)}" if refused else "")
    # it is over everywhere 12 hours after it ended in UTC, and built for good by the next schedule
    built = begin_of(day) + _DAY + timedelta(hours=12)
    due = cron.first_after(freshness.FINAL_CRON, built) + freshness.FINAL_GRACE
    state: State
    if refused:
        state = "bad"
    elif marts and final == len(marts):
        state = "good"
    elif now < due or (installed.at is not None and due < installed.at):
        state, said = "not_yet", "not over yet" if now < due else "before the installation"
    elif found:
        state = "partly" if final else "bad"
    elif installed.at is None:
        state, said = "unknown", "nobody knows since when it was due"
    else:
        state = "bad"
    return Cell("metrics", day, state, said)


def _nothing_due(day: date, installed: Installed, begun: datetime) -> tuple[State, str]:
    if installed.at is None and begin_of(day) + _DAY <= begun:
        return "unknown", "nobody knows whether one was due"
    return "not_yet", "none was due"


def _begin(installed: Installed, moments: Iterable[datetime]) -> datetime:
    """From when on something was due, as far as anybody knows."""
    known = installed.seen(moments)
    return known.at or known.watched_since


def _due(expression: str, day: date, begun: datetime, now: datetime, grace: timedelta) -> int:
    """How many ticks of that day have passed, with their grace, since it all began."""
    begin = begin_of(day)
    first = max(begin - timedelta(minutes=1), begun)
    last = min(begin + _DAY - timedelta(minutes=1), now - grace)
    return sum(1 for _ in cron.ticks(expression, first, last)) if last > first else 0
