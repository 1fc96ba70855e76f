"""How dbt is called: no secret in arguments, errors told apart, results read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import SecretStr

from bilten_orchestration.errors import StoreUnavailable, TerminalError, TransientError
from bilten_orchestration.metrics import dbt_call
from bilten_orchestration.settings import CHECKOUT, ClickHouseSettings, Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    clickhouse = ClickHouseSettings(host="db", password=SecretStr("hunter2-hunter2"))
    return Settings(home=tmp_path, clickhouse=clickhouse)


def test_the_password_goes_by_environment_alone(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "other-secret")
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", "postgresql://u:other-secret@h/d")
    call = dbt_call.call(settings, "x", "build", "--select", "tag:daily", variables={"days": ["2026-01-01"]})
    assert "hunter2" not in json.dumps(call.argv)
    assert call.environment["DBT_ENV_SECRET_CLICKHOUSE_PASSWORD"] == "hunter2-hunter2"
    assert "other-secret" not in json.dumps(dict(call.environment))


def test_nothing_is_written_into_the_source_tree(settings: Settings) -> None:
    call = dbt_call.call(settings, "x", "build")
    for name in ("DBT_TARGET_PATH", "DBT_LOG_PATH"):
        assert not Path(call.environment[name]).is_relative_to(CHECKOUT)


def test_the_newest_runs_are_kept(settings: Settings) -> None:
    for number in range(dbt_call.KEPT_RUNS + 5):
        dbt_call.call(settings, f"run-{number}", "build")
    assert len(list(dbt_call.runs_directory(settings).iterdir())) == dbt_call.KEPT_RUNS


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("Connection refused", StoreUnavailable),
        ("HTTPConnectionPool: Read timed out", TransientError),
        ("Code: 241. DB::Exception: (MEMORY_LIMIT_EXCEEDED)", TransientError),
        ("Code: 47. DB::Exception: Unknown identifier", TerminalError),
        ("", TerminalError),
    ],
)
def test_what_may_be_tried_again_is_told_from_what_may_not(
    settings: Settings, message: str, kind: type[Exception]
) -> None:
    assert type(dbt_call.broken("dbt", [message], dbt_call.call(settings, "x", "build"))) is kind


def test_no_results_without_a_file_and_all_of_them_with_one(settings: Settings) -> None:
    target = dbt_call.call(settings, "x", "build").target
    assert dbt_call.results(target) == []
    (target / "run_results.json").write_text(
        json.dumps(
            {
                "results": [
                    {
                        "unique_id": "model.bilten.fct_x",
                        "status": "error",
                        "message": "broke",
                        "execution_time": 1.5,
                        "failures": None,
                        "adapter_response": {"query_id": "q"},
                    }
                ]
            }
        )
    )
    [node] = dbt_call.results(target)
    assert (node.broke, node.query_id, node.seconds) == (True, "q", 1.5)
