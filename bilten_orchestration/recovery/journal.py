"""What is going to be done, in the repository, before it is done; and how it ended.

    journal/recover/<time>-<id>.json          signed, before the first change
    journal/recover/<time>-<id>.ended.json    signed, when it is known what became of it

Nothing here is overwritten. One without an end was begun by somebody who was killed: whether it was done is
known to the database (system.recoveries), and the next run says it and writes the end.

An entry lies in the bucket that rows were restored from, for the other one may be away; so whoever looks for
one that was not ended reads both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from bilten_orchestration.backups.repository.manifest import seal, unseal
from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.errors import Mismatch, Problem

ROOT = "journal/recover"
_ENDED = ".ended.json"


@dataclass(frozen=True, slots=True)
class Entry:
    """`body` is what was going to be done; `ended` how it ended, None while that is not known."""

    id: UUID
    name: str
    body: Mapping[str, Any]
    ended: Mapping[str, Any] | None


def begin(opened: Opened, id: UUID, body: Mapping[str, Any]) -> str:
    """Write what is going to be done. Returns the entry's name."""
    name = f"{ROOT}/{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}-{id}.json"
    opened.repository.write_small(
        name, seal("recover", {"id": str(id), **body}, opened.ring, opened.ring.current)
    )
    return name


def end(opened: Opened, name: str, outcome: str, **details: Any) -> None:
    """`outcome` in a word: done, nothing."""
    body = {"outcome": outcome, "at": datetime.now(UTC).isoformat(), **details}
    place = name.removesuffix(".json") + _ENDED
    if opened.repository.find(place) is None:
        opened.repository.write_small(place, seal("ended", body, opened.ring, opened.ring.current))


def read(opened: Opened, problems: list[Problem] | None = None) -> tuple[Entry, ...]:
    """All of them, oldest first. One that was altered, or is under a lost key, is added to `problems`;
    without it that raises Mismatch."""
    names = [each.name for each in opened.repository.list(f"{ROOT}/")]
    there = set(names)
    found = []
    for name in names:
        if name.endswith(_ENDED):
            continue
        place = name.removesuffix(".json") + _ENDED
        try:
            body = unseal(opened.repository.read_small(name), name, opened.ring, "recover")
            ended = (
                unseal(opened.repository.read_small(place), place, opened.ring, "ended")
                if place in there
                else None
            )
        except Mismatch as error:
            if problems is None:
                raise
            problems += error.problems
            continue
        found.append(Entry(UUID(body["id"]), name, body, ended))
    return tuple(found)
