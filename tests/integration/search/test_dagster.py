"""The jobs of search, run on real stores: what they leave is what their numbers say."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest
from opensearchpy import OpenSearch

from bilten_orchestration.errors import Refused
from bilten_orchestration.search import assets, checks, definition, mapping, schedules, settled
from bilten_orchestration.search.definition import ALIAS, Step
from bilten_orchestration.search.defs import definitions
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import opensearch, postgres
from bilten_orchestration.stores.postgres import Connection
from bilten_orchestration.stores.resources import Platform
from tests.conftest import Servers
from tests.integration.search import catalogue

pytestmark = pytest.mark.filterwarnings("ignore::dagster.BetaWarning", "ignore::dagster.PreviewWarning")


@dataclass
class World:
    settings: Settings
    client: OpenSearch
    owner: Connection
    instance: dg.DagsterInstance

    def run(self, job: Any) -> dg.ExecuteInProcessResult:
        merged = dg.Definitions.merge(
            definitions(self.settings),
            dg.Definitions(resources={"platform": Platform(self.settings)}, executor=dg.in_process_executor),
        )
        found = merged.get_repository_def().get_job(job.name)
        return found.execute_in_process(instance=self.instance, raise_on_error=False)

    def sensed(self) -> object:
        """What the sensor would do now."""
        return schedules.definition_changed(dg.build_sensor_context(), platform=Platform(self.settings))

    def due(self) -> object:
        """What the schedule of changes would do now."""
        context = dg.build_schedule_context(scheduled_execution_time=datetime.now(UTC))
        return schedules.follow(context, platform=Platform(self.settings))

    def numbers(self, key: dg.AssetKey) -> dict[str, Any]:
        event = self.instance.get_latest_materialization_event(key)
        assert event is not None
        assert event.asset_materialization is not None
        return {name: value.value for name, value in event.asset_materialization.metadata.items()}

    def searchable(self) -> int:
        row = self.owner.execute(
            "select count(*) from events.events"
            " where status = 'published' and visibility = 'public' and deleted_at is null"
        ).fetchone()
        assert row is not None
        return int(row[0])

    def found(self) -> int:
        self.client.indices.refresh(index=ALIAS)
        return int(self.client.count(index=ALIAS)["count"])


@pytest.fixture
def world(settings: Settings, servers: Servers) -> Iterator[World]:
    client = opensearch.connect(servers.opensearch, timeout_seconds=120)
    with (
        postgres.connect(settings.postgres, autocommit=True) as owner,
        dg.DagsterInstance.ephemeral() as instance,
    ):
        catalogue.fill(owner)
        yield World(settings.model_copy(update={"opensearch": servers.opensearch}), client, owner, instance)
    for name in client.indices.get(index="events-*"):
        client.indices.delete(index=name)
    client.close()


def test_the_jobs_of_a_day(world: World) -> None:
    # the first index
    assert isinstance(world.sensed(), dg.SkipReason)
    assert isinstance(world.due(), dg.SkipReason)
    result = world.run(schedules.rebuild)
    assert result.success
    [gates] = result.get_asset_check_evaluations()
    assert gates.passed
    assert gates.metadata["gates"].value == 5
    numbers = world.numbers(assets.INDEX)
    first = numbers["index"]
    assert numbers["documents"] == numbers["loaded_documents"] == world.searchable() == world.found()
    assert numbers["documents_per_second"] > 0
    assert numbers["bytes"] > 0
    assert numbers["dead_letters"] == 0
    assert numbers["swaps"] == 1
    assert numbers["phase/load_seconds"] > 0
    assert isinstance(world.sensed(), dg.SkipReason)
    assert isinstance(world.due(), dg.RunRequest)

    # changes, popularity among them
    world.owner.execute("update events.events set title = 'Moved' where id = md5('event1')::uuid")
    world.owner.execute("update events.events set deleted_at = now() where id = md5('event2')::uuid")
    world.owner.execute("insert into system.event_popularity values (md5('event3')::uuid, 12)")
    assert world.run(schedules.changes).success
    numbers = world.numbers(assets.CHANGES)
    assert (numbers["index"], numbers["documents"], numbers["dead_letters"]) == (first, 3, 0)
    assert world.found() == world.searchable()
    moved = world.client.search(index=ALIAS, body={"query": {"match": {"title": "moved"}}})["hits"]["hits"]
    assert [hit["_source"]["title"] for hit in moved] == ["Moved"]
    sold = world.client.search(index=ALIAS, body={"query": {"range": {"popularity": {"gt": 0}}}})["hits"][
        "hits"
    ]
    assert [hit["_source"]["popularity"] for hit in sold] == [12]

    # the lag, as it is judged without a run
    lag = checks.search_lag(dg.build_asset_check_context(), Platform(world.settings))
    assert isinstance(lag, dg.AssetCheckResult)
    assert lag.passed
    assert lag.metadata["lag_seconds"].value < 15 * 60
    world.owner.execute(
        "update system.sync_state set as_of = as_of - interval '20 minutes' where consumer like 'search:%'"
    )
    lag = checks.search_lag(dg.build_asset_check_context(), Platform(world.settings))
    assert isinstance(lag, dg.AssetCheckResult)
    assert (lag.passed, lag.severity) == (False, dg.AssetCheckSeverity.WARN)

    # somebody writes into the index: found, told, repaired
    world.client.delete(index=first, id=moved[0]["_id"], params={"refresh": "true"})
    result = world.run(schedules.drift)
    assert result.success
    [drifted] = result.get_asset_check_evaluations()
    assert (drifted.passed, drifted.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert (drifted.metadata["missing"].value, drifted.metadata["repaired"].value) == (1, 1)
    assert world.found() == world.searchable()
    [clean] = world.run(schedules.drift).get_asset_check_evaluations()
    assert clean.passed

    # another one, and the one before is kept
    assert world.run(schedules.rebuild).success
    assert world.numbers(assets.INDEX)["before"] == first
    assert world.run(schedules.prune).success
    numbers = world.numbers(assets.KEPT)
    assert (numbers["kept"], numbers["removed"]) == (2, 0)
    world.owner.execute(
        "update system.search_indices set replaced_at = now() - interval '15 days' where index_name = %s",
        (first,),
    )
    context, platform = dg.build_asset_check_context(), Platform(world.settings)
    left = checks.nothing_left(context, platform)
    assert isinstance(left, dg.AssetCheckResult)
    assert (left.passed, left.metadata["left"].value) == (False, 1)
    assert first in str(left.description)
    result = world.run(schedules.prune)
    assert result.success
    [tidy] = result.get_asset_check_evaluations()
    assert tidy.passed
    assert world.numbers(assets.KEPT)["removed"] == 1
    assert world.client.indices.exists(index=first) is False
    assert world.found() == world.searchable()


def test_a_refused_index_fails_the_run_and_leaves_the_old_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert world.run(schedules.rebuild).success
    serving = world.numbers(assets.INDEX)["index"]
    # what people ask is not what was asked for: the golden queries notice, nothing else can
    plain = copy.deepcopy(definition.ANALYSIS)
    plain["analyzer"]["event_analyzer"]["filter"] = ["lowercase", "stop"]
    monkeypatch.setattr(definition, "ANALYSIS", plain)
    result = world.run(schedules.rebuild)
    assert not result.success
    [gates] = result.get_asset_check_evaluations()
    assert not gates.passed
    assert gates.metadata["refused_by"].value == 1
    assert "'golden'" in (gates.description or "")
    assert "stemmed" in (gates.description or "")
    assert list(world.client.indices.get_alias(name=ALIAS)) == [serving]
    assert world.numbers(assets.INDEX)["index"] == serving
    # it is asked for again tomorrow, not every five minutes
    assert any("snowball" in change for change in mapping.examine(world.settings).changes)
    asked = world.sensed()
    assert isinstance(asked, dg.RunRequest)
    assert asked.job_name == "search_rebuild"
    assert (asked.run_key or "").startswith(f"search_rebuild:{serving}:{definition.mapping_hash()}:20")


def test_a_new_field_is_added_in_place(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as before:
        older = {name: field for name, field in definition.FIELDS.items() if name != "venue_name"}
        before.setattr(definition, "FIELDS", older)
        # a definition that lacks the field, and documents that have it: they are written without
        monkeypatch.setattr(
            "bilten_orchestration.search.rebuild.unknown_fields", lambda client, index: ("venue_name",)
        )
        assert world.run(schedules.rebuild).success
    monkeypatch.undo()
    found = mapping.examine(world.settings)
    assert (found.step, found.index) == (Step.ADD, world.numbers(assets.INDEX)["index"])
    assert "+ mappings.properties.venue_name.type" in found.changes[-1]
    judged = checks.serves_the_definition(dg.build_asset_check_context(), Platform(world.settings))
    assert isinstance(judged, dg.AssetCheckResult)
    assert not judged.passed
    hall = {"query": {"match": {"venue_name": "hall"}}}
    assert world.client.count(index=ALIAS, body=hall)["count"] == 0

    # killed once the field was there, and no document had it: the hash says so
    field = {"properties": {"venue_name": definition.FIELDS["venue_name"]}}
    world.client.indices.put_mapping(index=found.index, body=field)
    found = mapping.examine(world.settings)
    assert (found.step, len(found.changes)) == (Step.ADD, 1)
    assert "_meta.mapping_hash" in found.changes[0]

    assert world.run(schedules.definition).success
    numbers = world.numbers(assets.DEFINITION)
    assert numbers["step"] == "addition in place"
    assert numbers["documents_written"] == world.searchable()
    assert mapping.examine(world.settings).step is Step.NOTHING
    world.client.indices.refresh(index=ALIAS)
    assert world.client.count(index=ALIAS, body=hall)["count"] > 400
    # the index goes on as one that was made so
    assert world.run(schedules.changes).success
    [clean] = world.run(schedules.drift).get_asset_check_evaluations()
    assert clean.passed


def test_where_search_is_off_nothing_runs_by_itself(world: World) -> None:
    off = world.settings.model_copy(
        update={"opensearch": world.settings.opensearch.model_copy(update={"enabled": False})}
    )
    found = definitions(off)
    assert not found.schedules
    assert not found.sensors
    assert len(definitions(world.settings).schedules or []) == len(schedules.SCHEDULES)
    with pytest.raises(Refused, match="search is off"):
        assets.refuse_if_off(off)


def test_after_a_restore_search_is_brought_back_and_proven(world: World) -> None:
    nothing_yet = settled.settle(world.settings, accept_epoch=False)
    assert nothing_yet is not None
    assert (nothing_yet.equal, nothing_yet.documents) == (True, world.searchable())

    # the past that is restored lacks an event that the index has, and has one that it lacks
    world.owner.execute("update events.events set title = 'Lost' where id = md5('event1')::uuid")
    assert world.run(schedules.changes).success
    world.owner.execute(
        "update events.events set title = 'Kept', sync_xid = '3' where id = md5('event1')::uuid"
    )
    world.owner.execute("update events.events set deleted_at = now() where id = md5('event2')::uuid")
    world.owner.execute("insert into system.restores (reason) values ('test')")
    with pytest.raises(Refused, match="another epoch"):
        settled.settle(world.settings, accept_epoch=False)
    found = settled.settle(world.settings, accept_epoch=True)
    assert found is not None
    assert (found.equal, found.problems) == (True, ())
    assert found.documents == world.searchable()
    title = {"query": {"match": {"title": "kept"}}}
    assert world.client.count(index=ALIAS, body=title)["count"] == 1

    # a difference is no recovery
    index = next(iter(world.client.indices.get_alias(name=ALIAS)))
    some = world.client.search(index=index, body={"size": 1})["hits"]["hits"][0]["_id"]
    world.client.delete(index=index, id=some, params={"refresh": "true"})
    worse = settled.settle(world.settings, accept_epoch=False)
    assert worse is not None
    assert (worse.equal, len(worse.problems)) == (False, 1)
