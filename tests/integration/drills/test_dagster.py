"""A drill as a run executes it, and the checks that judge what was attested."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from bilten_orchestration.backups.redis.dump import take
from bilten_orchestration.drills import assets, checks, promises
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores.resources import Platform

PLOTTED = {
    "rpo_seconds",
    "rto_seconds",
    "projected_rto_at_most_seconds",
    "restored_bytes",
    "stored_bytes",
    "phase/download_seconds",
    "phase/load_seconds",
    "phase/first_query_seconds",
}


def _run(settings: Settings) -> dg.ExecuteInProcessResult:
    days = assets.partitions(settings)
    return dg.materialize(
        [assets.build_asset("redis", days), checks.build_checks("redis")],
        resources={"platform": Platform(settings)},
        partition_key=f"{datetime.now(UTC):%F}",
        raise_on_error=False,
    )


def _judged(settings: Settings) -> dict[str, dg.AssetCheckEvaluation]:
    result = dg.materialize(
        [checks.build_checks("redis")],
        resources={"platform": Platform(settings)},
        selection=dg.AssetSelection.all_asset_checks(),
        raise_on_error=False,
    )
    return {each.check_name: each for each in result.get_asset_check_evaluations()}


def test_a_run_drills_and_its_numbers_plot(here: Settings) -> None:
    take(here)
    result = _run(here)
    assert result.success
    (event,) = result.asset_materializations_for_node("drills__redis")
    values = {name: value.value for name, value in event.metadata.items()}
    for name in PLOTTED:
        assert isinstance(values[name], int | float), name
    assert values["passed"] == 1
    assert isinstance(event.metadata["page"], dg.MarkdownMetadataValue)
    assert "| every key can be read by its name | proven |" in str(values["page"])
    found = {each.check_name: each for each in result.get_asset_check_evaluations()}
    assert {name: each.passed for name, each in found.items()} == dict.fromkeys(
        (promises.RPO, promises.RTO, promises.RECENT, promises.WAYS), True
    )
    slow = here.model_copy(update={"drills": here.drills.model_copy(update={"rto_seconds": 0})})
    assert {name for name, each in _judged(slow).items() if not each.passed} == {promises.RTO}


def test_a_failed_drill_fails_the_run_and_is_plotted(here: Settings) -> None:
    from bilten_orchestration.backups.repository import keys
    from bilten_orchestration.backups.repository.opened import key_file

    keys.ensure(key_file(here))
    result = _run(here)
    assert not result.success
    failed = result.failure_data_for_node("drills__redis")
    assert failed is not None
    assert failed.user_failure_data is not None
    assert "server failed in find: there is no backup of redis" in str(failed.user_failure_data.description)
    assert result.asset_materializations_for_node("drills__redis") == []
    (observed,) = result.asset_observations_for_node("drills__redis")
    assert observed.metadata["passed"].value == 0
    for name, each in _judged(here).items():
        assert not each.passed, name
        assert "bilten drill run redis" in str(each.description)


@pytest.mark.parametrize("late", [False, True])
def test_the_promises_are_of_the_newest_and_of_every_way(late: bool) -> None:
    from tests.unit.drills.test_attestation import report

    settings = Settings().drills
    good = report(1)
    now = good.finished_at + timedelta(hours=27 if late else 1, days=8 if late else 0)
    found = {each.name: each for each in promises.judge("redis", [good], settings, now)}
    assert found[promises.RECENT].kept is not late
    assert found[promises.WAYS].kept is not late
    assert not found[promises.WAYS].waits or not late
