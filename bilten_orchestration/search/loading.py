"""A new index filled from one exported snapshot: ranges of keys side by side, each finished for good.

Memory is that of some bulk requests, whatever the size: a range is streamed by COPY, in requests of
BILTEN_SEARCH__BULK_BYTES. A range is recorded as finished once all of it was acknowledged.

Whoever builds an index makes it, fills it and has it made ready, in this order. What a kill leaves is told in
rebuild.py, whose numbers are in the code.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from bilten_orchestration.errors import TransientError
from bilten_orchestration.ingestion import source
from bilten_orchestration.ingestion.source import Snapshot
from bilten_orchestration.search import dead_letters, definition, documents, marks, state
from bilten_orchestration.search.batch import ROWS_AT_ONCE, Work, begin, next_number, writing
from bilten_orchestration.search.bulk import Sender, Sent
from bilten_orchestration.search.documents import KeyRange, Version
from bilten_orchestration.search.pace import Pace
from bilten_orchestration.stores.postgres import Connection

if TYPE_CHECKING:
    from opensearchpy import OpenSearch

TELL_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Loaded:
    """What one attempt sent, without ranges that were finished before. `refusals` were tried again."""

    ranges: int = 0
    documents: int = 0
    bytes: int = 0
    refusals: int = 0
    seconds: float = 0.0


class _Load:
    """Shared by the senders of one attempt; `record` guards the connection that state is written on."""

    def __init__(self, work: Work, version: Version, ranges: list[KeyRange]) -> None:
        search = work.settings.search
        self.work = work
        self.version = version
        self.pace = Pace(search.parallel, search.patience_seconds)
        self.sender: Sender = work.sender(self.pace)
        self.waiting: SimpleQueue[KeyRange] = SimpleQueue()
        for keys in ranges:
            self.waiting.put(keys)
        self.planned = len(ranges)
        self.record = threading.Lock()
        self.failed = threading.Event()
        self.ranges = self.documents = self.bytes = 0
        self.started = self.told = time.monotonic()

    def run(self, connection: Connection) -> None:
        """Take ranges until there is none. An error of one sender ends the others after their request."""
        try:
            while not self.failed.is_set():
                self._range(connection, self.waiting.get_nowait())
        except Empty:
            return
        except BaseException:
            self.failed.set()
            raise

    def _range(self, connection: Connection, keys: KeyRange) -> None:
        sent = Sent()
        statement = documents.load_statement(self.version, keys)
        size = self.work.settings.search.bulk_bytes
        with closing(source.chunks(connection, statement, ROWS_AT_ONCE, size)) as chunks:
            for _, chunk in chunks:
                sent.add(self.sender.send(documents.lines(chunk)))
                if self.failed.is_set():
                    return
                if len(sent.dead) > dead_letters.MOST_OPEN:
                    break  # and the range is not finished: record raises
        with self.record:
            dead_letters.record(self.work.connection, self.work.index, self.version.batch, sent)
            state.finish_range(
                self.work.connection, self.work.index, keys.number, sent.operations, sent.bytes
            )
            self.ranges += 1
            self.documents += sent.operations
            self.bytes += sent.bytes
            self._tell()

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self.told < TELL_SECONDS and self.ranges < self.planned:
            return
        self.told = now
        rate = self.documents / max(now - self.started, 1e-3)
        self.work.progress(
            f"loaded {self.ranges:,} of {self.planned:,} ranges, {self.documents:,} documents, {rate:,.0f}/s"
        )


def load(
    work: Work, version: Version, ranges: list[KeyRange], reading: Connection, snapshot: Snapshot
) -> Loaded:
    """Every document of `ranges` as the snapshot shows it; `reading` is in that snapshot."""
    running = _Load(work, version, ranges)
    at_once = min(work.settings.search.parallel, len(ranges))
    if at_once == 0:
        return Loaded()
    with ExitStack() as stack, ThreadPoolExecutor(at_once, "search-load") as pool:
        beside = [
            stack.enter_context(source.import_snapshot(work.settings, snapshot)) for _ in range(at_once - 1)
        ]
        for future in [pool.submit(running.run, connection) for connection in [reading, *beside]]:
            future.result()
    return Loaded(
        running.ranges,
        running.documents,
        running.bytes,
        running.pace.refusals,
        time.monotonic() - running.started,
    )


def make(connection: Connection, client: OpenSearch, name: str, run_id: str) -> None:
    """A new index, as it is while it is loaded: no refreshes, no replicas."""
    state.begin_index(connection, name, run_id)  # 2
    body = definition.index_body(0)
    body["settings"]["index"]["refresh_interval"] = "-1"
    client.indices.create(index=name, body={**body, "aliases": state.aliases(name)})  # 3


def fill(work: Work) -> Loaded:
    """Every range that is not finished, from a snapshot of now. Raises as rebuild does."""
    planned = bool(state.ranges(work.connection, work.index))
    waiting = state.ranges(work.connection, work.index, unfinished=True)
    if planned and not waiting:
        return Loaded()
    with writing(work), ExitStack() as stack:
        batch = next_number(work)
        reading, snapshot = stack.enter_context(source.open_snapshot(work.settings))
        if not planned:
            waiting = documents.key_ranges(reading, work.settings.search.range_documents)
            with work.connection.transaction():
                marks.finish_batch(work.connection, work.index, batch, snapshot, work.epoch)
                state.plan_ranges(work.connection, work.index, waiting)  # 4
        work.progress(f"{work.index}: batch {batch}, {len(waiting):,} ranges to load")
        begin(work, batch)
        loaded = load(work, Version(batch, snapshot.as_of, work.omitted), waiting, reading, snapshot)  # 5
    state.set_loaded(work.connection, work.index)
    work.progress(f"loaded {loaded.documents:,} documents in {loaded.seconds:.1f} s")
    return loaded


def ready(work: Work, replicas: int) -> None:
    """Replicas and refreshes as they are for serving, and all copies there."""
    work.client.indices.refresh(index=work.index)
    work.client.indices.put_settings(
        index=work.index,
        body={"index": {"number_of_replicas": replicas, "refresh_interval": definition.REFRESH_INTERVAL}},
    )
    patience = work.settings.search.patience_seconds
    last, changed = None, time.monotonic()
    while True:
        work.check()
        health = work.client.cluster.health(index=work.index)
        if health["status"] == "green":
            return
        seen = (health["active_shards"], health["initializing_shards"], health["unassigned_shards"])
        if seen != last:  # slow, and not stuck
            last, changed = seen, time.monotonic()
            work.progress(f"{work.index}: {seen[0]} copies are there, {seen[1]} on their way, {seen[2]} wait")
        if time.monotonic() - changed > patience:
            raise TransientError(
                f"{work.index} has not all of its copies",
                expected=f"green, or one more copy every {patience} s",
                found=f"{health['status']}, {health['unassigned_shards']} shards unassigned, "
                f"{health['initializing_shards']} on their way",
                next="see the allocation of shards; then the same again, which goes on here",
            )
        time.sleep(0.2)
