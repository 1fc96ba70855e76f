"""A whole outside deployment: servers that somebody else runs, reached by settings alone."""

from __future__ import annotations

from typing import Any

import pytest
from psycopg import sql
from pydantic import SecretStr

from bilten_orchestration.local import outside, ports, postgres
from bilten_orchestration.settings import Settings
from tests.conftest import Servers

WRONG = SecretStr("not-the-password")


def changed(settings: Settings, **sections: dict[str, Any]) -> Settings:
    return settings.model_copy(
        update={name: getattr(settings, name).model_copy(update=values) for name, values in sections.items()}
    )


def test_nothing_speaks_against_servers_as_they_should_be(empty_settings: Settings) -> None:
    assert outside.problems(empty_settings) == []


def test_every_wrong_password_is_told_at_once(empty_settings: Settings) -> None:
    found = outside.problems(
        changed(
            empty_settings,
            postgres={"password": WRONG, "etl_password": WRONG, "dagster_password": WRONG},
            clickhouse={"password": WRONG, "analyst_password": WRONG},
            redis={"password": WRONG},
            object_store={"secret_access_key": WRONG},
        )
    )
    steps = "\n".join(problem.next for problem in found)
    for name in (
        "BILTEN_POSTGRES__HOST, __PORT, __USER or __PASSWORD",
        "__ETL_USER or __ETL_PASSWORD",
        "__DAGSTER_USER or __DAGSTER_PASSWORD",
        "BILTEN_CLICKHOUSE__HOST, __PORT, __SECURE, __USER or __PASSWORD",
        "__ANALYST_USER or __ANALYST_PASSWORD",
        "BILTEN_REDIS__HOST, __PORT, __TLS or __PASSWORD",
        "BILTEN_OBJECT_STORE__ACCESS_KEY_ID",
    ):
        assert name in steps
    assert len(found) == 3 + 2 + 1 + 4
    assert WRONG.get_secret_value() not in repr(found)


def test_a_server_that_is_away_is_told_once(empty_settings: Settings) -> None:
    port = ports.any_free()
    found = outside.problems(
        changed(
            empty_settings,
            postgres={"port": port},
            clickhouse={"port": port},
            redis={"port": port},
            object_store={"endpoint_url": f"http://127.0.0.1:{port}"},
        )
    )
    assert len(found) == 4
    assert all(problem.next.startswith("correct BILTEN_") for problem in found)


def test_missing_privileges_and_extensions_are_told_with_the_statement_that_helps(
    empty_settings: Settings, servers: Servers
) -> None:
    database = empty_settings.postgres.database
    with postgres.superuser(servers.postgres.cluster, database) as connection:
        connection.execute("drop extension pg_visibility")
        name = sql.Identifier(database)
        connection.execute(sql.SQL("alter database {} owner to postgres").format(name))
        connection.execute(sql.SQL("grant connect on database {} to bilten_owner").format(name))
    # its analyst reads, and writes nothing
    reader = {"user": "bilten_analyst", "password": empty_settings.clickhouse.analyst_password}
    found = outside.problems(changed(empty_settings, clickhouse=reader))
    steps = [problem.next for problem in found]
    assert f"in {database}, as a superuser: create extension pg_visibility" in steps
    assert f"as a superuser: alter database {database} owner to bilten_owner" in steps
    assert [step for step in steps if step.startswith("as an administrator: grant create database")]


def test_an_analyst_that_may_write_is_told(empty_settings: Settings) -> None:
    """The embedded endpoint shows of an analyst what its gate lets through, of another user what it has."""
    clickhouse = empty_settings.clickhouse
    found = outside.problems(
        changed(
            empty_settings,
            clickhouse={"analyst_user": clickhouse.user, "analyst_password": clickhouse.password},
        )
    )
    assert [problem.found for problem in found] == ["GRANT ALL ON *.* TO default WITH GRANT OPTION"]


@pytest.mark.parametrize("bucket", ["bucket_backups", "bucket_dagster"])
def test_a_missing_bucket_is_named(empty_settings: Settings, bucket: str) -> None:
    (problem,) = outside.problems(changed(empty_settings, object_store={bucket: "nowhere-to-be-found"}))
    assert "nowhere-to-be-found" in problem.next
