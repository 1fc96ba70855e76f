"""One batch: what changed since an index was last brought up, into that index.

The same for the index that serves (delta.py), for one that is built (rebuild.py) and for a kept one that is
to serve again (rollback.py); only how often differs. New is what the snapshot of the batch before could not
see (ingestion/source.py), so no transaction is missed, however late it commits, and none is waited for.

What a kill leaves behind. The numbers are those in the code.

 1  a batch number is lost; numbers only have to rise
 2  the index carries a number that no document has: the next batch is above it
 3  some documents are in, under this number: the mark is the old one, so the next batch sends the same events
    again, as they are then, under a higher number
 4  as 3, with dead letters that are written down already
 5  whole. Two batches of one index never overlap (a lock), and numbers are taken before the snapshot under
    that lock: a higher number never shows an older state.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from bilten_orchestration.errors import Refused
from bilten_orchestration.ingestion import source
from bilten_orchestration.ingestion.source import Since, Snapshot
from bilten_orchestration.ingestion.state import Epoch, next_batch, read_epoch
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.search import dead_letters, documents, marks
from bilten_orchestration.search.bulk import Sender, Sent
from bilten_orchestration.search.documents import Version
from bilten_orchestration.search.pace import Pace
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores.locks import advisory_lock
from bilten_orchestration.stores.postgres import Connection, clock

if TYPE_CHECKING:
    from opensearchpy import OpenSearch

ROWS_AT_ONCE = 100_000  # bytes end a request long before


@dataclass(frozen=True, slots=True)
class Work:
    """One index to be written. `connection`: state and locks, in autocommit. `check` raises when to stop."""

    settings: Settings
    connection: Connection
    client: OpenSearch
    index: str
    epoch: Epoch
    omitted: tuple[str, ...] = ()
    check: Callable[[], None] = lambda: None
    progress: Progress = silent

    def sender(self, pace: Pace | None = None) -> Sender:
        search = self.settings.search
        return Sender(
            client=self.client,
            index=self.index,
            pace=pace or Pace(1, search.patience_seconds),
            check=self.check,
            watch=frozenset(dead_letters.open_letters(self.connection, self.index)),
        )


@dataclass(frozen=True, slots=True)
class Applied:
    """One batch. `lag_seconds`: from its snapshot until everything of it could be searched for."""

    index: str
    batch: int
    mark: int
    as_of: datetime
    operations: int
    bytes: int
    superseded: int
    dead_letters: int
    lag_seconds: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Pinned:
    """An index that holds exactly what `connection` sees, which is in the snapshot of its last batch.

    `without`: dead letters, which are not as they are in PostgreSQL, and are known. `batch` is None where
    nothing was written: then what the index holds is only looked at.
    """

    work: Work
    connection: Connection
    snapshot: Snapshot
    batch: Applied | None
    without: tuple[str, ...]

    @property
    def applied(self) -> Applied:
        if self.batch is None:
            raise ValueError("nothing was applied")
        return self.batch


def open_work(
    settings: Settings,
    connection: Connection,
    client: OpenSearch,
    index: str,
    *,
    check: Callable[[], None] = lambda: None,
    progress: Progress = silent,
    helps: str = "bilten search delta tells what differs",
) -> Work:
    """Look at the index. Raises Refused when it belongs to another PostgreSQL than this, or another past.

    `helps` is what the error proposes.
    """
    epoch = read_epoch(connection)
    known, has = marks.both(connection, client, index)
    problems = marks.disagreements(known, index, has, epoch)
    if problems:
        raise Refused([*problems[:-1], replace(problems[-1], next=helps)])
    return Work(settings, connection, client, index, epoch, unknown_fields(client, index), check, progress)


def unknown_fields(client: OpenSearch, index: str) -> tuple[str, ...]:
    """Fields of today's documents that the index was made without: it is strict, and would refuse them."""
    live = client.indices.get_mapping(index=index)[index]["mappings"].get("properties", {})
    return tuple(sorted(documents.FIELDS - live.keys()))


@contextmanager
def writing(work: Work) -> Iterator[None]:
    """Nobody else writes this index meanwhile. Raises LockHeld."""
    with advisory_lock(
        work.connection,
        f"search:{work.index}",
        wait_seconds=work.settings.search.lock_wait_seconds,
        on_wait=lambda holders: work.progress(f"waiting for {work.index}, written by {holders}"),
    ):
        yield


@contextmanager
def caught_up(work: Work) -> Iterator[Pinned]:
    """Apply a batch; while the block runs, the index holds exactly what the batch's snapshot shows."""
    with writing(work), pinned(work) as found:
        yield found


@contextmanager
def pinned(work: Work, *, also: Collection[str] = (), whole: bool = False) -> Iterator[Pinned]:
    """The same for who holds `writing` already.

    `also`: events that are sent although they have not changed. `whole`: every searchable event is sent, and
    none is deleted; what the index has beside them is for the caller to find.
    """
    started = time.monotonic()
    known = marks.followed(work.connection, work.index)
    batch = next_number(work)  # 1
    with source.open_snapshot(work.settings) as (reading, snapshot):
        version = Version(batch, snapshot.as_of, work.omitted)
        copy = (
            documents.load_statement(version)
            if whole
            else documents.changed_statement(version, Since(known.mark, known.snapshot), also)
        )
        sent = Sent()
        sender = work.sender()
        chunks = source.chunks(reading, copy, ROWS_AT_ONCE, work.settings.search.bulk_bytes)
        with closing(chunks):
            for number, (_, chunk) in enumerate(chunks):
                if number == 0:
                    begin(work, batch)  # 2
                sent.add(sender.send(documents.lines(chunk)))  # 3
                if len(sent.dead) > dead_letters.MOST_OPEN:
                    break  # record tells: memory is not for a mapping that refuses everything
        if sent.operations:
            work.progress(f"{work.index}: batch {batch}, {sent.operations:,} documents")
            dead_letters.record(work.connection, work.index, batch, sent)  # 4
            work.client.indices.refresh(index=work.index)
        work.check()
        marks.finish_batch(work.connection, work.index, batch, snapshot, work.epoch)  # 5
        lag = (clock(work.connection) - snapshot.as_of).total_seconds()
        yield Pinned(
            work=work,
            connection=reading,
            snapshot=snapshot,
            batch=Applied(
                index=work.index,
                batch=batch,
                mark=snapshot.mark,
                as_of=snapshot.as_of,
                operations=sent.operations,
                bytes=sent.bytes,
                superseded=sent.superseded,
                dead_letters=len(sent.dead),
                lag_seconds=lag,
                seconds=time.monotonic() - started,
            ),
            without=tuple(dead_letters.open_letters(work.connection, work.index)),
        )


def next_number(work: Work) -> int:
    """A batch number above all that this index has seen."""
    known = marks.followed(work.connection, work.index)
    above = max(known.batch, known.applying_batch or 0)
    return next_batch(
        work.connection, above, raise_it=False, holder=work.index, command="bilten search delta"
    )


def begin(work: Work, batch: int) -> None:
    """Before the first write under a number: both sides know it."""
    marks.begin_batch(work.connection, work.index, batch)
    marks.carry(work.client, work.index, batch, work.epoch)
