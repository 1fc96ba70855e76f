"""A new index under live traffic: exact, proven, swapped in one action, or refused."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from bilten_orchestration.errors import LockHeld, Mismatch, TransientError
from bilten_orchestration.search import dead_letters, loading, query, state
from bilten_orchestration.search.bulk import Sent
from bilten_orchestration.search.delta import delta
from bilten_orchestration.search.gates import GATES
from bilten_orchestration.search.request import SearchRequest
from bilten_orchestration.search.status import status
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import opensearch
from bilten_orchestration.stores.postgres import Connection
from tests.integration.search.shopfront import Shopfront, owner, rebuild
from tests.kills import killed_when_told

HUGE_TAG = "t" * 40_000  # a keyword ends at 32,766 bytes


def at(step: str, work: Callable[[], object]) -> Callable[[str], None]:
    """A progress that does `work` once, when `step` is told."""
    done = []

    def hear(text: str) -> None:
        if re.search(step, text) and not done:
            done.append(text)
            work()

    return hear


def with_search(settings: Settings, **update: object) -> Settings:
    return settings.model_copy(update={"search": settings.search.model_copy(update=update)})


def test_what_is_edited_during_a_build_is_in_it_and_the_one_before_is_kept(
    search: Settings, front: Shopfront
) -> None:
    first = rebuild(search, judges=GATES)
    assert first.swapped
    assert first.before is None
    assert {verdict.gate for verdict in first.verdicts} == {
        "dead_letters",
        "counts",
        "content",
        "golden",
        "size",
    }
    assert len(front.expected()) == 280
    assert front.differing() == set()

    second = rebuild(search, progress=at("ranges to load", lambda: front.edit(1, 100)))
    assert second.swapped
    assert second.before == first.index
    assert second.changes >= 80
    assert len(front.expected()) < 250
    assert front.differing() == set()

    found = status(search)
    assert found.problems == ()
    assert found.index == second.index
    assert found.previous == first.index
    assert {index.name: index.state for index in found.indices} == {
        first.index: "kept",
        second.index: "serving",
    }
    assert [swap.to_index for swap in found.swaps] == [second.index, first.index]
    assert found.lease_holder is None


def test_a_transaction_that_commits_after_the_last_batch_is_not_waited_for_and_not_lost(
    search: Settings, front: Shopfront
) -> None:
    with owner(search) as long, long.transaction():
        long.execute("update events.venues set name = 'Late Hall' where name = 'Hall 3'")
        assert rebuild(search).swapped
        assert "Late Hall" not in {row[3] for row in front.found().values()}
    delta(search)
    assert "Late Hall" in {row[3] for row in front.found().values()}
    assert front.differing() == set()


def test_an_index_that_differs_is_refused_and_the_old_one_goes_on_serving(
    search: Settings, front: Shopfront
) -> None:
    first = rebuild(search)
    client = opensearch.connect(search.opensearch)

    def spoil() -> None:
        with owner(search) as connection:
            name = next(index.name for index in state.indices(connection) if index.state == "building")
        client.indices.refresh(index=name)
        hits = client.search(index=name, body={"size": 2})["hits"]["hits"]
        spoilt = hits[0]["_source"] | {"title": "spoilt"}
        client.index(index=name, id=hits[0]["_id"], body=spoilt, version=1 << 40, version_type="external")
        client.delete(index=name, id=hits[1]["_id"], version=1 << 40, version_type="external")
        client.indices.refresh(index=name)

    second = rebuild(search, progress=at("s behind", spoil))
    assert not second.swapped
    refused = {verdict.gate: verdict for verdict in second.verdicts if not verdict.ok}
    assert {"counts", "content"} <= refused.keys()
    assert "1 missing, 0 too many, 1 that differ" in refused["content"].found
    assert len(refused["content"].sample) == 2
    assert status(search).index == first.index
    assert front.differing() == set()
    # a refused one is not gone on with
    third = rebuild(search)
    assert third.swapped
    assert not third.resumed
    assert third.before == first.index


def test_a_document_that_is_refused_is_a_dead_letter_and_too_many_refuse_the_swap(
    search: Settings, front: Shopfront
) -> None:
    front.run("update events.events set tags = array[%s] where id = md5('event7')::uuid", HUGE_TAG)
    report = rebuild(search)
    assert report.swapped
    assert report.dead_letters == 1
    (found,) = front.connection.execute(
        "select reason from system.search_dead_letters where resolved_at is null"
    ).fetchone() or ("",)
    assert "immense term" in found

    strict = rebuild(with_search(search, dead_letters_max=0))
    assert [verdict.gate for verdict in strict.verdicts if not verdict.ok] == ["dead_letters"]
    assert status(search).index == report.index

    front.run("update events.events set tags = '{}' where id = md5('event7')::uuid")
    assert delta(search).problems == []
    assert front.differing() == set()


def test_a_mapping_that_refuses_everything_is_told_and_not_collected(
    search: Settings, front: Shopfront, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dead_letters, "MOST_OPEN", 10)
    front.run("update events.events set tags = array[%s]", HUGE_TAG)
    sent: list[Sent] = []
    record = dead_letters.record

    def seen(connection: Connection, index: str, batch: int, found: Sent) -> None:
        sent.append(found)
        record(connection, index, batch, found)

    monkeypatch.setattr(dead_letters, "record", seen)
    with pytest.raises(Mismatch, match="refuses documents"):
        rebuild(with_search(search, bulk_bytes=256 << 10, range_documents=1_000, parallel=1))
    assert max(len(each.dead) for each in sent) < 30


def test_one_title_every_five_minutes_in_decomposed_letters_is_found(
    search: Settings, front: Shopfront
) -> None:
    """An organizer whose day has more dates than a page has hits; a title as some systems paste it."""
    front.run(
        "update events.events set title = E'Cafe\\u0301 Concerto', organizer_id = md5('user1')::uuid, "
        "start_date = timestamptz '2027-01-01' + x.n * interval '5 minutes' from "
        "(select id, row_number() over (order by id) as n from events.events) x where x.id = events.id"
    )
    report = rebuild(search, judges=GATES)
    assert report.problems == []
    client = opensearch.connect(search.opensearch)
    for text in ("caf\u00e9", "cafe\u0301", '"Cafe\u0301 Concerto"'):
        found = query.search(search.opensearch, client, SearchRequest(text, fuzzy=False), seconds=120)
        assert found.total == 280, text


def test_copies_that_no_node_takes_are_not_waited_for_without_end(search: Settings, front: Shopfront) -> None:
    with pytest.raises(TransientError, match="has not all of its copies"):
        rebuild(with_search(search, replicas=1, patience_seconds=1))
    report = rebuild(search)
    assert report.resumed
    assert report.swapped


def test_there_is_one_builder_at_a_time(search: Settings, front: Shopfront) -> None:
    def second() -> None:
        with pytest.raises(LockHeld, match="by somebody else"):
            rebuild(search)

    assert rebuild(search, progress=at("ranges to load", second)).swapped


def test_a_build_that_was_killed_goes_on_where_it_was(
    search: Settings, front: Shopfront, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "TELL_SECONDS", 0)
    few = with_search(search, parallel=1)
    killed_when_told(lambda told: rebuild(few, progress=told), "loaded 1 of")
    front.edit(1, 60)
    report = rebuild(search)
    assert report.swapped
    assert report.resumed
    assert report.loaded.ranges == 3
    assert front.differing() == set()
