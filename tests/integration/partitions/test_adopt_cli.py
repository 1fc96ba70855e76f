"""`bilten partitions adopt`, as people call it."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from typer.testing import CliRunner

from bilten_orchestration.cli.main import build
from bilten_orchestration.partitions.postgres.catalogue import attached
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores.postgres import Connection

NAME = "users.user_behavior"


@pytest.fixture
def run(
    database: Settings,
    environment: Callable[[Settings], dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., tuple[int, dict[str, object]]]:
    for name, value in environment(database).items():
        monkeypatch.setenv(name, value)

    def call(*arguments: str) -> tuple[int, dict[str, object]]:
        result = CliRunner().invoke(build(), ["partitions", "adopt", *arguments, "--json"])
        return result.exit_code, json.loads(result.stdout)

    return call


def plain(connection: Connection) -> None:
    connection.execute(
        """
        create table users.kept (like users.user_behavior including all);
        drop table users.user_behavior;
        alter table users.kept rename to user_behavior;
        insert into users.user_behavior (action, created_at) values ('view', now());
        """
    )


def test_preview_there_and_back(run: Callable[..., tuple[int, dict[str, object]]], owner: Connection) -> None:
    plain(owner)
    code, document = run(NAME)
    assert (code, document["ok"]) == (0, True)
    assert document["result"]["executed"] is False  # type: ignore[index]
    code, document = run(NAME, "--execute")
    assert code == 0
    assert len(attached(owner, NAME)) >= 1 + 3
    code, document = run(NAME)
    assert (code, document["problems"][0]["found"]) == (1, "it is partitioned already")  # type: ignore[index]
    code, document = run(NAME, "--back", "--execute")
    assert code == 0
    assert owner.execute("select count(*) from users.user_behavior").fetchone() == (1,)


def test_what_is_wrong_with_the_call(run: Callable[..., tuple[int, dict[str, object]]]) -> None:
    assert run("users.users")[0] == 1
    assert run(NAME, "--back", "--default")[0] == 2
    assert run(NAME, "--default")[0] == 1
