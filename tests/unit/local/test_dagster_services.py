"""dagster.yaml as Dagster itself reads it; no secret in it, nor in any argument."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bilten_orchestration.local import dagster_services, stack_env
from bilten_orchestration.local import layout as places
from bilten_orchestration.settings import MetricsSettings, ObjectStoreSettings, PostgresSettings, Settings

SECRETS = ("pg-secret-1", "access-key-1", "secret-key-1")


@pytest.fixture
def layout(tmp_path: Path) -> places.Layout:
    return places.layout(tmp_path / ".bilten")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        home=tmp_path,
        postgres=PostgresSettings(host="127.0.0.1", dagster_password=SECRETS[0]),  # type: ignore[arg-type]
        object_store=ObjectStoreSettings(
            endpoint_url="http://127.0.0.1:9000",
            access_key_id=SECRETS[1],  # type: ignore[arg-type]
            secret_access_key=SECRETS[2],  # type: ignore[arg-type]
        ),
    )


def test_dagster_accepts_its_configuration(layout: places.Layout, settings: Settings) -> None:
    from dagster._core.instance.config import dagster_instance_config

    dagster_services.initialise(layout, settings)
    found, _ = dagster_instance_config(str(layout.dagster_home))
    assert found["run_retries"] == {"enabled": True, "max_retries": 2, "retry_on_asset_or_op_failure": False}
    assert found["run_monitoring"]["free_slots_after_run_end_seconds"] == 60
    assert found["run_monitoring"]["max_runtime_seconds"] == settings.dagster.max_run_seconds
    assert found["telemetry"] == {"enabled": False}


def test_no_secret_is_in_a_file_or_an_argument(layout: places.Layout, settings: Settings) -> None:
    dagster_services.initialise(layout, settings)
    programs = dagster_services.programs(layout, settings, outside=False, caller={})
    public = [file.read_text() for file in layout.dagster_home.glob("*.yaml")]
    public += [" ".join(program.argv) + repr(program) for program in programs]
    for secret in SECRETS:
        assert not [text for text in public if secret in text]
        assert all(secret in json.dumps(dict(program.environment)) for program in programs)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("db.example.com", "@db.example.com:5432/"), ("/run/pg", "@:5432/"), ("::1", "@[::1]:5432/")],
)
def test_storage_url(host: str, expected: str) -> None:
    from sqlalchemy import make_url

    url = dagster_services.storage_url(
        Settings(postgres=PostgresSettings(host=host, dagster_password="p@ss/w:rd"))  # type: ignore[arg-type]
    )
    assert expected in url
    if host != "/run/pg":
        assert make_url(url).password == "p@ss/w:rd"


def test_settings_reach_the_services_and_the_shell_does_not(
    layout: places.Layout, settings: Settings
) -> None:
    threads = settings.model_copy(update={"metrics": MetricsSettings(dbt_threads=4)})
    shell = {"HOME": "/x", "SSL_CERT_FILE": "/ca.pem", "PGPORT": "1", "BILTEN_METRICS__DBT_THREADS": "7"}
    own = dagster_services.programs(layout, threads, outside=False, caller=shell)
    assert all(program.environment["BILTEN_METRICS__DBT_THREADS"] == "4" for program in own)
    assert own == dagster_services.programs(layout, threads, outside=False, caller={})
    plain = dagster_services.programs(layout, settings, outside=False, caller={})
    assert not any("BILTEN_METRICS__DBT_THREADS" in program.environment for program in plain)


def test_the_way_to_outside_stores_goes_along(layout: places.Layout, settings: Settings) -> None:
    shell = {"SSL_CERT_FILE": "/ca.pem", "https_proxy": "http://proxy:3128", "PGPORT": "1"}
    for program in dagster_services.programs(layout, settings, outside=True, caller=shell):
        assert program.environment["SSL_CERT_FILE"] == "/ca.pem"
        assert program.environment["https_proxy"] == "http://proxy:3128"
        assert "PGPORT" not in program.environment


def test_what_stack_env_says_is_not_said_again(layout: places.Layout, settings: Settings) -> None:
    stack_env.write(layout.stack_env, {"BILTEN_POSTGRES__HOST": "127.0.0.1"})
    for program in dagster_services.programs(layout, settings, outside=False, caller={}):
        assert "BILTEN_POSTGRES__HOST" not in program.environment
        assert program.environment["BILTEN_OBJECT_STORE__ENDPOINT_URL"] == "http://127.0.0.1:9000"
