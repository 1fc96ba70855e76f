"""What is going to be done to a partition for good, in the repository, before it is done; and how it ended.

    journal/partitions/<time>-<id>.json          signed, before a drop, an expiry or a restore
    journal/partitions/<time>-<id>.ended.json    signed, when it is known what became of it

It survives every database. Nothing here is overwritten, and no rule removes it. An entry without an end was
begun by somebody who was killed; `settle` finds out from the database, at the beginning of the next run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from bilten_orchestration.backups.repository.manifest import seal, unseal
from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.errors import TransientError
from bilten_orchestration.partitions import metadata
from bilten_orchestration.stores.postgres import Connection

ROOT = "journal/partitions"
_ENDED = ".ended.json"


@dataclass(frozen=True, slots=True)
class Entry:
    """`body` is what was going to be done; `ended` how it ended, None while that is not known."""

    name: str
    body: Mapping[str, Any]
    ended: Mapping[str, Any] | None


def begin(opened: Opened, what: str, **body: Any) -> str:
    """`what` in a word: drop, expire, restore. Returns the entry's name."""
    now = datetime.now(UTC)
    name = f"{ROOT}/{now:%Y%m%dT%H%M%S%fZ}-{uuid4()}.json"
    opened.repository.write_small(
        name,
        seal("partition", {"what": what, "at": now.isoformat(), **body}, opened.ring, opened.ring.current),
    )
    return name


def end(opened: Opened, name: str, outcome: str, **details: Any) -> None:
    """`outcome` in a word: done, nothing."""
    place = name.removesuffix(".json") + _ENDED
    if opened.repository.find(place) is None:
        body = {"outcome": outcome, "at": datetime.now(UTC).isoformat(), **details}
        opened.repository.write_small(place, seal("ended", body, opened.ring, opened.ring.current))


@contextmanager
def entry(opened: Opened, connection: Connection, what: str, **body: Any) -> Iterator[None]:
    """Begin, do it, and end: `nothing` where it raised. Where the connection was lost, or the store is away,
    what became of it is not known: the next run settles that."""
    name = begin(opened, what, **body)
    try:
        yield
    except BaseException:
        if not connection.closed and not connection.broken:
            with suppress(TransientError):
                end(opened, name, "nothing", because="it failed")
        raise
    end(opened, name, "done")


def read(opened: Opened, *, open_only: bool = False) -> tuple[Entry, ...]:
    """All of them, or those without an end, oldest first. Raises Mismatch for one that was altered."""
    names = [each.name for each in opened.repository.list(f"{ROOT}/")]
    there = set(names)
    found = []
    for name in names:
        place = name.removesuffix(".json") + _ENDED
        if name.endswith(_ENDED) or (open_only and place in there):
            continue
        body = unseal(opened.repository.read_small(name), name, opened.ring, "partition")
        ended = None
        if place in there:
            ended = unseal(opened.repository.read_small(place), place, opened.ring, "ended")
        found.append(Entry(name, body, ended))
    return tuple(found)


def settle(opened: Opened, connection: Connection) -> int:
    """End the entries of runs that were killed, by what the database says now; how many. The caller holds
    the lock `partitions`."""
    # those of ClickHouse's months are settled by who asks ClickHouse
    left = [each for each in read(opened, open_only=True) if each.body.get("store") != "clickhouse"]
    for each in left:
        expiry = each.body["what"] == "expire"
        done = expired(opened, connection, each) if expiry else _was_done(connection, each.body)
        end(opened, each.name, "done" if done else "nothing", found_by="the next run")
    return len(left)


def expired(opened: Opened, connection: Connection, entry: Entry) -> bool:
    """Whether the archive of an expiry is gone; then nothing names it any more."""
    document = str(entry.body["archive"])
    if opened.repository.find(document) is not None:
        return False  # the next plan has it again
    metadata.expired(connection, document)
    return True


def _was_done(connection: Connection, body: Mapping[str, Any]) -> bool:
    row = connection.execute(
        """
        select state, archive_object, hold_until is not null, to_regclass(%(partition)s || '_restored')
        from system.partition_metadata where table_name = %(table)s and partition_name = %(partition)s
        """,
        body,
    ).fetchone()
    match body["what"], row:
        case "drop", (state, archive, _, _):
            return bool(state == "dropped" and archive == body["archive"])
        case "restore", (state, _, held, beside):
            return bool((state == "attached" and held) or beside is not None)
        case _:
            return False
