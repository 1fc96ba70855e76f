"""The index that serves follows every joined table, survives a restore, drift and a rollback."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bilten_orchestration.cli.main import build
from bilten_orchestration.errors import Refused
from bilten_orchestration.search import definition, lag, marks, state
from bilten_orchestration.search import rebuild as engine
from bilten_orchestration.search.delta import delta
from bilten_orchestration.search.drift import drift
from bilten_orchestration.search.prune import prune
from bilten_orchestration.search.rollback import rollback
from bilten_orchestration.search.status import status
from bilten_orchestration.settings import Settings
from bilten_orchestration.settings.loading import as_environment
from bilten_orchestration.stores import opensearch
from tests.integration.search.shopfront import EXACT, Shopfront, rebuild


def test_a_change_of_any_joined_table_reaches_its_events(search: Settings, front: Shopfront) -> None:
    with pytest.raises(Refused, match="does not exist"):
        delta(search)
    rebuild(search)
    for change, events in (
        ("update events.venues set name = 'Renamed' where id = md5('venue3')::uuid", 15),
        ("update users.organizations set name = 'Renamed' where id = md5('org1')::uuid", 100),
        ("update tickets.ticket_types set price = 1 where event_id = md5('event8')::uuid", 1),
        ("delete from tickets.ticket_types where event_id = md5('event9')::uuid", 1),
        ("insert into system.event_popularity (event_id, tickets_sold) values (md5('event2')::uuid, 5)", 1),
        ("update events.events set status = 'published' where id = md5('event15')::uuid", 1),
        ("update events.events set deleted_at = now() where id = md5('event4')::uuid", 1),
        ("delete from events.events where id = md5('event9')::uuid", 1),
    ):
        front.run(change)
        assert delta(search).applied.operations == events, change
        assert front.differing() == set(), change
        assert delta(search).applied.operations == 0, change
    client = opensearch.connect(search.opensearch)
    (popular,) = client.search(index=definition.ALIAS, body={"query": {"range": {"popularity": {"gt": 0}}}})[
        "hits"
    ]["hits"]
    assert popular["_source"]["popularity"] == 5


def test_a_restored_postgres_is_refused_until_it_is_accepted(search: Settings, front: Shopfront) -> None:
    rebuild(search)
    last = delta(search).applied.batch
    # as a restore leaves it: a past, numbers that have gone back, and an epoch of its own
    front.run("delete from events.events where id = md5('event30')::uuid")
    front.run("update events.events set title = 'of the past' where id = md5('event1')::uuid")
    front.run("delete from events.events e where id = md5('event10')::uuid")
    front.run("delete from system.deleted_rows")
    front.run("select setval('system.batch_number', 1)")
    front.run("insert into system.restores (reason) values ('test')")
    with pytest.raises(Refused, match="would change 2 documents") as refused:
        delta(search)
    assert "another epoch" in str(refused.value)
    report = delta(search, accept_epoch=True)
    assert report.accepted
    assert report.removed == 1
    assert report.applied.batch > last
    assert front.differing() == set()
    assert delta(search).applied.operations == 0


def test_no_index_of_another_past_is_put_in_its_place_unasked(search: Settings, front: Shopfront) -> None:
    """Every gate compares with the PostgreSQL that is asked: on a wrong address all of them pass."""
    first = rebuild(search).index
    front.run("delete from tickets.ticket_types")
    front.run("delete from events.events")
    front.run("insert into system.restores (reason) values ('test')")
    with pytest.raises(Refused, match="another epoch") as refused:
        rebuild(search)
    assert "reindex --accept-epoch" in str(refused.value)
    assert status(search).index == first
    assert len(front.found()) == 280
    report = engine.rebuild(search, accept_epoch=True, judges=EXACT)
    assert report.swapped
    assert front.differing() == set()
    assert delta(search).problems == []
    with pytest.raises(Refused, match="another epoch"):
        rollback(search)


@pytest.mark.parametrize("read", ["followed", "carried"])
def test_a_batch_that_begins_while_another_looks_is_no_other_past(
    search: Settings, front: Shopfront, monkeypatch: pytest.MonkeyPatch, read: str
) -> None:
    rebuild(search)
    look, looks = getattr(marks, read), []

    def meanwhile(*asked: Any) -> Any:
        found = look(*asked)
        looks.append(asked)
        if len(looks) == 1:
            front.run("update events.events set title = 'meanwhile' where id = md5('event1')::uuid")
            assert delta(search).applied.operations == 1
        return found

    monkeypatch.setattr(marks, read, meanwhile)
    assert delta(search).applied.operations == 0
    assert front.differing() == set()


def test_a_swap_while_a_delta_looks_is_not_taken_back_in_the_record(
    search: Settings, front: Shopfront, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = rebuild(search).index
    look: Callable[..., str | None] = state.serving
    built: list[str] = []

    def meanwhile(*asked: Any) -> str | None:
        found = look(*asked)
        if not built:
            built.append("")
            built[0] = rebuild(search).index
        return found

    monkeypatch.setattr(state, "serving", meanwhile)
    front.run("update events.events set title = 'at the swap' where id = md5('event1')::uuid")
    assert delta(search).applied.index == first
    assert lag.read(front.connection).index == built[0]
    assert [swap.reason for swap in status(search).swaps] == ["rebuild", "rebuild"]
    assert front.differing() == set()


def test_what_somebody_else_has_written_is_found_and_goes(search: Settings, front: Shopfront) -> None:
    """Under a name that is no event's, without an id, as a copy, and with a version above all of ours."""
    index = rebuild(search).index
    client = opensearch.connect(search.opensearch)
    keys = sorted(front.expected())
    source = client.get(index=index, id=keys[0])["_source"]
    nameless = {name: value for name, value in source.items() if name != "id"}
    stranger = "00000000-0000-0000-0000-0000000000ff"

    def spoil(version: int) -> None:
        client.index(index=index, id="made-by-hand", body=source)
        client.index(index=index, id="no-id", body=nameless)
        for key in (keys[1], stranger):
            body = source | {"id": key, "title": "by hand"}
            client.index(index=index, id=key, body=body, version=version, version_type="external")
        client.indices.refresh(index=index)

    spoil(1 << 40)
    for whole in (True, False):
        found = drift(search, whole=whole, repair=False).compared
        assert (found.missing, found.extra, found.changed) == (0, 3, 1)
    assert drift(search, whole=True).repaired == 4
    assert front.differing() == set()
    front.run("update events.events set title = 'later' where id = %s", keys[1])
    assert delta(search).applied.superseded == 0
    assert front.differing() == set()

    spoil(1 << 41)
    front.run("insert into system.restores (reason) values ('test')")
    with pytest.raises(Refused, match="would change 4 documents"):
        delta(search)
    # written again, and told: its version is above the batch's, and only the drift check looks at it
    assert delta(search, accept_epoch=True).removed == 3
    drift(search, whole=True)
    assert front.differing() == set()


