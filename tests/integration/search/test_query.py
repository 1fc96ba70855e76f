"""The application's search, asked of a real node."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from opensearchpy import OpenSearch

from bilten_orchestration.errors import StoreUnavailable, TerminalError
from bilten_orchestration.search import definition, query
from bilten_orchestration.search.request import Near, Price, SearchRequest, SearchResponse, Sort
from bilten_orchestration.settings import OpenSearchSettings
from bilten_orchestration.stores import opensearch
from tests.conftest import Servers
from tests.integration.search.corpus import EVENTS, LISBON, ORGANIZER, OTHER, event, fill, key

PATIENCE = 120  # of a loaded machine


@dataclass
class Index:
    settings: OpenSearchSettings
    client: OpenSearch
    name: str

    def search(self, text: str = "", **asked: Any) -> SearchResponse:
        return self.ask(SearchRequest(text, **asked))

    def ask(self, request: SearchRequest) -> SearchResponse:
        return query.search(self.settings, self.client, request, index=self.name, seconds=PATIENCE)

    def numbers(self, text: str = "", **asked: Any) -> list[int]:
        return [int(hit.id[-12:], 16) for hit in self.search(text, **asked).hits]


@pytest.fixture(scope="module")
def index(servers: Servers) -> Iterator[Index]:
    client = opensearch.connect(servers.opensearch, timeout_seconds=PATIENCE)
    fill(client, "events-test-query")
    yield Index(servers.opensearch, client, "events-test-query")
    client.indices.delete(index="events-test-query")
    client.close()


def test_the_live_index_is_as_defined(index: Index) -> None:
    live = index.client.indices.get(index=index.name)[index.name]
    found = definition.difference(live)
    assert found.step is definition.Step.NOTHING, found.text
    assert found.live_hash == definition.mapping_hash()


def test_an_unknown_field_is_refused(index: Index) -> None:
    with pytest.raises(TerminalError, match="strict"), opensearch.translated(index.settings, "a write"):
        index.client.index(index=index.name, body=event(9, "Poison") | {"surprise": 1})


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, [1, 2, 3, 4, 5, 6]),
        ({"categories": ("sport", "theatre")}, [3, 5]),
        ({"tags": ("outdoor",)}, [2, 4]),
        ({"tags": ("outdoor", "standing")}, [2]),
        ({"cities": ("Porto", "Madrid")}, [3, 5]),
        ({"countries": ("PT",)}, [1, 2, 4, 5, 6]),
        ({"organizers": (OTHER,)}, [2]),
        ({"availability": ("sold_out",)}, [6]),
        ({"starts_from": datetime(2026, 5, 5, 18, tzinfo=UTC)}, [5, 6]),
        ({"starts_before": datetime(2026, 5, 2, 18, tzinfo=UTC)}, [1]),
        ({"near": Near(*LISBON, 50)}, [1, 2, 4, 6]),
        ({"near": Near(*LISBON, 300)}, [1, 2, 4, 5, 6]),
        ({"price": Price("EUR")}, [1, 2, 3, 4, 5]),
        ({"price": Price("EUR", None, Decimal("9.99"))}, []),
        ({"price": Price("EUR", None, Decimal(10))}, [1, 2, 3, 4]),
        ({"price": Price("EUR", Decimal("40.001"))}, [5]),
        ({"price": Price("USD", Decimal(6), Decimal(7))}, [5]),
        ({"price": Price("USD", Decimal(90))}, []),
        ({"organizers": (ORGANIZER,), "categories": ("music",), "tags": ("outdoor",)}, [4]),
    ],
)
def test_filters(index: Index, asked: dict[str, Any], found: list[int]) -> None:
    answer = index.search(**asked)
    assert [int(hit.id[-12:], 16) for hit in answer.hits] == found
    assert (answer.total, answer.total_is_exact, answer.next_cursor) == (len(found), True, None)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("jazz", {1, 4}),
        ("JAZZ", {1, 4}),
        ("session", {1}),  # stemmed
        ("marathons", {3}),
        ("marahton", {3}),  # two letters changed places
        ("sinth tour", {2}),
        ("music", {1, 2, 4}),  # the category
        ("lighthouse", {5}),  # the venue
        ('"jazz sessions"', {1}),
        ('"sessions jazz"', set()),
        ("sessions jazz", {1}),
        ("the", set()),
        ("nothing like it", set()),
    ],
)
def test_texts(index: Index, text: str, found: set[int]) -> None:
    assert set(index.numbers(text)) == found


@pytest.mark.parametrize(
    "text",
    [
        "*",
        "title:jazz OR 1=1",
        "jazz) OR (a:*",
        '{"match_all":{}}',
        '"',
        '""',
        '"""',
        "/.*/",
        "jazz~99999",
        "_exists_:title AND NOT x",
        "a" * 255,
        "\\",
        "ja?z",
        "\U0001f3b7" * 50,
        " ".join(["marathon", "sessions", "electric", "theatre", "winter", "summit"] * 5),
        " ".join(f"sessio{letter}" for letter in "abcdefghij"),
    ],
)
def test_no_text_is_a_language(index: Index, text: str) -> None:
    """Whatever is typed is words: it is answered, and never finds everything."""
    assert index.search(text, highlight=True).total <= 3


