"""The first day of a deployment, when there is nothing yet that an audit of WAL could begin with.

WAL can be restored from the first base backup on, which the schedule takes at night, and from the second
bucket when it was copied. Until then missing backups are no damage. That ends by itself: with the day after
the one on which the oldest key of the repository was made, missing backups are a failure, whatever else there
is.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from bilten_orchestration.backups import plan
from bilten_orchestration.backups.repository import catalogue, keys
from bilten_orchestration.backups.repository.opened import Bucket, Opened
from bilten_orchestration.settings import Settings

_BASES = ("full", "incremental")
_UNTIL_THE_END_OF_THE_NEXT = timedelta(days=2)


def waits_for(settings: Settings, bucket: Bucket, now: datetime) -> str | None:
    """What the bucket waits for, in words; None where it can be audited, or should be.

    Raises Refused (no key file), StoreUnavailable.
    """
    with Opened.of(settings, new=False, bucket=bucket) as opened:
        made_on = min(keys.made_on(key_id) for key_id in opened.ring.keys)
        young = now - datetime.combine(made_on, datetime.min.time(), UTC) < _UNTIL_THE_END_OF_THE_NEXT
        if not young:
            return None
        found = catalogue.read(opened.repository, opened.ring, "postgres")
    if found.problems or any(backup.manifest.kind in _BASES for backup in found.backups):
        return None
    if bucket == "copy":
        return "no base backup in the second bucket yet: the first one is copied within half an hour"
    full = plan.find("postgres", "full")
    minute, hour, *_ = full.cron.split()
    return f"no base backup yet: first one at {int(hour):02}:{int(minute):02} UTC, or now: {full.command}"