def test_drift_is_found_repaired_and_told(search: Settings, front: Shopfront) -> None:
    index = rebuild(search).index
    assert drift(search, whole=True).problems == []
    client = opensearch.connect(search.opensearch)
    keys = sorted(front.expected())[:2]
    client.delete(index=index, id=keys[0])
    source = client.get(index=index, id=keys[1])["_source"]
    client.index(index=index, id=keys[1], body=source | {"title": "by hand"})
    stranger = "00000000-0000-0000-0000-0000000000ff"
    client.index(index=index, id=stranger, body=source | {"id": stranger})
    found = drift(search, whole=True, repair=False)
    assert (found.compared.missing, found.compared.extra, found.compared.changed) == (1, 1, 1)
    assert found.repaired == 0
    # the sample is larger than the index: it must find the same
    repaired = drift(search)
    assert repaired.compared.differing == repaired.repaired == 3
    assert "1 missing, 1 too many, 1 that differ; 3 repaired" in repaired.problems[0].found
    assert front.differing() == set()
    assert drift(search, whole=True).problems == []


def test_a_rollback_replays_what_changed_since(search: Settings, front: Shopfront) -> None:
    first = rebuild(search)
    with pytest.raises(Refused, match="no index to go back to"):
        rollback(search)
    second = rebuild(search)
    front.edit(1, 200)
    assert front.differing(first.index)
    report = rollback(search)
    assert report.swapped
    assert (report.index, report.before) == (first.index, second.index)
    assert report.changes >= 160
    assert front.differing() == set()
    assert status(search).previous == second.index
    # and forth again
    front.edit(201, 300)
    assert rollback(search).index == second.index
    assert front.differing() == set()


def test_an_older_mapping_gets_documents_without_what_it_does_not_know(
    search: Settings, front: Shopfront, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = dict(definition.FIELDS)
    with monkeypatch.context() as older:
        older.setattr(definition, "FIELDS", {name: fields[name] for name in fields if name != "venue_id"})
        first = rebuild(search)
        assert first.swapped
    second = rebuild(search)
    assert second.swapped
    front.edit(1, 50)
    report = rollback(search)
    assert report.swapped
    assert report.index == first.index
    assert report.omitted_fields == ("venue_id",)
    assert front.differing() == set()


def test_old_indices_are_removed_after_their_time_and_never_the_one_that_serves(
    search: Settings, front: Shopfront
) -> None:
    first, second, third = (rebuild(search).index for _ in range(3))
    front.run(
        "insert into system.search_indices (index_name, alias, mapping_hash, state, started_at) values "
        "('events-left-0', 'events_index', 'x', 'abandoned', now() - interval '3 days')"
    )
    aged = "update system.search_indices set replaced_at = now() - interval '15 days' where index_name = %s"
    front.run(aged, first)
    front.run(aged, third)  # a record that is wrong about the index that serves
    preview = prune(search)
    assert {each.index for each in preview.actions if each.action == "remove"} == {first, "events-left-0"}
    assert preview.removed == ()
    client = opensearch.connect(search.opensearch)
    assert client.indices.exists(index=first)
    assert set(prune(search, execute=True).removed) == {first, "events-left-0"}
    assert not client.indices.exists(index=first)
    assert client.indices.exists(index=second)
    assert client.indices.exists(index=third)
    assert prune(search, execute=True).removed == ()
    assert {index.state for index in state.indices(front.connection)} == {"kept", "serving"}
    assert front.differing() == set()


def test_the_commands_report_as_documents(
    search: Settings, front: Shopfront, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in as_environment(search).items():
        monkeypatch.setenv(name, value)

    def call(*arguments: str, code: int = 0) -> dict[str, object]:
        result = CliRunner().invoke(build(), ["search", *arguments, "--json"])
        assert result.exit_code == code, result.output
        document: dict[str, object] = json.loads(result.stdout)
        assert document["ok"] is (code == 0)
        assert document["command"] == f"search {arguments[0]}"
        return document

    call("status", code=1)
    call("delta", code=1)
    rebuilt = call("reindex")["result"]
    assert isinstance(rebuilt, dict)
    assert rebuilt["swapped"] is True
    call("delta")
    call("status")
    call("drift", "--all")
    call("prune")
    call("rollback", code=1)
    for command in ("status", "prune", "drift", "delta"):
        assert CliRunner().invoke(build(), ["search", command]).exit_code == 0
