"""The advice of a database with every kind of trouble; each statement does what it says, by hand."""

from __future__ import annotations

import json
from typing import Any

import dagster as dg
import pytest
from typer.testing import CliRunner, Result

from bilten_orchestration.cli import main
from bilten_orchestration.observability.queries import assets
from bilten_orchestration.observability.queries.advice import AdviceReport, advise
from bilten_orchestration.observability.queries.collect import collect
from bilten_orchestration.observability.queries.markdown import of_advice
from bilten_orchestration.settings import ClickHouseSettings, QuerySettings, Settings, loading
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.postgres import Connection
from bilten_orchestration.stores.resources import Platform


@pytest.fixture
def troubled(database: Settings, owner: Connection) -> Settings:
    owner.execute(
        """
        create table public_parents (id int primary key);
        create table public_sales (id int primary key, parent_id int references public_parents, city text,
                                   note text) with (autovacuum_enabled = off);
        alter table public_parents set schema system;
        alter table public_sales set schema system;
        create index sales_note on system.public_sales (note);
        create index sales_note_again on system.public_sales (note);
        insert into system.public_parents select generate_series(1, 100);
        insert into system.public_sales
        select n, n % 100 + 1, 'city' || n % 1000, repeat('x', 20) || n from generate_series(1, 40000) n;
        """
    )
    _flush(owner)
    owner.execute("analyze system.public_sales, system.public_parents")
    return database.model_copy(
        update={
            "queries": QuerySettings(
                top_statements=1000, plans_per_look=1000, advice_bytes=100_000, dead_rows=1000
            )
        }
    )


def _flush(connection: Connection) -> None:
    connection.execute("select pg_stat_force_next_flush()")
    connection.execute("select 1")


def _of(report: AdviceReport, kind: str) -> dict[str, Any]:
    return {
        each.object: each
        for each in report.advice
        if each.kind == kind and "public_" in each.reason + each.object + each.gain
    }


def test_each_line_has_its_statement_and_following_it_ends_it(troubled: Settings, owner: Connection) -> None:
    collect(troubled)
    for number in range(3):
        owner.execute(f"select id from system.public_sales where city = 'city{number}'")
    collect(troubled)
    owner.execute("delete from system.public_sales where id % 3 <> 0")
    _flush(owner)
    report = advise(troubled)
    assert report.problems == ()
    index = _of(report, "index")
    assert set(index) == {"system.public_sales (parent_id)", "system.public_sales (city)"}
    assert "3 calls" in index["system.public_sales (city)"].gain
    assert set(_of(report, "drop")) == {"system.sales_note_again"}
    vacuum = _of(report, "vacuum")["system.public_sales"]
    assert "autovacuum is off" in vacuum.caution
    markdown = of_advice(report)
    for each in report.advice:
        for statement in each.statements:
            assert statement in markdown
            if (not statement.startswith("--") and "public_" in statement) or "sales_note" in statement:
                owner.execute(statement)
    owner.execute("analyze system.public_sales")
    _flush(owner)
    again = advise(troubled)
    assert not _of(again, "index")
    assert not _of(again, "drop")
    assert not _of(again, "vacuum")
    [bloated] = _of(again, "rebuild").values()  # what the vacuum made is room
    assert bloated.statements == ("vacuum (full, analyze) system.public_sales",)
    assert bloated.gain_bytes > 1_000_000


def test_advice_changes_nothing(troubled: Settings, owner: Connection) -> None:
    def state() -> Any:
        return owner.execute(
            "select (select array_agg(indexrelid::regclass::text order by 1) from pg_index),"
            " (select sum(n_dead_tup) from pg_stat_user_tables where relname like 'public_%'),"
            " (select count(*) from system.slow_queries)"
        ).fetchone()

    before = state()
    advise(troubled)
    assert state() == before


def test_a_store_that_is_away_is_a_problem_and_not_an_empty_chapter(troubled: Settings) -> None:
    nowhere = ClickHouseSettings(host="127.0.0.1", port=1, connect_timeout_seconds=1)
    report = advise(troubled.model_copy(update={"clickhouse": nowhere}))
    assert report.clickhouse_slow is None
    assert [problem.what for problem in report.problems] == ["ClickHouse at 127.0.0.1:1 does not answer"]
    assert "**Not known:** ClickHouse" in of_advice(report)
    assert _of(report, "drop")


@pytest.fixture
def run(troubled: Settings, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(loading, "load_settings", lambda: troubled)

    def called(*arguments: str) -> Result:
        return CliRunner().invoke(main.build(), arguments, env={"COLUMNS": "80"})

    return called


def test_commands(run: Any, owner: Connection) -> None:
    first = run("queries", "collect")
    assert first.exit_code == 0, first.output
    assert "nothing counted yet (first look)" in first.stdout
    owner.execute("select pg_sleep(0.01), 1 as told")
    second = json.loads(run("queries", "collect", "--json").stdout)
    assert second["ok"]
    assert sum(each["slow"] for each in second["result"]["databases"]) > 0
    listed = run("queries", "list", "--json")
    assert listed.exit_code == 0, listed.output
    texts = [each["query_text"] for each in json.loads(listed.stdout)["result"]["postgres"]]
    assert "select pg_sleep($1), $2 as told" in texts
    assert run("queries", "list").exit_code == 0
    advised = json.loads(run("advice", "--json").stdout)
    assert advised["command"] == "advice"
    assert {"kind", "object", "reason", "statements", "gain", "gain_bytes", "caution"} == set(
        advised["result"]["advice"][0]
    )
    told = run("advice")
    assert told.exit_code == 0
    assert "drop index concurrently system.sales_note_again;" in told.stdout


def test_a_server_without_the_extension_is_told_by_exit_code_and_remedy(
    run: Any, database: Settings, postgres_server: Any
) -> None:
    with postgres.connect(
        postgres_server.model_copy(update={"database": database.postgres.database}), autocommit=True
    ) as superuser:
        superuser.execute("drop extension pg_stat_statements")
    refused = run("queries", "collect", "--json")
    assert refused.exit_code == 1
    assert json.loads(refused.stdout)["problems"][0]["next"].startswith("create extension")
    advised = run("advice", "--json")
    assert advised.exit_code == 1
    assert json.loads(advised.stdout)["result"]["advice"]  # the rest is there


@pytest.mark.filterwarnings("ignore::dagster.BetaWarning", "ignore::dagster.PreviewWarning")
def test_the_asset_tells_its_numbers_and_fails_where_nothing_was_counted(troubled: Settings) -> None:
    def materialized() -> tuple[dict[str, Any], dict[str, bool]]:
        result = dg.materialize([assets.advice], resources={"platform": Platform(troubled)})
        assert result.success
        [event] = result.asset_materializations_for_node("observability__advice")
        return (
            {name: value.value for name, value in event.metadata.items()},
            {check.check_name: check.passed for check in result.get_asset_check_evaluations()},
        )

    numbers, checks = materialized()
    assert checks == {"read_whole": True, "collected": False, "no_regressions": True}
    assert numbers["to_drop"] >= 1
    assert numbers["gain_bytes"] > 100_000
    assert "## To drop" in numbers["report"]
    collect(troubled)
    assert materialized()[1]["collected"]
