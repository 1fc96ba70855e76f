"""The series of drills as the repository tells it: for the command line and the checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bilten_orchestration.backups.repository import catalogue
from bilten_orchestration.backups.repository.manifest import Store
from bilten_orchestration.backups.repository.opened import Bucket, Opened
from bilten_orchestration.drills import attestation, plan
from bilten_orchestration.drills.attestation import Attested
from bilten_orchestration.errors import BiltenError, Problem
from bilten_orchestration.settings import Settings


@dataclass(frozen=True, slots=True)
class Listing:
    """`drills` by store and number; `problems` are every break that was found. `verified` says that the whole
    series was, against marks and the second bucket too, and not what was read alone."""

    drills: tuple[Attested, ...]
    problems: tuple[Problem, ...]
    verified: bool


def stores() -> tuple[Store, ...]:
    return tuple(dict.fromkeys(way.store for way in plan.WAYS))


def listed(
    settings: Settings,
    store: Store | None = None,
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
            found = catalogue.read(opened.repository, opened.ring, each)
            problems += attestation.unattested(found, attested)
            if bucket == "first":
                problems += _lost(settings, opened, each)
    return Listing(tuple(drills), tuple(problems), whole)


def _lost(settings: Settings, opened: Opened, store: Store) -> Sequence[Problem]:
    """A second bucket that cannot be asked is a problem: then nobody knows whether the end was cut off."""
    try:
        with Opened.of(settings, new=False, bucket="copy") as copy:
            return attestation.lost_by(opened.repository, copy.repository, store)
    except BiltenError as error:
        return error.problems