def test_words_without_spaces_do_not_become_more_than_a_server_takes(index: Index) -> None:
    """Each nearly right word becomes up to 20 in each field, and a query may have 1,024."""
    name = "events-test-words"
    words = ["".join(letters) for letters in itertools.product("abcdefghijklmnop", repeat=3)]
    texts = [" ".join(words[start : start + 25]) for start in range(0, len(words), 25)]
    events = tuple(
        event(1, text, description=text, venue_name=text) | {"id": key(number)}
        for number, text in enumerate(texts, start=1)
    )
    fill(index.client, name, events)
    try:
        for between in ("-", ",", "/", " "):
            text = between.join(words[:1800:30])
            assert Index(index.settings, index.client, name).search(text).total >= 0
    finally:
        index.client.indices.delete(index=name)


def test_the_title_counts_twice(index: Index) -> None:
    by_score = index.search("choir jazz", sort=Sort.RELEVANCE)
    assert by_score.hits[0].id == key(4)
    assert [hit.score for hit in by_score.hits] == sorted((hit.score for hit in by_score.hits), reverse=True)


def test_orders(index: Index) -> None:
    assert index.numbers(sort=Sort.POPULARITY) == [4, 1, 2, 3, 5, 6]
    answer = index.search(sort=Sort.DISTANCE, near=Near(*LISBON, 600))
    assert [int(hit.id[-12:], 16) for hit in answer.hits] == [1, 2, 4, 6, 5, 3]
    distances = [hit.distance_km for hit in answer.hits]
    assert distances[0] == pytest.approx(0, abs=0.001)
    assert distances[4] == pytest.approx(274, rel=0.01)  # Lisbon to Porto
    assert distances[5] == pytest.approx(503, rel=0.01)  # Lisbon to Madrid


def test_a_hit_says_what_a_list_shows(index: Index) -> None:
    (hit,) = index.search(categories=("theatre",)).hits
    assert (hit.title, hit.venue_name, hit.city, hit.country) == (
        "Winter Garden",
        "Lighthouse Theatre",
        "Porto",
        "PT",
    )
    assert {(price.currency, price.minimum, price.maximum) for price in hit.prices} == {
        ("EUR", 90.0, 120.0),
        ("USD", 5.0, 8.0),
    }


