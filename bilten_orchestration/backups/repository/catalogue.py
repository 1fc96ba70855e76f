"""The backups that there are: read from the repository alone, so that it survives every database."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC
from typing import Literal

from bilten_orchestration.backups.repository.bucket import Repository
from bilten_orchestration.backups.repository.keys import KeyRing
from bilten_orchestration.backups.repository.manifest import (
    Manifest,
    Mark,
    MarkName,
    Store,
    read_manifest,
    read_mark,
    sign,
)
from bilten_orchestration.errors import Mismatch, Problem

ROOT = "catalogue"
# below the ten connections that a client keeps
_AT_ONCE = 8
# a document, or why it cannot be believed
_Read = Manifest | Mark | tuple[Problem, ...]
State = Literal["complete", "verified", "drilled", "expired"]


@dataclass(frozen=True, slots=True)
class Backup:
    """A manifest with its marks, oldest first."""

    manifest: Manifest
    marks: tuple[Mark, ...] = ()

    @property
    def state(self) -> State:
        """The furthest it came: expired before drilled before verified before complete."""
        names = {mark.name for mark in self.marks}
        furthest: tuple[MarkName, ...] = ("expired", "drilled", "verified")
        return next((name for name in furthest if name in names), "complete")


@dataclass(frozen=True, slots=True)
class Catalogue:
    """`backups` by start, oldest first; `problems` are documents that are there and cannot be believed."""

    backups: tuple[Backup, ...]
    problems: tuple[Problem, ...]

    def find(self, backup_id: str) -> Backup:
        """Raises Mismatch when there is none of that id."""
        for backup in self.backups:
            if backup.manifest.id == backup_id:
                return backup
        near = [backup.manifest.id for backup in self.backups[-3:]]
        raise Mismatch(
            f"there is no backup {backup_id}",
            expected=f"one of {len(self.backups)}, the newest: {', '.join(near)}" if near else "none yet",
            found=backup_id,
            next="bilten backup list",
        )


def add(repository: Repository, ring: KeyRing, manifest: Manifest) -> None:
    """Make it a backup. Until this is done it does not exist."""
    name = f"{place_of(manifest.store, manifest.id)}/manifest.json"
    repository.write_small(name, sign(manifest, ring, manifest.key_id))


def mark(repository: Repository, ring: KeyRing, manifest: Manifest, found: Mark) -> None:
    """Say what became known of a backup; said twice it is one mark."""
    at = f"{found.at.astimezone(UTC):%Y%m%dT%H%M%S%fZ}"
    name = f"{place_of(manifest.store, manifest.id)}/{found.name}-{at}.json"
    repository.write_small(name, sign(found, ring, ring.current))


def read(repository: Repository, ring: KeyRing, store: Store | None = None) -> Catalogue:
    """Every backup of a store, or of all. Documents are small and many: they are read side by side."""
    names = [listed.name for listed in repository.list(f"{ROOT}/{store}/" if store else f"{ROOT}/")]
    documents: dict[str, list[_Read]] = defaultdict(list)
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="catalogue") as pool:
        # in the order of names, whichever comes first
        for name, found in zip(
            names, pool.map(lambda name: _read_document(repository, ring, name), names), strict=True
        ):
            documents[name.rpartition("/")[0]].append(found)
    backups: list[Backup] = []
    problems: list[Problem] = []
    for place, read_there in documents.items():
        backup = _assembled(place, read_there, problems)
        if backup is not None:
            backups.append(backup)
    backups.sort(key=lambda each: (each.manifest.started_at, each.manifest.id))
    return Catalogue(tuple(backups), tuple(problems))


def read_one(repository: Repository, ring: KeyRing, store: Store, backup_id: str) -> Backup | None:
    """One backup as it is now. Raises Mismatch for documents that cannot be believed."""
    place = place_of(store, backup_id)
    problems: list[Problem] = []
    names = [listed.name for listed in repository.list(f"{place}/")]
    found = _assembled(place, [_read_document(repository, ring, name) for name in names], problems)
    if problems:
        raise Mismatch(problems)
    return found


def marks_without_manifest(repository: Repository, ring: KeyRing, names: Iterable[str]) -> Iterator[Mark]:
    """Of the documents `names`, the marks that can be believed and stand alone."""
    places: dict[str, list[str]] = defaultdict(list)
    for name in names:
        places[name.rpartition("/")[0]].append(name)
    for place, documents in places.items():
        if f"{place}/manifest.json" in documents:
            continue
        for name in documents:
            try:
                found = read_mark(repository.read_small(name), name, ring)
            except Mismatch:
                continue  # not believed is not expired: what lies there waits for the grace time
            if place.endswith(f"/{found.backup}"):
                yield found


def _read_document(repository: Repository, ring: KeyRing, name: str) -> _Read:
    try:
        body = repository.read_small(name)
        if name.endswith("/manifest.json"):
            return read_manifest(body, name, ring)
        return read_mark(body, name, ring)
    except Mismatch as error:
        return error.problems


def _assembled(place: str, documents: Iterable[_Read], problems: list[Problem]) -> Backup | None:
    manifest: Manifest | None = None
    marks: list[Mark] = []
    for found in documents:
        match found:
            case Manifest():
                manifest = found
            case Mark():
                marks.append(found)
            case _:
                problems.extend(found)
    if manifest is None:
        return None
    if place_of(manifest.store, manifest.id) != place:
        problems.append(_misplaced(place, manifest.id))
        return None
    ours = [each for each in marks if each.backup == manifest.id]
    problems.extend(_misplaced(place, each.backup) for each in marks if each.backup != manifest.id)
    return Backup(manifest, tuple(sorted(ours, key=lambda each: each.at)))


def _misplaced(place: str, backup_id: str) -> Problem:
    return Problem(
        f"{place} holds a document of another backup",
        expected=place.rpartition("/")[2],
        found=backup_id,
        next="somebody copied or moved it: compare with the second bucket",
    )


def place_of(store: Store, backup_id: str) -> str:
    """Below it lie the documents of a backup."""
    return f"{ROOT}/{store}/{backup_id}"
