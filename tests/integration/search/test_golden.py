"""The gate of golden queries: a right index passes, and each kind of question finds what it is for."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from opensearchpy import OpenSearch

from bilten_orchestration.search import definition, documents, golden
from bilten_orchestration.search.documents import KeyRange, Version
from bilten_orchestration.search.golden import Answered, Golden
from bilten_orchestration.search.questions import (
    EARTH_METERS,
    EDGE,
    EDGE_METERS,
    EXACT_KINDS,
    METERS,
    TEXT_KINDS,
    Exact,
)
from bilten_orchestration.search.request import Near, SearchRequest
from bilten_orchestration.settings import OpenSearchSettings, Settings
from bilten_orchestration.stores import opensearch, postgres
from bilten_orchestration.stores.postgres import Connection
from tests.conftest import Servers
from tests.integration.search import catalogue

Documents = dict[str, dict[str, Any]]
EVERY = {*EXACT_KINDS, *TEXT_KINDS}
TEXTS = set(TEXT_KINDS)


@dataclass
class World:
    settings: OpenSearchSettings
    client: OpenSearch
    connection: Connection
    right: Documents

    def ask(self, found: Documents, **asked: Any) -> dict[str, Answered]:
        """What the gate says of an index that holds `found`."""
        name, body = "events-test-golden", definition.index_body(0)
        asked.pop("change", lambda body: None)(body)
        self.client.indices.create(index=name, body=body)
        try:
            lines = [part for key, doc in found.items() for part in ({"index": {"_id": key}}, doc)]
            answer = self.client.bulk(index=name, body=lines, params={"refresh": "true"})
            assert answer["errors"] is False
            questions = Golden(self.settings, self.client, name, self.connection, "seed", **asked)
            return {answered.kind: answered for answered in questions.ask()}
        finally:
            self.client.indices.delete(index=name)


@pytest.fixture(scope="module")
def world(servers: Servers) -> Iterator[World]:
    """Read only: one database for the module."""
    template = servers.template
    assert template
    servers.create_database("golden", template="bilten_template")
    settings: Settings = servers.settings("golden", servers.clickhouse.settings)
    client = opensearch.connect(servers.opensearch, timeout_seconds=120)
    with postgres.connect(settings.postgres, autocommit=True) as owner:
        catalogue.fill(owner)
        statement = documents.load_statement(Version(1, datetime.now(UTC)), KeyRange(0, None, None))
        with owner.cursor().copy(statement) as copy_out:
            text = documents.lines(b"".join(bytes(block) for block in copy_out)).decode().splitlines()
        right = {
            json.loads(action)["index"]["_id"]: json.loads(source)
            for action, source in zip(text[::2], text[1::2], strict=True)
        }
        assert 400 < len(right) < catalogue.EVENTS
        yield World(servers.opensearch, client, owner, right)
    client.close()
    servers.drop_database("golden")


def refused(answers: dict[str, Answered]) -> set[str]:
    return {kind for kind, answered in answers.items() if not answered.ok}


def test_a_right_index_passes(world: World) -> None:
    answers = world.ask(world.right)
    assert set(answers) == EVERY
    assert refused(answers) == set()
    assert {
        kind: answered.asked for kind, answered in answers.items() if kind in EXACT_KINDS
    } == dict.fromkeys(EXACT_KINDS, 6)
    # every one of them, and not just as many as must be
    assert [(each.kind, each.differing) for each in answers.values() if each.right < each.asked] == []
    assert all(answers[kind].asked == 40 for kind in TEXT_KINDS)


def _each(change: Callable[[dict[str, Any]], object]) -> Callable[[Documents], None]:
    def apply(found: Documents) -> None:
        for document in found.values():
            change(document)

    return apply


def _swap_places(document: dict[str, Any]) -> None:
    if "coordinates" in document["location"]:
        latitude, _, longitude = document["location"]["coordinates"].partition(",")
        document["location"]["coordinates"] = f"{longitude},{latitude}"


def _one_currency(document: dict[str, Any]) -> None:
    for price in document.get("price_range", ()):
        price["currency"] = "EUR"


def _cents(document: dict[str, Any]) -> None:
    for price in document.get("price_range", ()):
        price["min"], price["max"] = price["min"] * 100, price["max"] * 100


def _later(document: dict[str, Any]) -> None:
    # the day of the month alone: some events change places
    document["start_date"] = document["start_date"][:8] + "15" + document["start_date"][10:]


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        pytest.param(
            _each(lambda doc: doc.update(category=doc["category"].title())),
            {"category", "several"},
            id="category",
        ),
        pytest.param(_each(lambda doc: doc.update(tags=doc["tags"][:1])), {"tags"}, id="tags"),
        pytest.param(_each(lambda doc: doc["location"].update(country="XX")), {"place"}, id="place"),
        pytest.param(_each(_swap_places), {"radius"}, id="latitude for longitude"),
        pytest.param(_each(_one_currency), {"price"}, id="currencies in one"),
        pytest.param(_each(_cents), {"price", "several"}, id="cents for units"),
        pytest.param(_each(_later), {"dates", "order"}, id="days"),
        pytest.param(_each(lambda doc: doc.update(title=doc["title"][::-1])), TEXTS, id="titles backwards"),
    ],
)
def test_what_is_wrong_in_documents_is_found(
    world: World, change: Callable[[Documents], None], kinds: set[str]
) -> None:
    found = copy.deepcopy(world.right)
    change(found)
    answers = world.ask(found)
    assert kinds <= refused(answers), {kind: each.differing for kind, each in answers.items()}
    # hits come in the order of time: where that is wrong, everything is
    assert "order" in kinds or refused(answers) <= kinds | {"several"}
    for kind in kinds:
        assert 0 < len(answers[kind].differing) <= 5
        assert all(each.expected and each.found and each.question for each in answers[kind].differing)


def test_missing_and_foreign_documents_are_found(world: World) -> None:
    fewer = dict(list(world.right.items())[:-1])
    assert {"order", "organizer"} & refused(world.ask(fewer))
    more = world.right | {"0" * 8 + "-0000-0000-0000-" + "0" * 12: next(iter(world.right.values()))}
    assert {"order", "organizer"} & refused(world.ask(more))


def test_what_is_known_to_be_missing_is_left_out_on_both_sides(world: World) -> None:
    without = sorted(world.right)[:50]
    fewer = {key: document for key, document in world.right.items() if key not in without}
    assert refused(world.ask(fewer, without=without)) == set()
    # nor does what an index has of them count
    assert refused(world.ask(world.right, without=without)) == set()


def test_a_list_without_its_end_is_found_where_the_rim_makes_up_for_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events of the rim may be in or out: one of them must not stand for another that is missing."""
    latitude, longitude = 38.72, -9.13
    located = [doc for doc in world.right.values() if "coordinates" in doc["location"]]
    away = sorted({_meters(doc, latitude, longitude) for doc in located})
    # through the place of some events, and no other is near
    rim = next(
        here
        for before, here, after in zip(away, away[1:], away[2:], strict=False)
        if here - before > here / 50 and after - here > here / 50
    )
    near = Near(latitude, longitude, round(rim * (1 + EDGE / 2) / 1000, 3))
    values = {"latitude": latitude, "longitude": longitude, "radius": near.radius_km * 1000}
    within = f"{METERS} <= %(radius)s * {1 + EDGE} + {EDGE_METERS}"
    question = Exact(SearchRequest(near=near), within, values, distance=True)
    monkeypatch.setattr(golden, "EXACT_KINDS", {"radius": lambda *_: question})

    inside = [doc for doc in located if _meters(doc, latitude, longitude) < rim * 0.99]
    last = max(inside, key=lambda doc: (doc["start_date"], doc["id"]))
    assert refused(world.ask(world.right)) == set()
    fewer = {key: document for key, document in world.right.items() if key != last["id"]}
    found = world.ask(fewer)["radius"]
    assert found.right == 0
    assert "within the edges" in found.differing[0].expected


