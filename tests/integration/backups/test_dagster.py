"""The asset and its check, as a run executes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import dagster as dg
import pytest

from bilten_orchestration.backups import assets, checks, wal_assets
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores.resources import Platform
from tests.integration.backups.shop import Shop


def _run(settings: Settings) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        [
            assets.ASSETS["postgres", "full"],
            assets.ASSETS["postgres", "incremental"],
            checks.LISTED["postgres", "full"],
            checks.LISTED["postgres", "incremental"],
        ],
        resources={"platform": Platform(settings)},
        raise_on_error=False,
    )


def test_a_run_takes_backups_and_checks_the_repository(shop: Shop) -> None:
    result = _run(shop.settings)
    assert result.success
    found = {}
    for kind in ("full", "incremental"):
        (event,) = result.asset_materializations_for_node(f"backups__postgres__{kind}")
        found[kind] = {name: value.value for name, value in event.metadata.items()}
        assert found[kind]["kind"] == kind
        assert isinstance(found[kind]["raw_bytes"], int)
    assert shop.listed() == [found["full"]["backup"], found["incremental"]["backup"]]
    assert found["incremental"]["parent"] == found["full"]["backup"]
    evaluations = result.get_asset_check_evaluations()
    assert [evaluation.passed for evaluation in evaluations] == [True, True]


def test_how_many_runs_of_a_month_were_good(shop: Shop) -> None:
    with dg.instance_for_test() as instance:
        for status in (dg.DagsterRunStatus.SUCCESS,) * 3 + (dg.DagsterRunStatus.FAILURE,):
            instance.add_run(
                dg.DagsterRun(job_name="postgres_full_backup", run_id=str(uuid4()), status=status)
            )
        result = dg.materialize(
            [assets.ASSETS["postgres", "full"]],
            resources={"platform": Platform(shop.settings)},
            instance=instance,
        )
    (event,) = result.asset_materializations_for_node("backups__postgres__full")
    assert event.metadata["success_rate_30_days"].value == 0.75


def test_what_cannot_pass_by_itself_is_not_tried_again(shop: Shop) -> None:
    """A wrong password: the run fails once, with the problem and the next step."""
    wrong = shop.settings.postgres.model_copy(
        update={"password": type(shop.settings.postgres.password)("wrong-password")}
    )
    result = _run(shop.settings.model_copy(update={"postgres": wrong}))
    assert not result.success
    failed = result.failure_data_for_node("backups__postgres__full")
    assert failed is not None
    assert failed.user_failure_data is not None
    assert "does not accept bilten_owner" in str(failed.user_failure_data.description)
    assert failed.user_failure_data.metadata["problems"]
    assert "wrong-password" not in str(failed)


def test_the_first_day_is_calm_and_the_third_is_not(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    from bilten_orchestration.backups.repository import keys
    from bilten_orchestration.backups.repository.opened import key_file

    def audited() -> dg.ExecuteInProcessResult:
        return dg.materialize(
            [wal_assets.postgres_wal],
            resources={"platform": Platform(shop.settings)},
            raise_on_error=False,
        )

    keys.ensure(key_file(shop.settings))
    result = audited()
    assert result.success
    checks_of = {each.check_name: each for each in result.get_asset_check_evaluations()}
    for each in checks_of.values():
        assert not each.passed
        assert each.severity == dg.AssetCheckSeverity.WARN
        assert "no base backup yet: first one at 02:00 UTC" in str(each.description)
    old = datetime.now(UTC).date() - timedelta(days=2)
    monkeypatch.setattr(keys, "made_on", lambda key_id: old)
    result = audited()
    assert not result.success
    failed = result.failure_data_for_node("backups__postgres__wal")
    assert failed is not None
    assert failed.user_failure_data is not None
    assert "holds no base backup" in str(failed.user_failure_data.description)


@pytest.mark.parametrize("bad", ["none", "altered"])
def test_the_check_goes_red(shop: Shop, bad: str) -> None:
    from bilten_orchestration.backups.repository import catalogue, keys
    from bilten_orchestration.backups.repository.opened import Opened, key_file
    from bilten_orchestration.stores import object_store

    keys.ensure(key_file(shop.settings))
    if bad == "altered":
        assert _run(shop.settings).success
        with Opened.of(shop.settings) as opened:
            backup, _ = catalogue.read(opened.repository, opened.ring).backups
            name = f"catalogue/postgres/{backup.manifest.id}/manifest.json"
            body = opened.repository.read_small(name)
        client = object_store.connect(shop.settings.object_store)
        client.put_object(
            Bucket=shop.settings.object_store.bucket_backups, Key=name, Body=body.replace(b"full", b"fuII")
        )
        client.close()
    found = checks.LISTED["postgres", "full"](dg.build_asset_check_context(), Platform(shop.settings))
    assert isinstance(found, dg.AssetCheckResult)
    assert not found.passed
    assert ("there is no such backup" if bad == "none" else "damaged or was altered") in str(
        found.description
    )
