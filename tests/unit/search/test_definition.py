"""How a live index is compared with the definition: nothing, an addition in place, or a rebuild."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from bilten_orchestration.search import definition
from bilten_orchestration.search.definition import Step

Body = dict[str, Any]


def live() -> Body:
    """As a server says it: numbers are text, and it adds settings of its own."""
    body = copy.deepcopy(definition.index_body(replicas=1))
    index = body["settings"]["index"]
    index |= {"number_of_shards": "3", "number_of_replicas": "1", "uuid": "x", "creation_date": "1"}
    return body


def without(path: str) -> Callable[[Body], None]:
    *parents, last = path.split(".")

    def change(body: Body) -> None:
        for parent in parents:
            body = body[parent]
        del body[last]

    return change


def with_value(path: str, value: Any) -> Callable[[Body], None]:
    *parents, last = path.split(".")

    def change(body: Body) -> None:
        for parent in parents:
            body = body[parent]
        body[last] = value

    return change


def test_what_was_made_from_the_definition_does_not_differ() -> None:
    found = definition.difference(live())
    assert found.step is Step.NOTHING
    assert found.changes == ()
    assert found.live_hash == found.wanted_hash == definition.mapping_hash()
    assert found.text == f"no difference (mapping {definition.mapping_hash()})"


def test_what_a_load_sets_is_no_difference() -> None:
    loading = live()
    loading["settings"]["index"] |= {"refresh_interval": "-1", "number_of_replicas": "0", "gc_deletes": "1s"}
    assert definition.difference(loading).step is Step.NOTHING


@pytest.mark.parametrize(
    ("change", "step", "line"),
    [
        pytest.param(
            without("mappings.properties.venue_name"),
            Step.ADD,
            '+ mappings.properties.venue_name.type: "text"  (addition in place)',
            id="a field that it lacks",
        ),
        pytest.param(
            without("mappings.properties.title.fields"),
            Step.ADD,
            '+ mappings.properties.title.fields.keyword.type: "keyword"  (addition in place)',
            id="a subfield that it lacks",
        ),
        pytest.param(
            without("mappings.properties.price_range.properties.currency"),
            Step.ADD,
            '+ mappings.properties.price_range.properties.currency.type: "keyword"  (addition in place)',
            id="a nested field that it lacks",
        ),
        pytest.param(
            with_value("mappings._meta", {"mapping_hash": "older"}),
            Step.ADD,
            f"~ mappings._meta.mapping_hash: older -> {definition.mapping_hash()}  (addition in place)",
            id="another hash alone",
        ),
        pytest.param(
            with_value("mappings.properties.popularity.type", "float"),
            Step.REBUILD,
            '~ mappings.properties.popularity.type: "float" -> "long"  (rebuild)',
            id="another type",
        ),
        pytest.param(
            with_value("mappings.properties.old", {"type": "keyword"}),
            Step.REBUILD,
            '- mappings.properties.old.type: "keyword"  (rebuild)',
            id="a field too many",
        ),
        pytest.param(
            without("mappings.properties.content_hash.index"),
            Step.REBUILD,
            "+ mappings.properties.content_hash.index: false  (rebuild)",
            id="an attribute of a field that it has",
        ),
        pytest.param(
            with_value("mappings.properties.location", {"type": "keyword"}),
            Step.REBUILD,
            '- mappings.properties.location.type: "keyword"  (rebuild)',
            id="a field where it should have an object",
        ),
        pytest.param(
            with_value("settings.index.number_of_shards", "1"),
            Step.REBUILD,
            "~ settings.number_of_shards: 1 -> 3  (rebuild)",
            id="other shards",
        ),
        pytest.param(
            with_value("settings.index.analysis.analyzer.event_analyzer.filter", ["lowercase"]),
            Step.REBUILD,
            '~ settings.analysis.analyzer.event_analyzer.filter: ["lowercase"] ->'
            ' ["lowercase", "stop", "snowball"]  (rebuild)',
            id="another analysis",
        ),
        pytest.param(
            without("settings.index.analysis"),
            Step.REBUILD,
            '+ settings.analysis.analyzer.event_analyzer.type: "custom"  (rebuild)',
            id="no analysis",
        ),
    ],
)
def test_each_difference_says_what_it_takes(change: Callable[[Body], None], step: Step, line: str) -> None:
    body = live()
    change(body)
    found = definition.difference(body)
    assert found.step is step
    assert line in found.text.splitlines()


def test_one_rebuild_outweighs_every_addition() -> None:
    body = live()
    without("mappings.properties.venue_name")(body)
    with_value("mappings.properties.id.type", "text")(body)
    assert definition.difference(body).step is Step.REBUILD


def test_the_hash_follows_what_documents_are_stored_by(monkeypatch: pytest.MonkeyPatch) -> None:
    before = definition.mapping_hash()
    monkeypatch.setattr(definition, "GC_DELETES_SECONDS", 1)
    monkeypatch.setattr(definition, "REFRESH_INTERVAL", "9s")
    assert definition.mapping_hash() == before
    monkeypatch.setattr(definition, "FIELDS", definition.FIELDS | {"more": {"type": "keyword"}})
    assert definition.mapping_hash() != before
    assert definition.mappings()["_meta"] == {"mapping_hash": definition.mapping_hash()}


@pytest.mark.parametrize(
    ("wanted", "nodes", "replicas"), [(None, 1, 0), (None, 2, 1), (None, 9, 1), (0, 3, 0), (2, 1, 2)]
)
def test_replicas_by_setting_or_by_nodes(wanted: int | None, nodes: int, replicas: int) -> None:
    assert definition.replicas(wanted, nodes) == replicas


def test_names_sort_by_time() -> None:
    first = definition.index_name(datetime(2026, 3, 1, 12, 0, 0, 999_999, UTC))
    assert first == f"events-{definition.mapping_hash()}-20260301t120000999"
    assert first < definition.index_name(datetime(2026, 3, 1, 12, 0, 1, tzinfo=UTC))
    assert first == first.lower()
