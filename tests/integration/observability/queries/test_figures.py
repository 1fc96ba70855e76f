"""Samples of PostgreSQL become hours in ClickHouse, once; the marts over them say what they should."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from clickhouse_connect.driver.client import Client

from bilten_orchestration.metrics import manifest
from bilten_orchestration.observability.queries import assets, figures
from bilten_orchestration.observability.queries.collect import collect
from bilten_orchestration.observability.queries.figures import HOUR, Outcome, Span
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse, postgres
from bilten_orchestration.stores.postgres import Connection
from bilten_orchestration.stores.resources import Platform
from tests.integration.dbt.project import Project
from tests.kills import killed_at_store

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture
def owner(settings: Settings) -> Iterator[Connection]:
    with postgres.connect(settings.postgres, autocommit=True) as connection:
        yield connection


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    found = clickhouse.connect(settings.clickhouse)
    yield found
    found.close()


def _sample(owner: Connection, at: datetime, calls: int | None, **values: Any) -> None:
    row = {
        "milliseconds": None if calls is None else calls * 2.0, "hit": calls, "read": calls,
        "connections": 10, "bytes": 1000,
    } | values  # fmt: skip
    owner.execute(
        "insert into system.database_samples values (current_database(), %(at)s, %(at)s, %(calls)s,"
        " %(milliseconds)s, %(hit)s, %(read)s, %(connections)s, 100, %(bytes)s)",
        {"at": at, "calls": calls, **row},
    )


def _figure(client: Client, figure: str, store: str = "postgres") -> dict[datetime, float]:
    rows = client.query(
        "select toUnixTimestamp(hour), argMax(value, measured_at) from analytics.platform_figures"
        " where figure = {figure:String} and store = {store:String} group by hour order by hour",
        parameters={"figure": figure, "store": store},
    ).result_rows
    return {datetime.fromtimestamp(hour, UTC): value for hour, value in rows}


def test_a_look_samples_what_was_done_and_how_it_stands(settings: Settings, owner: Connection) -> None:
    collect(settings)
    owner.execute("select 1 as sampled")
    collect(settings)
    first, second = owner.execute(
        "select calls, total_milliseconds, connections, connections_limit, database_bytes, since"
        " from system.database_samples where database_name = current_database() order by sampled_at"
    ).fetchall()
    assert first[:2] == (None, None)
    assert first[5] is None
    assert second[0] > 0
    assert second[1] > 0
    assert second[2] >= 2  # this one, and the collector
    assert second[3] > 50
    assert second[4] > 5_000_000


def test_hours_are_rolled_up_once_and_missed_ones_come_too(
    settings: Settings, owner: Connection, client: Client
) -> None:
    _sample(owner, NOON, 10)
    _sample(owner, NOON + HOUR / 2, 30, connections=20, bytes=1500)
    _sample(owner, NOON + HOUR, 7, bytes=1800)
    _sample(owner, NOON + HOUR * 4, None, bytes=1900)
    now = NOON + HOUR * 2 + timedelta(minutes=10)
    first = figures.roll_up(settings, figures.span(settings, now))
    assert (first.samples, first.newest_hour) == (3, NOON + HOUR)
    assert _figure(client, "calls") == {NOON: 40, NOON + HOUR: 7}
    assert _figure(client, "connections_max") == {NOON: 20, NOON + HOUR: 10}
    assert _figure(client, "size_bytes") == {NOON: 1500, NOON + HOUR: 1800}
    later = now + HOUR * 4
    again = figures.span(settings, later)
    assert (again.begin, again.hours) == (NOON + HOUR, 5)
    for _ in range(2):
        figures.roll_up(settings, again)
    assert _figure(client, "calls") == {NOON: 40, NOON + HOUR: 7, NOON + HOUR * 4: 0}
    assert max(_figure(client, "size_bytes", "clickhouse")) == NOON + HOUR * 5
    assert figures.span(settings, later) == Span(NOON + HOUR * 4, NOON + HOUR * 6)


@pytest.mark.faults
def test_a_kill_leaves_all_hours_or_none(settings: Settings, owner: Connection, client: Client) -> None:
    for number in range(48):
        _sample(owner, NOON + HOUR * number, number)
    hours = Span(NOON, NOON + HOUR * 48)
    number = 1
    while killed_at_store(lambda: figures.roll_up(settings, hours), number):
        assert len(_figure(client, "samples")) in (0, 48)
        number += 1
    assert number > 1
    assert sum(_figure(client, "calls").values()) == sum(range(48))


def test_outcomes_of_backups_count_in_the_hour_of_their_end(settings: Settings, client: Client) -> None:
    outcomes = [
        Outcome("postgres", NOON + HOUR / 2, True),
        Outcome("postgres", NOON + HOUR - timedelta(seconds=1), False),
        Outcome("redis", NOON + HOUR, True),
        Outcome("redis", NOON + HOUR * 2, True),  # not over yet
    ]
    report = figures.roll_up(settings, Span(NOON, NOON + HOUR * 2), outcomes)
    assert (report.backups, report.backups_failed, report.newest_hour) == (3, 1, None)
    assert _figure(client, "backups") == {NOON: 2}
    assert _figure(client, "backups_succeeded") == {NOON: 1}
    assert _figure(client, "backups", "redis") == {NOON + HOUR: 1}


@pytest.mark.filterwarnings("ignore::dagster.BetaWarning", "ignore::dagster.PreviewWarning")
def test_the_asset_counts_the_runs_of_dagster_and_fails_an_hour_nobody_saw(
    settings: Settings, owner: Connection, client: Client
) -> None:
    @dg.op
    def fails() -> None:
        raise RuntimeError("on purpose")

    job = dg.JobDefinition(name="redis_full_backup", graph_def=dg.GraphDefinition("redis", node_defs=[fails]))

    def checked(instance: dg.DagsterInstance) -> list[bool | None]:
        result = dg.materialize(
            [assets.platform_figures], resources={"platform": Platform(settings)}, instance=instance
        )
        assert result.success
        return [check.passed for check in result.get_asset_check_evaluations()]

    with dg.DagsterInstance.ephemeral() as instance:
        assert not job.execute_in_process(instance=instance, raise_on_error=False).success
        begin = datetime.now(UTC) - timedelta(minutes=5)
        [outcome] = assets._backups(instance, begin)
        assert (outcome.store, outcome.succeeded) == ("redis", False)
        assert checked(instance) == [False]
        _sample(owner, datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - HOUR / 2, 5)
        assert checked(instance) == [True]


def test_the_marts_say_what_the_figures_are(
    settings: Settings,
    owner: Connection,
    client: Client,
    parsed_project: Path,
    dbt_forks: Path,
    tmp_path: Path,
) -> None:
    _sample(owner, NOON, 10, hit=90, read=10)
    _sample(owner, NOON + HOUR, 0, hit=0, read=0, bytes=1800, connections=50)
    outcomes = [Outcome("redis", NOON + HOUR * n / 4, n > 0) for n in range(4)]
    for _ in range(2):  # twice: the marts count once
        figures.roll_up(settings, Span(NOON, NOON + HOUR * 2), outcomes)
    parsed = manifest.parsed(Settings(home=parsed_project))
    project = Project(tmp_path, settings, parsed=parsed, forks=dbt_forks)
    outcome = project.build(
        "build", "--select", "rpt_database_hourly", "rpt_backups_daily", build_id="figures"
    )
    assert outcome.exit_code == 0, outcome.output
    assert len(outcome.statuses) >= 9
    assert client.query(
        "select calls, mean_milliseconds, cache_hit_ratio, pool_use_ratio, size_bytes, growth_bytes, samples"
        " from marts.rpt_database_hourly where store = 'postgres' order by hour"
    ).result_rows == [(10, 2.0, 0.9, 0.1, 1000, None, 1), (0, None, None, 0.5, 1800, 800, 1)]
    assert client.query("select * from marts.rpt_backups_daily").result_rows == [
        (NOON.date(), "redis", 4, 3, 0.75)
    ]
    reader = clickhouse.connect(settings.clickhouse, "analyst")
    assert reader.query("select count() from marts.rpt_database_hourly where store = 'postgres'").result_rows
    reader.close()