def _meters(document: dict[str, Any], latitude: float, longitude: float) -> float:
    north, east = map(float, document["location"]["coordinates"].split(","))
    angle = (
        math.sin(math.radians(north - latitude) / 2) ** 2
        + math.cos(math.radians(latitude))
        * math.cos(math.radians(north))
        * math.sin(math.radians(east - longitude) / 2) ** 2
    )
    return 2 * EARTH_METERS * math.asin(math.sqrt(angle))


def test_an_index_without_stemming_is_found(world: World) -> None:
    def plain(body: dict[str, Any]) -> None:
        body["settings"]["index"]["analysis"] = copy.deepcopy(definition.ANALYSIS)
        body["settings"]["index"]["analysis"]["analyzer"]["event_analyzer"]["filter"] = ["lowercase", "stop"]

    assert refused(world.ask(world.right, change=plain)) == {"stemmed"}


def test_nothing_is_asked_where_there_is_no_event(world: World) -> None:
    assert (
        world.ask({next(iter(world.right)): next(iter(world.right.values()))}, without=sorted(world.right))
        == {}
    )


def test_the_same_seed_asks_the_same(world: World) -> None:
    wrong = copy.deepcopy(world.right)
    _each(lambda doc: doc["location"].update(country="XX"))(wrong)
    first, second = world.ask(wrong), world.ask(wrong)
    assert first == second
