"""The other ways of a physical restore: which backup, from which bucket, up to where."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta

from bilten_orchestration.backups.postgres.targets import Target
from bilten_orchestration.backups.repository.opened import Bucket, Opened
from bilten_orchestration.backups.retention.rules import WINDOW
from bilten_orchestration.backups.wal.past import Past
from bilten_orchestration.drills.course import Course
from bilten_orchestration.errors import Refused, UsageError
from bilten_orchestration.progress import Progress
from bilten_orchestration.settings import Settings


@dataclass(frozen=True, slots=True)
class Way:
    """`settings` are those to restore with. `newest`: it leads to now, so the schema is today's."""

    name: str
    target: Target
    bucket: Bucket
    settings: Settings
    newest: bool
    ordered_at: datetime


def chosen(settings: Settings, way: str, course: Course, progress: Progress) -> Way:
    """Raises Refused when there is nothing to walk it on, UsageError for a way that is none."""
    now = datetime.now(UTC)
    latest = Way(way, Target("latest"), "first", settings, True, now)
    with course.phase("choose"):
        match way:
            case "latest":
                return latest
            case "second_bucket":
                return replace(latest, bucket="copy", settings=without_first(settings))
            case "moment":
                found = moment(_past(settings, progress), now)
                progress(f"the moment is {found.isoformat()}")
                return replace(latest, target=Target("moment", found.isoformat()), newest=False)
            case "oldest_full":
                oldest = _oldest_full(_past(settings, progress))
                return replace(latest, target=Target("backup", oldest), newest=False)
    raise UsageError(f"there is no way {way!r}", expected="one of drills/plan.py", found=way)


def without_first(settings: Settings) -> Settings:
    """The second bucket is all there is: who reads the first one by mistake gets it, and not the first."""
    store = settings.object_store
    alone = store.of_copy.model_copy(
        update={"bucket_backups": store.bucket_backups_copy, "copy_endpoint_url": None}
    )
    return settings.model_copy(update={"object_store": alone})


def moment(past: Past, now: datetime) -> datetime:
    """Within what can be restored of the last seven days, by chance; the same for the whole day.

    The window ends at midnight, so that it stays the same; on the first day of a repository there is
    nothing before that, and it ends now. Raises Refused when nothing can be restored.
    """
    spans = [(each.begin, each.to) for each in past.spans(past.timeline)]
    midnight = datetime.combine(now.date(), time(), UTC)
    window = _clipped(spans, midnight - WINDOW, midnight) or _clipped(spans, now - WINDOW, now)
    if not window:
        raise Refused(
            "there is no moment to go back to",
            expected=f"a span within the last {WINDOW.days} days",
            found="none",
            next="bilten reach; bilten backup create postgres; bilten wal status",
        )
    return _at(window, random.Random(now.date().isoformat()).random())  # noqa: S311


def _clipped(
    spans: Sequence[tuple[datetime, datetime]], begin: datetime, end: datetime
) -> list[tuple[datetime, datetime]]:
    clipped = ((max(first, begin), min(last, end)) for first, last in spans)
    return [(first, last) for first, last in clipped if first < last]


def _at(window: Sequence[tuple[datetime, datetime]], share: float) -> datetime:
    """Every second of the window is as likely."""
    left = share * sum((last - first for first, last in window), timedelta())
    for first, last in window:
        if left <= last - first:
            return first + left
        left -= last - first
    return window[-1][1]


def _past(settings: Settings, progress: Progress) -> Past:
    with Opened.of(settings, new=False, progress=progress) as opened:
        return Past.read(opened)


def _oldest_full(past: Past) -> str:
    kept = [
        each.manifest for each in past.backups if each.manifest.kind == "full" and each.state != "expired"
    ]
    if not kept:
        raise Refused(
            "there is no full backup to restore",
            expected="one that is not expired",
            found=f"none among {len(past.backups)} base backups",
            next="bilten backup create postgres --kind full",
        )
    return min(kept, key=lambda manifest: manifest.started_at).id