def test_highlights_are_escaped(index: Index) -> None:
    found = {hit.id: hit.highlights for hit in index.search("jazz", highlight=True).hits}
    (title,) = found[key(4)]["title"]
    assert title.startswith("<em>Jazz</em> &lt;script&gt;alert(")
    assert title.endswith("&amp; Choir")
    (description,) = found[key(4)]["description"]
    assert "<em>jazz</em> &lt; &amp; &gt;" in description
    assert "<" not in (title + description).replace("<em>", "").replace("</em>", "")
    assert index.search("jazz").hits[0].highlights == {}


def test_one_very_long_description_spoils_no_search(index: Index) -> None:
    """Texts above a million characters are not highlighted, unless they were indexed with offsets."""
    long = event(7, "Endless Reading", description="all work and no play makes a dull evening " * 40_000)
    index.client.index(index=index.name, id=long["id"], body=long, params={"refresh": "true"})
    try:
        (hit,) = index.search("dull evenings", highlight=True).hits
        assert len(hit.highlights["description"]) == 2
        assert all("<em>evening</em>" in part and len(part) < 1000 for part in hit.highlights["description"])
    finally:
        index.client.delete(index=index.name, id=long["id"], params={"refresh": "true"})


@pytest.mark.parametrize("sort", [Sort.START, Sort.RELEVANCE, Sort.POPULARITY, Sort.DISTANCE])
def test_pages_follow_each_other(index: Index, sort: Sort) -> None:
    request = SearchRequest(sort=sort, page_size=2, near=Near(*LISBON, 900))
    seen: list[str] = []
    pages = 0
    while True:
        answer = index.ask(request)
        seen += [hit.id for hit in answer.hits]
        pages += 1
        assert answer.total == len(EVENTS)
        if answer.next_cursor is None:
            break
        request = replace(request, after=answer.next_cursor)
    assert (len(seen), len(set(seen)), pages) == (6, 6, 4)  # the last one is empty: its size was full
    whole = query.search(
        index.settings, index.client, replace(request, after=None, page_size=50), index=index.name
    )
    assert seen == [hit.id for hit in whole.hits]


def test_pages_are_told_apart_where_everything_is_equal(servers: Servers, index: Index) -> None:
    name = "events-test-ties"
    twins = tuple(event(1, "Twin") | {"id": key(number)} for number in range(1, 251))
    fill(index.client, name, twins)
    try:
        same = Index(index.settings, index.client, name)
        seen: list[int] = []
        after = None
        for _ in range(6):
            answer = same.search("twin", page_size=50, after=after)
            seen += [int(hit.id[-12:], 16) for hit in answer.hits]
            after = answer.next_cursor
        assert sorted(seen) == list(range(1, 251))
        assert after is None
    finally:
        index.client.indices.delete(index=name)


def test_a_walk_sees_one_state(index: Index) -> None:
    name = "events-test-walk"
    fill(index.client, name, tuple(event(1, "Twin") | {"id": key(number)} for number in range(1, 251)))
    try:
        walk = query.walk(index.settings, index.client, SearchRequest("twin"), index=name)
        seen = [next(walk).id for _ in range(10)]
        index.client.delete_by_query(
            index=name, body={"query": {"match_all": {}}}, params={"refresh": "true"}
        )
        seen += [hit.id for hit in walk]
        assert sorted(seen) == [key(number) for number in range(1, 251)]
        assert list(query.walk(index.settings, index.client, SearchRequest("twin"), index=name)) == []
    finally:
        index.client.indices.delete(index=name)


def test_what_went_wrong_is_told_as_ours(index: Index) -> None:
    with pytest.raises(TerminalError, match="refused a search") as nobody:
        query.search(index.settings, index.client, SearchRequest("jazz"), index="events-of-nobody")
    assert "bilten search reindex" in str(nobody.value)
    nowhere = index.settings.model_copy(update={"url": "http://127.0.0.1:1"})
    with pytest.raises(StoreUnavailable, match="went away during a search"):
        query.search(nowhere, opensearch.client(nowhere), SearchRequest("jazz"))
