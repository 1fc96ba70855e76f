"""Settings: every kind of mistake is named by its variable, all at once, without a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from bilten_orchestration.errors import SettingsError
from bilten_orchestration.settings import CHECKOUT, reference
from bilten_orchestration.settings.loading import as_environment, load_settings, variables

SECRET = "correct-horse-battery"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BILTEN_HOME", str(tmp_path))
    return tmp_path


def refused(monkeypatch: pytest.MonkeyPatch, **given: str) -> SettingsError:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert caught.value.exit_code == 2
    return caught.value


def test_defaults_are_valid(home: Path) -> None:
    settings = load_settings()
    assert settings.home == home
    assert settings.postgres.host is None


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("BILTEN_POSTGRES__PORT", "0", "a whole number from 1 to 65535"),
        ("BILTEN_POSTGRES__PORT", "many", "a whole number from 1 to 65535"),
        ("BILTEN_POSTGRES__SSLMODE", "on", "one of disable, allow, prefer, require, verify-ca, verify-full"),
        ("BILTEN_CLICKHOUSE__SECURE", "perhaps", "true or false"),
        ("BILTEN_CLICKHOUSE__MEMORY_BYTES", "1000", "at least 268435456"),
        ("BILTEN_OBJECT_STORE__ENDPOINT_URL", "localhost:9000", "text that matches ^https?://"),
        ("BILTEN_OBJECT_STORE__BUCKET_ASSETS", "ab", "3 to 63 characters"),
        ("BILTEN_OBJECT_STORE__SECRET_ACCESS_KEY", "short", "10 or more characters"),
        ("BILTEN_METRICS__FIRST_DAY", "2024-02-30", "YYYY-MM-DD"),
        ("BILTEN_ENVIRONMENT", "prod", "one of local, test, staging, production"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_accepted(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: str
) -> None:
    (problem,) = refused(monkeypatch, **{name: value}).problems
    assert problem.what.startswith(f"{name} is not valid")
    assert expected in problem.expected
    assert name in problem.next


def test_an_unknown_name_is_refused_with_the_nearest_known_one(monkeypatch: pytest.MonkeyPatch) -> None:
    (problem,) = refused(monkeypatch, BILTEN_REDIS__PASWORD=SECRET).problems
    assert problem.what == "BILTEN_REDIS__PASWORD is not a setting"
    assert problem.expected == "BILTEN_REDIS__PASSWORD"


def test_all_problems_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    error = refused(
        monkeypatch,
        BILTEN_POSTGRES__PORT="0",
        BILTEN_REDIS__TLS="?",
        BILTEN_NONSENSE="1",
        BILTEN_METRICS__DBT_THREADS="99",
    )
    assert len(error.problems) == 4


def test_four_buckets_must_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    error = refused(monkeypatch, BILTEN_OBJECT_STORE__BUCKET_ASSETS="bilten-backups")
    assert "four different buckets" in str(error)


def test_no_message_and_no_repr_holds_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    error = refused(
        monkeypatch,
        BILTEN_POSTGRES__PASWORD=SECRET,
        BILTEN_OBJECT_STORE__ACCESS_KEY_ID=SECRET[:9],
        BILTEN_DAGSTER__URL=f"ftp://somebody:{SECRET}@host",
    )
    assert SECRET[:9] not in f"{error} {error!r} {error.problems}"
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None
    for name in ("BILTEN_POSTGRES__PASWORD", "BILTEN_OBJECT_STORE__ACCESS_KEY_ID", "BILTEN_DAGSTER__URL"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("BILTEN_POSTGRES__PASSWORD", SECRET)
    settings = load_settings()
    assert settings.postgres.password.get_secret_value() == SECRET
    assert SECRET not in f"{settings!r} {settings} {settings.model_dump_json()}"


def test_the_environment_wins_over_stack_env(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "stack.env").write_text("BILTEN_REDIS__HOST=127.0.0.1\nBILTEN_REDIS__PORT=7000\n")
    monkeypatch.setenv("BILTEN_REDIS__PORT", "7001")
    settings = load_settings()
    assert (settings.redis.host, settings.redis.port) == ("127.0.0.1", 7001)
    assert load_settings(embedded=False).redis.host is None


def test_a_store_given_by_address_takes_nothing_from_stack_env(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "stack.env").write_text(
        "BILTEN_POSTGRES__HOST=127.0.0.1\nBILTEN_POSTGRES__PORT=5999\n"
        f"BILTEN_POSTGRES__PASSWORD={SECRET}\nBILTEN_REDIS__HOST=127.0.0.1\n"
    )
    monkeypatch.setenv("BILTEN_POSTGRES__HOST", "db.example.com")
    settings = load_settings()
    assert (settings.postgres.host, settings.postgres.port) == ("db.example.com", 5432)
    assert settings.postgres.password.get_secret_value() == ""
    assert settings.redis.host == "127.0.0.1"


def test_without_its_programs_search_is_off_whatever_is_wanted(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "stack.env").write_text("BILTEN_OPENSEARCH__NOT_FETCHED_FROM=http://maven.example\n")
    monkeypatch.setenv("BILTEN_OPENSEARCH__ENABLED", "true")
    assert load_settings().opensearch.enabled is False
    # the next `up` tries again
    assert load_settings(embedded=False).opensearch.enabled is True
    # and a server of one's own needs no jars
    monkeypatch.setenv("BILTEN_OPENSEARCH__URL", "http://search.example")
    assert load_settings().opensearch.enabled is True


def test_a_wrong_value_in_stack_env_names_the_file(home: Path) -> None:
    (home / "stack.env").write_text("BILTEN_REDIS__PORT=none\n")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert str(home / "stack.env") in caught.value.problems[0].found


def test_as_environment_round_trips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BILTEN_POSTGRES__PASSWORD", SECRET)
    monkeypatch.setenv("BILTEN_REDIS__TLS", "true")
    first = load_settings()
    for name, value in as_environment(first).items():
        monkeypatch.setenv(name, value)
    assert load_settings() == first


def test_every_setting_is_described() -> None:
    assert [name for name, field in variables() if not (field.description or "").endswith((".", "com"))] == []


def test_the_page_is_what_the_settings_say() -> None:
    assert (CHECKOUT / "docs" / "settings.md").read_text() == reference.render(), "run: make docs"
