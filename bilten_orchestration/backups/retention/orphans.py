"""Objects and documents that belong to no listed backup: cases 12 to 14 of rules.py."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from bilten_orchestration.backups.repository.bucket import Listed


@dataclass(frozen=True, slots=True)
class Orphan:
    """What is left of one backup: `names`, in the order in which they go."""

    store: str
    backup: str
    names: tuple[str, ...]
    bytes: int
    goes: bool
    case: int
    reason: str


def orphans(
    listing: Iterable[Listed],
    manifests: Collection[str],
    expired: Collection[str],
    now: datetime,
    grace: timedelta,
) -> tuple[Orphan, ...]:
    """`listing` holds objects/<store>/... and catalogue/<store>/...; `manifests` are ids with a manifest,
    `expired` ids with a mark of that name whose signature holds. By id."""
    found: dict[tuple[str, str], list[Listed]] = defaultdict(list)
    for each in listing:
        _, store, backup, *_ = each.name.split("/", 3)
        if backup not in manifests:
            found[store, backup].append(each)
    return tuple(
        _one(store, backup, left, backup in expired, now, grace)
        for (store, backup), left in sorted(found.items())
    )


def _one(
    store: str, backup: str, left: list[Listed], expired: bool, now: datetime, grace: timedelta
) -> Orphan:
    # the mark that says why goes last: until then a kill leaves it to the next run
    names = tuple(each.name for each in sorted(left, key=lambda each: order(each.name)))
    size = sum(each.bytes for each in left)
    age = now - max(each.written_at for each in left)
    if expired:
        return Orphan(store, backup, names, size, True, 14, "left by a prune that was killed")
    hours = f"{grace / timedelta(hours=1):g} hours"
    if age < grace:
        return Orphan(store, backup, names, size, False, 12, f"no manifest, but younger than {hours}")
    return Orphan(store, backup, names, size, True, 13, f"no manifest for {hours}: a backup was killed")


def order(name: str) -> tuple[int, str]:
    """The manifest, objects, marks, the mark `expired`."""
    kind, *_, last = name.split("/")
    if kind != "catalogue":
        return 1, name
    return (0 if last == "manifest.json" else 3 if last.startswith("expired-") else 2), name
