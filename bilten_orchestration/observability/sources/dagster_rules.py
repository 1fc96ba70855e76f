"""What in Dagster's storage is wrong: which failures nothing made up for, what lasts too long. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from bilten_orchestration.errors import Problem
from bilten_orchestration.observability.finding import Finding, Severity, steps
from bilten_orchestration.observability.sources.dagster_storage import FailedCheck, FailedTick, Run, Stale
from bilten_orchestration.settings import AlertSettings

Owners = Callable[[str], str]
"""The owner of a job or an asset (its key joined by /), empty where nobody is known."""

_SAID = 800
_SHOWN = 5
CANCEL = timedelta(minutes=15)
#: Without these nothing is scheduled, launched or watched.
DAEMONS = ("SCHEDULER", "SENSOR", "QUEUED_RUN_COORDINATOR", "MONITORING")


def failing(failed: Sequence[Run], succeeded: Sequence[Run]) -> list[Run]:
    """Failures that nothing made up for, oldest first.

    A run of a schedule is made up for by any later success of its job: what it was to do is done. Any other
    one by a later success of the same job over the same partitions, or more of them.
    """
    return [run for run in failed if not any(_makes_up(good, run) for good in succeeded)]


def _makes_up(good: Run, bad: Run) -> bool:
    if good.job != bad.job or good.ended_at is None or bad.ended_at is None or good.ended_at < bad.ended_at:
        return False
    if (bad.scheduled and bad.backfill is None) or bad.span is None:
        return True
    return good.span is not None and good.span[0] <= bad.span[0] and bad.span[1] <= good.span[1]


@dataclass(frozen=True, slots=True)
class Series:
    """Failures that are one incident: of a schedule, of a backfill, of the same work by hand."""

    key: str
    runs: tuple[Run, ...]

    @property
    def newest(self) -> Run:
        return self.runs[-1]


def series(runs: Sequence[Run]) -> list[Series]:
    found: dict[str, list[Run]] = {}
    for run in runs:
        if run.backfill is not None:
            key = f"backfill/{run.backfill}"
        elif run.scheduled or run.span is None:
            key = f"run/{run.job}"
        else:
            key = f"run/{run.job}/" + "..".join(dict.fromkeys(run.span))
        found.setdefault(key, []).append(run)
    return [Series(key, tuple(each)) for key, each in found.items()]


def of_failures(found: Series, reason: str, ui: str, owners: Owners) -> Finding:
    newest = found.newest
    by_hand, helps = newest.tags.get("bilten/by_hand", ""), newest.tags.get("bilten/on_failure", "")
    spans = ["..".join(dict.fromkeys(run.span)) for run in found.runs if run.span is not None]
    of = f" of {', '.join(dict.fromkeys(spans[-_SHOWN:]))}" if spans else ""
    count = len(found.runs)
    what = f"{count} runs of {newest.job} failed{of}" if count > 1 else f"the run of {newest.job}{of} failed"
    return Finding(
        found.key,
        "run-failed",
        "warning",
        Problem(
            what,
            expected="success",
            found=reason[:_SAID] or "no reason in its log",
            next="; ".join(each for each in (helps, by_hand) if each)
            or "read the run, then launch it again from there",
        ),
        since=found.runs[0].ended_at,
        owner=owners(newest.job),
        step=steps(count),
        link=f"{ui}/runs/{newest.run_id}",
        lasting=True,
    )


def too_long(
    runs: Sequence[Run], now: datetime, limits: AlertSettings, ui: str, owners: Owners
) -> list[Finding]:
    """Runs that do not start, or do not end; one finding for each job and trouble."""
    found: dict[str, Finding] = {}
    for run in sorted(runs, key=lambda each: each.created_at, reverse=True):
        finding = _too_long(run, now, limits, ui, owners)
        if finding is not None:
            found[finding.key] = finding  # of the oldest in the end
    return list(found.values())


def _too_long(run: Run, now: datetime, limits: AlertSettings, ui: str, owners: Owners) -> Finding | None:
    waiting = run.status in ("NOT_STARTED", "QUEUED", "STARTING")
    since = (
        run.created_at if waiting else run.updated_at if run.status == "CANCELING" else run.started_at
    ) or run.created_at
    limit = (
        timedelta(seconds=limits.queued_seconds)
        if waiting
        else CANCEL
        if run.status == "CANCELING"
        else timedelta(seconds=limits.run_seconds)
    )
    if now - since <= limit:
        return None
    doing = {"STARTED": "runs", "CANCELING": "does not end after it was canceled"}.get(
        run.status, "waits to start"
    )
    return Finding(
        f"{'waiting' if waiting else 'stuck'}/{run.job}",
        "run-never-started" if waiting else "run-stuck",
        "warning",
        Problem(
            f"a run of {run.job} {doing} for {_hours(now - since)}",
            expected=f"at most {_hours(limit)}",
            found=f"{run.status.lower()} since {since:%F %T} UTC",
            next="see which run holds its pool or the queue; bilten logs dagster-daemon"
            if waiting
            else "see the run; end it there if it hangs",
        ),
        since=since + limit,
        owner=owners(run.job),
        link=f"{ui}/runs/{run.run_id}",
        lasting=True,
    )


def of_checks(checks: Sequence[FailedCheck], ui: str, owners: Owners) -> list[Finding]:
    """One finding for each check, over all partitions for which it failed; the newest one tells."""
    grouped: dict[tuple[tuple[str, ...], str], list[FailedCheck]] = {}
    for check in checks:
        grouped.setdefault((check.asset, check.check), []).append(check)
    return [_of_check(each, ui, owners) for each in grouped.values()]


def _of_check(found: Sequence[FailedCheck], ui: str, owners: Owners) -> Finding:
    newest = max(found, key=lambda each: each.at)
    asset = "/".join(newest.asset)
    partitions = sorted({each.partition for each in found if each.partition})
    of = f" for {', '.join(partitions[-_SHOWN:])}" if partitions else ""
    if len(partitions) > _SHOWN:
        of += f" and {len(partitions) - _SHOWN} more"
    errors = [each for each in found if each.severity != "WARN"]
    severity: Severity = (
        "critical" if any(each.blocking for each in errors) else "warning" if errors else "info"
    )
    said, _, helps = newest.description.partition("next:")
    return Finding(
        f"check/{asset}/{newest.check}",
        "check-failed",
        severity,
        Problem(
            f"the check {newest.check} of {asset} failed{of}",
            expected="passed" + (" (it blocks what is downstream)" if severity == "critical" else ""),
            found=said.strip()[:_SAID] or "no description",
            next=helps.strip()[:_SAID] or "read the check; materialize the asset again once it is mended",
        ),
        since=min(each.at for each in found),
        owner=owners(asset),
        step=steps(len(found)),
        link=f"{ui}/assets/{asset}?view=checks&checkDetail={newest.check}",
        lasting=True,
    )


def of_stale(stale: Sequence[Stale], told: Collection[str], ui: str, owners: Owners) -> list[Finding]:
    """One finding for each domain, for what is late there has one cause as a rule.

    `told`: assets (keys joined by /, or a domain) whose age is a promise of its own, and told by that.
    """
    found: dict[str, list[Stale]] = {}
    for each in stale:
        if each.asset[0] not in told and "/".join(each.asset) not in told:
            found.setdefault(each.asset[0], []).append(each)
    return [_of_stale(domain, each, ui, owners) for domain, each in found.items()]


def _of_stale(domain: str, found: Sequence[Stale], ui: str, owners: Owners) -> Finding:
    names = sorted("/".join(each.asset) for each in found)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return Finding(
        f"fresh/{domain}",
        "asset-not-fresh",
        "warning",
        Problem(
            f"{', '.join(names[:_SHOWN])}{more}: not made anew in time",
            expected="a materialization within the window of the freshness policy",
            found=f"the oldest is late since {min(each.since for each in found):%F %T} UTC",
            next="see the newest runs of the asset's job in the UI: failed, queued, or never started; one"
            " that the code does not have any more is wiped there",
        ),
        since=min(each.since for each in found),
        owner=owners(names[0]),
        step=steps(len(found)),
        link=f"{ui}/assets/{names[0]}",
        lasting=True,
    )


def of_ticks(ticks: Sequence[FailedTick], ui: str) -> list[Finding]:
    return [
        Finding(
            f"tick/{tick.name}",
            "tick-failed",
            "warning",
            Problem(
                f"the schedule or sensor {tick.name} failed when it was last evaluated",
                expected="a tick without an error",
                found=tick.said[:_SAID],
                next="bilten logs dagster-daemon; it is evaluated again by itself",
            ),
            since=tick.at,
            link=f"{ui}/automation",
            lasting=True,
        )
        for tick in ticks
    ]


def silent(beats: Mapping[str, datetime], now: datetime, limit: timedelta) -> list[Finding]:
    """The daemon as a whole, else those of its parts without which nothing is scheduled."""
    newest = max(beats.values(), default=None)
    if newest is None or now - newest > limit:
        return [_silent("daemon", "Dagster's daemon", "critical", newest, now, limit)]
    return [
        _silent(f"daemon/{kind}", f"the part {kind} of Dagster's daemon", "warning", beats[kind], now, limit)
        for kind in DAEMONS
        if kind in beats and now - beats[kind] > limit
    ]


def _silent(
    key: str, name: str, severity: Severity, newest: datetime | None, now: datetime, limit: timedelta
) -> Finding:
    return Finding(
        key,
        "daemon-silent",
        severity,
        Problem(
            f"{name} is silent: nothing is scheduled",
            expected=f"a heartbeat within {limit.total_seconds():.0f} s",
            found="none ever" if newest is None else f"the last one at {newest:%F %T} UTC",
            next="bilten logs dagster-daemon; bilten up starts it",
        ),
        since=newest,
    )


def _hours(span: timedelta) -> str:
    minutes = span.total_seconds() / 60
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
