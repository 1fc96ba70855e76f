"""What drills proved, in the repository: one signed document each, a chain per store that no database is
needed to read.

A document lies under drills/<store>/<number>-<end, UTC>-<id>.json and is never changed. It holds its number,
counted from 1, and the SHA-256 of the very bytes of the one before, so that an auditor who has the bucket (or
its copy) and the key file finds whatever was done to the series: a document that is missing, altered, forged,
renamed, out of its order, or a second one of the same number. What a chain alone cannot show is that its end
was cut off. Two things do: the marks `drilled` of backups, signed as well, name their drill,
and documents that only the second bucket has were taken away from the first (listing.py).

A store's drills are one after another (run.py holds the lock), so the chain does not fork. While PostgreSQL
is down that lock binds one machine alone, and no object store that we can count on refuses a second document
of one number; so whoever has written looks again, and gives way to another one of its number: both may, and
come back at different times. Each store has a chain of its own: one for all would need a lock for all, and a
damaged document would cast doubt on more.

What a kill leaves: nothing, or a whole document, which the next one follows; of two writers at once, between
a document and the look behind it, a fork, which is told for ever. A document that cannot be believed is
followed by its bytes all the same: drills go on, and the chain tells of it for ever.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from pydantic import TypeAdapter, ValidationError

from bilten_orchestration.backups.repository.bucket import Repository
from bilten_orchestration.backups.repository.keys import KeyRing
from bilten_orchestration.backups.repository.manifest import seal, unseal
from bilten_orchestration.drills.plan import Drilled
from bilten_orchestration.drills.report import DrillReport
from bilten_orchestration.errors import Mismatch, Problem

ROOT = "drills"
#: Of a mark `drilled`: which drill it was.
DRILL = "drill"
_KIND = "drill"
_NAME = re.compile(r"(\d{6,})-\d{8}T\d{6}Z-[0-9a-f-]{36}\.json")
# below the ten connections that a client keeps
_AT_ONCE = 8
_ATTEMPTS = 5
_PAUSE_SECONDS = (0.2, 2.0)
NEXT = "compare with the second bucket (bilten drill list --verify --bucket copy), and see who writes there"


@dataclass(frozen=True, slots=True)
class Attested:
    """A document: `sha256` (hex) of its bytes, `previous` that of the one before (None: the first)."""

    name: str
    number: int
    previous: str | None
    sha256: str
    report: DrillReport


@dataclass(frozen=True, slots=True)
class Series:
    """`drills` that can be believed, by number; `problems` are everything that is wrong with the chain."""

    drills: tuple[Attested, ...]
    problems: tuple[Problem, ...]


def append(
    repository: Repository,
    ring: KeyRing,
    report: DrillReport,
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> Attested:
    """Attest a drill. The caller holds the lock of its store's drills; where that does not bind another
    writer, whose document has the same number, ours is taken back and follows that one.

    Raises Mismatch where the name is taken, or others are in the way time and again (then there is no
    document of this drill), and what the object store does.
    """
    for _ in range(_ATTEMPTS):
        names = names_of(repository, report.store)
        newest = names[-1] if names else None
        number = _number(newest) + 1 if newest else 1
        previous = _digest(repository.read_small(newest)) if newest else None
        stored = repository.write_small(name_of(number, report), document(number, previous, report, ring))
        rivals = [
            name
            for name in names_of(repository, report.store)
            if _number(name) == number and name != stored.name
        ]
        if not rivals:
            return Attested(stored.name, number, previous, stored.sha256, report)
        repository.remove(stored.name)
        sleep(random.uniform(*_PAUSE_SECONDS))  # noqa: S311
    raise Mismatch(
        f"somebody else attests drills of {report.store} at the same time",
        expected=f"number {number} to be free, once in {_ATTEMPTS} attempts",
        found=rivals[0],
        next="see whether two deployments drill into one repository; then "
        f"bilten drill run {report.store} --way {report.way}",
    )


def bring_back(first: Repository, second: Repository, store: Drilled) -> int:
    """A first bucket without the beginning of a chain gets what the second has: after the site was lost the
    series goes on, and does not begin again at 1, which would be a fork for ever. How many documents came.

    They come from the newest on backwards, so a kill leaves a chain without its beginning, and the next call
    brings the rest. Raises what either store does.
    """
    here = names_of(first, store)
    if here and _number(here[0]) == 1:
        return 0
    missing = [name for name in names_of(second, store) if name not in here]
    for name in reversed(missing):
        first.write_small(name, second.read_small(name))
    return len(missing)


def carry(first: Repository, second: Repository, store: Drilled) -> None:
    """Everything that the second bucket lacks of a chain, oldest first: a kill leaves one without its end,
    and the next call, or the next copy, brings the rest. Raises what either store does."""
    there = set(names_of(second, store))
    for name in names_of(first, store):
        if name not in there:
            second.write_small(name, first.read_small(name))


def document(number: int, previous: str | None, report: DrillReport, ring: KeyRing) -> bytes:
    """As it is stored."""
    body = {"number": number, "previous": previous, "report": _REPORT.dump_python(report, mode="json")}
    return seal(_KIND, body, ring, ring.current)


def read(repository: Repository, ring: KeyRing, store: Drilled, *, newest: int | None = None) -> Series:
    """The chain of a store, or its `newest` documents, verified: of a part, the link of its first one is not.

    Raises what the object store does.
    """
    names = names_of(repository, store)
    part = names if newest is None else names[-newest:]
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="drills") as pool:
        bodies = list(pool.map(repository.read_small, part))
    series = verify(store, list(zip(part, bodies, strict=True)), ring, whole=len(part) == len(names))
    if newest is not None:
        return series
    strangers = [
        Problem(
            f"{listed.name} is no document of a drill",
            expected=f"{ROOT}/{store}/<number>-<time>-<id>.json",
            found=f"{listed.bytes} bytes under another name",
            next=NEXT,
        )
        for listed in repository.list(f"{ROOT}/{store}/")
        if not _fits(listed.name)
    ]
    return Series(series.drills, (*series.problems, *strangers))


def verify(
    store: str, documents: Sequence[tuple[str, bytes]], ring: KeyRing, *, whole: bool = True
) -> Series:
    """Documents by name, in the order of their names. No I/O: an auditor may have them from anywhere.

    Of the `whole` chain the first one is number 1; of a part the first link is not judged.
    """
    drills: list[Attested] = []
    problems: list[Problem] = []
    expected, before = 1 if whole else None, None
    for name, body in documents:
        try:
            found = _read(name, body, ring, store)
        except Mismatch as error:
            problems.extend(error.problems)
            found = None
        number = _number(name)
        if expected is not None and number != expected:
            problems.append(_out_of_line(name, number, expected))
        elif found is not None and (whole or before is not None) and found.previous != before:
            problems.append(
                Problem(
                    f"{name} does not follow the document before it",
                    expected=f"its SHA-256, {before or 'none: it is the first'}",
                    found=f"{found.previous or 'none'}",
                    next=NEXT,
                )
            )
        if found is not None:
            drills.append(found)
        expected, before = max(number, (expected or 1) - 1) + 1, _digest(body)
    return Series(tuple(drills), tuple(problems))


def name_of(number: int, report: DrillReport) -> str:
    """Sorts as the chain does, whatever clocks say."""
    end = f"{report.finished_at.astimezone(UTC):%Y%m%dT%H%M%SZ}"
    return f"{ROOT}/{report.store}/{number:06}-{end}-{report.id}.json"


def _read(name: str, body: bytes, ring: KeyRing, store: str) -> Attested:
    try:
        document: Any = unseal(body, name, ring, _KIND)
    except Mismatch as error:
        (problem,) = error.problems
        if "of another format" in problem.what or "key file" in problem.what:
            raise
        raise Mismatch(
            problem.what,
            expected="what was signed when the drill ended",
            found=problem.found,
            next=NEXT,
        ) from None
    try:
        report = _REPORT.validate_python(document["report"], strict=False)
        found = Attested(name, int(document["number"]), document["previous"], _digest(body), report)
    except (ValidationError, KeyError, TypeError, ValueError) as error:
        raise Mismatch(
            f"{name} is signed and cannot be read",
            expected="the report of a drill",
            found=type(error).__name__,
            next="use the version of bilten that wrote it",
        ) from None
    if json.dumps(json.loads(body), indent=1, sort_keys=True).encode() != body:
        raise Mismatch(
            f"{name} is damaged or was altered",
            expected="the bytes that were signed when the drill ended",
            found="the same content in other bytes",
            next=NEXT,
        )
    if report.store != store or name_of(found.number, report) != name:
        raise Mismatch(
            f"{name} lies under another name than its own",
            expected=name_of(found.number, report),
            found=name,
            next=NEXT,
        )
    return found


def _out_of_line(name: str, number: int, expected: int) -> Problem:
    if number < expected:
        return Problem(
            f"the chain forks: {name} is a second number {number}",
            expected=f"one document of each number, next {expected}",
            found=f"number {number} again",
            next="see whether two deployments drill into one repository; else " + NEXT,
        )
    missing = f"number {expected}" if number == expected + 1 else f"numbers {expected} to {number - 1}"
    return Problem(
        f"documents of drills are missing before {name}", expected=missing, found="none", next=NEXT
    )


def names_of(repository: Repository, store: Drilled) -> list[str]:
    """By number: padded, so the store's order is that of numbers, up to a million; then this one is."""
    return sorted(
        (listed.name for listed in repository.list(f"{ROOT}/{store}/") if _fits(listed.name)),
        key=lambda name: (_number(name), name),
    )


def _fits(name: str) -> bool:
    return _NAME.fullmatch(name.rpartition("/")[2]) is not None


def _number(name: str) -> int:
    return int(name.rpartition("/")[2].partition("-")[0])


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


_REPORT: TypeAdapter[DrillReport] = TypeAdapter(DrillReport)
