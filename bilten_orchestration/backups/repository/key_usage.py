"""Which key what was encrypted under, and what is lost with a key that is not in the file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bilten_orchestration.backups.repository import catalogue, keys
from bilten_orchestration.backups.repository.bucket import Repository
from bilten_orchestration.backups.repository.kms import Kms
from bilten_orchestration.backups.repository.opened import Opened, key_file
from bilten_orchestration.errors import Problem
from bilten_orchestration.settings import Settings


@dataclass(frozen=True, slots=True)
class KeyUse:
    """One key; `state` is current, kept (for what it encrypted) or lost (not in the file). `stored_bytes` of
    the backups under it, as they lie in the bucket; unknown (None) for a lost one."""

    id: str
    state: str
    wrapped: bool
    backups: int
    stored_bytes: int | None


@dataclass(frozen=True, slots=True)
class KeyReport:
    """`rotated` when a key was added. `lost` are the ids of backups that cannot be read."""

    file: Path
    rotated: bool
    keys: tuple[KeyUse, ...]
    lost: tuple[str, ...]
    problems: tuple[Problem, ...]


def examine(settings: Settings, *, rotate: bool = False) -> KeyReport:
    """The keys of the file and of the catalogue. With `rotate` a key is added first.

    Raises Refused (no key file, or a damaged one), StoreUnavailable, AccessRefused.
    """
    place = key_file(settings)
    if rotate:
        keys.rotate(place, Kms(settings.backups))
    with Opened.of(settings, new=False) as opened:
        ring = opened.ring
        found = catalogue.read(opened.repository, ring)
        under = Counter(backup.manifest.key_id for backup in found.backups)
        stored: Counter[str] = Counter()
        for backup in found.backups:
            stored[backup.manifest.key_id] += backup.manifest.stored_bytes
        lost = dict(_lost(opened.repository, ring, {backup.manifest.id for backup in found.backups}))
    uses = [
        KeyUse(
            key_id,
            "current" if key_id == ring.current else "kept",
            key_id in ring.wrapped,
            under[key_id],
            stored[key_id],
        )
        for key_id in sorted(ring.keys)
    ]
    uses += [KeyUse(key_id, "lost", False, number, None) for key_id, number in Counter(lost.values()).items()]
    return KeyReport(place, rotate, tuple(uses), tuple(sorted(lost)), found.problems)


def _lost(repository: Repository, ring: keys.KeyRing, read: set[str]) -> Iterator[tuple[str, str]]:
    """Ids of backups whose manifests name a key that is not in the file, with that key's id. What they say
    cannot be verified without it."""
    for each in repository.list(f"{catalogue.ROOT}/"):
        backup = each.name.split("/")[-2]
        if each.name.endswith("/manifest.json") and backup not in read:
            try:
                key_id = str(json.loads(repository.read_small(each.name))["key_id"])
            except (ValueError, TypeError, KeyError):
                continue  # damaged: the catalogue names it
            if key_id not in ring.keys:
                yield backup, key_id
