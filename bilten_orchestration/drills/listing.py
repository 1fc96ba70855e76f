"""The series of drills as the repository tells it: for the command line and the checks."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from bilten_orchestration.backups.repository import catalogue
from bilten_orchestration.backups.repository.bucket import Repository
from bilten_orchestration.backups.repository.catalogue import Catalogue
from bilten_orchestration.backups.repository.opened import Bucket, Opened
from bilten_orchestration.drills import attestation, plan
from bilten_orchestration.drills.attestation import Attested
from bilten_orchestration.drills.plan import Drilled
from bilten_orchestration.errors import BiltenError, Problem
from bilten_orchestration.settings import Settings


@dataclass(frozen=True, slots=True)
class Listing:
    """`drills` by store and number; `problems` are every break that was found. `verified` says that the whole
    series was, against marks and the second bucket too, and not what was read alone."""

    drills: tuple[Attested, ...]
    problems: tuple[Problem, ...]
    verified: bool


def stores() -> tuple[Drilled, ...]:
    """All that there may be a series of, also while one is off."""
    return tuple(dict.fromkeys(way.store for way in plan.WAYS))


def listed(
    settings: Settings,
    store: Drilled | None = None,
    *,
    newest: int | None = None,
    whole: bool = False,
    bucket: Bucket = "first",
) -> Listing:
    """The drills of a store (None: of all), or the `newest` of each. `whole` judges everything there is.

    Raises what the repository does.
    """
    drills: list[Attested] = []
    problems: list[Problem] = []
    with Opened.of(settings, new=False, bucket=bucket) as opened:
        for each in (store,) if store else stores():
            series = attestation.read(opened.repository, opened.ring, each, newest=None if whole else newest)
            drills += series.drills if newest is None else series.drills[-newest:]
            problems += series.problems
            if not whole:
                continue
            attested = {one.report.id for one in series.drills}
            if (of := plan.comes_from(each)) == each:  # others mark no backup
                found = catalogue.read(opened.repository, opened.ring, of)
                problems += unattested(found, attested)
            if bucket == "first":
                problems += _lost(settings, opened, each)
    return Listing(tuple(drills), tuple(problems), whole)


def _lost(settings: Settings, opened: Opened, store: Drilled) -> Sequence[Problem]:
    """A second bucket that cannot be asked is a problem: then nobody knows whether the end was cut off."""
    try:
        with Opened.of(settings, new=False, bucket="copy") as copy:
            return lost_by(opened.repository, copy.repository, store)
    except BiltenError as error:
        return error.problems


def unattested(found: Catalogue, attested: Collection[str]) -> list[Problem]:
    """Backups that were marked by drills (ids) which the chain does not have: its end was cut off."""
    return [
        Problem(
            f"{backup.manifest.id} was drilled, and its drill is not attested",
            expected=f"drill {drill} in {attestation.ROOT}/{backup.manifest.store}/",
            found="no such document",
            next=attestation.NEXT,
        )
        for backup in found.backups
        for mark in backup.marks
        if mark.name == "drilled" and (drill := mark.details.get(attestation.DRILL)) and drill not in attested
    ]


def lost_by(first: Repository, copy: Repository, store: Drilled) -> list[Problem]:
    """Documents that the second bucket has and the first one no more: nothing of ours removes any."""
    left = set(attestation.names_of(first, store))
    return [
        Problem(
            f"{name} is in {copy.bucket} alone",
            expected=f"it in {first.bucket} too, where it was written first",
            found="it was removed there",
            next="copy it back, and see who removes what: nothing of the platform does",
        )
        for name in attestation.names_of(copy, store)
        if name not in left
    ]
