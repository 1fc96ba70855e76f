"""Quiet hours: when a message that is not critical goes out."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from bilten_orchestration.observability.finding import Severity
from bilten_orchestration.settings import AlertSettings


def not_before(severity: Severity, now: datetime, settings: AlertSettings) -> datetime:
    """The moment (UTC) from which on a message may go out: now, or the end of the quiet hours."""
    if severity == "critical" or not settings.quiet_hours:
        return now
    zone = ZoneInfo(settings.quiet_timezone)
    begin, end = (time.fromisoformat(each) for each in settings.quiet_hours.split("-"))
    local = now.astimezone(zone)
    at = local.time()
    quiet = begin <= at < end if begin <= end else at >= begin or at < end
    if not quiet:
        return now
    # by the wall clock: the night in which clocks change is an hour longer or shorter
    day = local.date() if at < end else local.date() + timedelta(days=1)
    return datetime.combine(day, end, zone).astimezone(UTC)
