"""10,000 edits and deletes during a rebuild of 100,000 events: nothing stale or missing, no query fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from bilten_orchestration.ingestion import source
from bilten_orchestration.search import bulk, definition, documents, state
from bilten_orchestration.search.delta import delta
from bilten_orchestration.search.documents import Version
from bilten_orchestration.search.pace import Pace
from bilten_orchestration.search.rollback import rollback
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import opensearch
from tests.integration.search.shopfront import Shopfront, owner, rebuild

pytestmark = pytest.mark.faults

EVENTS, EDITS = 100_000, 10_000
WRITERS = 2
_EDITS = (
    (
        "delete from tickets.ticket_types where event_id = md5(%(event)s)::uuid",
        "delete from events.events where id = md5(%(event)s)::uuid",
    ),
    ("update events.events set status = 'cancelled' where id = md5(%(event)s)::uuid",),
    ("update tickets.ticket_types set price = price + 1 where event_id = md5(%(event)s)::uuid",),
    ("update events.events set title = 'new ' || %(event)s where id = md5(%(event)s)::uuid",),
)


def scaled(search: Settings) -> Settings:
    sized = search.search.model_copy(update={"range_documents": 5_000, "bulk_bytes": 1 << 20})
    return search.model_copy(update={"search": sized})


@contextmanager
def edits(settings: Settings, number: int) -> Iterator[Callable[[], int]]:
    """Single edits and deletes by some sessions, over all events; tells how many were committed so far."""
    done = [0] * WRITERS
    step = EVENTS // number

    def write(writer: int) -> None:
        with owner(settings) as session:
            for n in range(1 + writer * step, EVENTS, step * WRITERS):
                for statement in _EDITS[n // step % 4]:
                    session.execute(statement.encode(), {"event": f"event{n}"})
                done[writer] += 1

    with ThreadPoolExecutor(WRITERS, "edits") as pool:
        futures = [pool.submit(write, writer) for writer in range(WRITERS)]
        yield lambda: sum(done)
        for future in futures:
            future.result()


@contextmanager
def queries(settings: Settings) -> Iterator[list[str]]:
    """What went wrong with queries through the alias, asked without a break."""
    failed: list[str] = []
    ended = threading.Event()

    def ask() -> None:
        client = opensearch.connect(settings.opensearch, timeout_seconds=60)
        while not ended.is_set():
            try:
                answer = client.search(
                    index=definition.ALIAS, body={"query": {"match": {"title": "concert"}}, "size": 1}
                )
            except Exception as error:  # noqa: BLE001 whatever it is, it is a query that failed
                failed.append(repr(error))
                continue
            if answer["_shards"]["failed"] or not answer["hits"]["hits"]:
                failed.append(str(answer))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield failed
    finally:
        ended.set()
        thread.join()


def naive(settings: Settings) -> None:
    """The usual reindex: read everything once, write it, move the alias."""
    client = opensearch.connect(settings.opensearch, timeout_seconds=120)
    name = definition.index_name(datetime.now(UTC))
    client.indices.create(index=name, body=definition.index_body(0) | {"aliases": state.aliases(name)})
    sender = bulk.Sender(client, name, Pace(1, 120))
    with source.open_snapshot(settings) as (reading, snapshot):
        copy = documents.load_statement(Version(1, snapshot.as_of))
        for _, chunk in source.chunks(reading, copy, 100_000, 1 << 20):
            sender.send(documents.lines(chunk))
    before = state.serving(client)
    client.indices.update_aliases(
        body={
            "actions": [
                {"remove": {"index": before, "alias": definition.ALIAS}},
                {"add": {"index": name, "alias": definition.ALIAS}},
            ]
        }
    )


def test_edits_during_a_rebuild(search: Settings, front: Shopfront) -> None:
    search = scaled(search)
    front.open_more(EVENTS)
    first = rebuild(search).index
    assert front.differing() == set()

    with queries(search) as failed:
        with edits(search, EDITS) as so_far:
            report = rebuild(search)
            assert so_far() > 0
        delta(search)
        assert front.differing() == set()
    assert failed == []
    assert report.swapped
    assert report.changes > 0

    front.edit(1, 1_000)
    with queries(search) as failed:
        back = rollback(search)
    assert failed == []
    assert back.index == first
    assert front.differing() == set()

    with edits(search, EDITS // 10):
        naive(search)
    assert len(front.differing()) > 0, "the control: without marks, edits of that time are lost"
