"""Rebuilding 30 days of marts, and reading month-long uniques, both in seconds of the server."""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from bench import delete_insert
from bench.copying import change_one_percent
from bench.harness import OURS, Comparison, Context, merge, take_turns
from bilten_orchestration.ingestion.sync import sync
from bilten_orchestration.metrics import build as metrics
from bilten_orchestration.metrics import dbt_call
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

DELETE_INSERT = "dbt delete+insert"
RAW_CLICKS = "cleaned clicks"
REBUILT_DAYS = 30
UNIQUE_DAYS = 90


def rebuild(context: Context) -> list[Comparison]:
    """30 days that were published, one percent of the rows changed since; gates counted and not counted."""
    settings = context.settings
    last = datetime.now(UTC).date() - timedelta(days=1)
    first = last - timedelta(days=REBUILT_DAYS - 1)
    sync(settings)
    directory = Path(tempfile.mkdtemp(prefix="bench-dbt-"))
    try:
        marts = delete_insert.write_project(directory / "project")
        with closing(clickhouse.connect(settings.clickhouse)) as client:
            client.command(f"create database if not exists {delete_insert.DATABASE}")
            turn = 50
            gated: dict[str, list[float]] = {OURS: [], DELETE_INSERT: []}

            def change(name: str) -> None:
                nonlocal turn
                if name == OURS:  # both rebuild after the same change
                    merge(client)
                    change_one_percent(settings, turn)
                    sync(settings)
                    turn += 1

            def told(name: str, started: str) -> float:
                models = _server_seconds(client, started, "model.")
                gated[name].append(models + _server_seconds(client, started, "test."))
                _tell_nodes(client, started, context)
                return models

            def ours() -> float:
                started = _now(client)
                report = metrics.build(settings, first, last, refresh_whole=False)
                assert not report.refusals, report.refusals
                return told(OURS, started)

            def theirs() -> float:
                started = _now(client)
                _dbt(settings, directory, marts, first, last)
                return told(DELETE_INSERT, started)

            # the first build of a day is no rebuild; it makes the views too, which the rival reads
            metrics.build(settings, first, last)
            theirs()
            gated = {OURS: [], DELETE_INSERT: []}
            seconds = take_turns(
                {OURS: ours, DELETE_INSERT: theirs}, context.runs, context.progress, before=change
            )
            _same_marts(client, marts, first, last)
    finally:
        shutil.rmtree(directory)
    bench, size = f"rebuild of {REBUILT_DAYS} days", f"{len(marts)} marts, 1 % of all rows changed"
    return [
        Comparison(
            bench, context.scale, size, seconds, context.runs, aim={DELETE_INSERT: 2.0},
            note="seconds of the server, models and swaps alone",
        ),
        Comparison(
            f"{bench}, judged", context.scale, size,
            {name: statistics.median(found) for name, found in gated.items()}, context.runs,
            aim={DELETE_INSERT: 2.0},
            note="with the gates; the rival has them as dbt tests, after the wrong day is public",
        ),
    ]  # fmt: skip


def _same_marts(client: Client, marts: list[str], first: date, last: date) -> None:
    """Both contestants published the same numbers; states are compared by what they finalize to."""
    for mart in marts:
        columns = ", ".join(
            f"finalizeAggregation({name})" if kind.startswith("AggregateFunction") else name
            for name, kind in client.query(
                "select name, type from system.columns where database = 'marts' and table = {mart:String}"
                " order by position",
                {"mart": mart},
            ).result_rows
        )
        found = {
            client.query(
                f"select count(), sum(cityHash64({columns})) from {database}.{mart}"
                f" where metric_date between '{first}' and '{last}'"
            ).result_rows[0]
            for database in ("marts", delete_insert.DATABASE)
        }
        assert len(found) == 1, f"the contestants disagree about {mart}"


def uniques(context: Context) -> Comparison:
    """Distinct visitors per organization over 90 days."""
    settings = context.settings
    last = datetime.now(UTC).date() - timedelta(days=1)
    first = last - timedelta(days=UNIQUE_DAYS - 1)
    sync(settings)
    metrics.build(settings, first, last, refresh_whole=False, progress=context.progress)
    days = f"between '{first}' and '{last}'"
    around = f"between '{first - timedelta(days=1)}' and '{last + timedelta(days=1)}'"
    from_states = (
        "select organization_id, uniqCombined64Merge(17)(visitors) as visitors"
        f" from marts.fct_organization_audience_daily where metric_date {days} group by organization_id"
    )
    from_clicks = (
        "select organization_id, uniqCombined64(17)(visitor_id) as visitors"
        f" from intermediate.int_clicks_cleaned where local_date {days} and created_date {around}"
        f" and event_id <> '{UUID(int=0)}'"  # the marts are of events
        " group by organization_id"
    )
    with closing(clickhouse.connect(settings.clickhouse)) as client:
        clicks = client.query(f"select count() from analytics.events where local_date {days}").result_rows[0][
            0
        ]

        def timed(query: str) -> float:
            started = _now(client)
            client.query(query)
            return _server_seconds(client, started, None)

        states, exact = (
            {row[0]: row[1] for row in client.query(query).result_rows}
            for query in (from_states, from_clicks)
        )
        off = max((abs(states.get(key, 0) / number - 1) for key, number in exact.items()), default=0.0)
        assert off < 0.01, f"the contestants disagree by {off:.1%}"
        seconds = take_turns(
            {OURS: lambda: timed(from_states), RAW_CLICKS: lambda: timed(from_clicks)},
            max(context.runs, 5),
            context.progress,
        )
    return Comparison(
        f"{UNIQUE_DAYS}-day uniques", context.scale, f"{clicks:,} clicks", seconds, max(context.runs, 5),
        aim={RAW_CLICKS: 3.0} if context.scale >= 10 else {},
        note=f"seconds of the server; results differ by {off:.2%} at most",
    )  # fmt: skip


def _dbt(settings: Settings, directory: Path, marts: list[str], first: date, last: date) -> None:
    days = [(first + timedelta(days=number)).isoformat() for number in range((last - first).days + 1)]
    target = directory / "target"
    project = directory / "project"
    environment = dbt_call.environment(settings, target) | {
        "DBT_PROJECT_DIR": str(project), "DBT_PROFILES_DIR": str(project)
    }  # fmt: skip
    call = dbt_call.DbtCall(
        ("build", "--threads", str(settings.metrics.dbt_threads), "--select", *marts,
         "--vars", json.dumps({"days": days, "build_id": "bench"})),
        environment, target, project,
    )  # fmt: skip
    code = dbt_call.run(call)
    broken = [result.message for result in dbt_call.results(target) if result.broke]
    assert code == 0, f"dbt failed: {broken}"


def _now(client: Client) -> str:
    return str(client.query("select toString(now64(6))").result_rows[0][0])


def _server_seconds(client: Client, since: str, nodes: str | None) -> float:
    """What the server says its statements took; of dbt's models or tests alone when `nodes` says so."""
    client.command("system flush logs")
    of_nodes = f'and query like \'%"node_id": "{nodes}%\'' if nodes else "and query not like '%query_log%'"
    (row,) = client.query(
        "select sum(query_duration_ms) / 1000, count() from system.query_log"
        f" where type = 'QueryFinish' and query_start_time_microseconds >= '{since}' {of_nodes}"
        " and query not like '%system.query_log%' and query not ilike 'system flush%'"
    ).result_rows
    assert row[1], "the server has no record of the statements"
    return float(row[0])


def _tell_nodes(client: Client, since: str, context: Context) -> None:
    """Where the server's time went: the models that took longest, and how many statements they were."""
    rows = client.query(
        'select extract(query, \'"node_id": "([^"]+)\') as node,'
        " sum(query_duration_ms) / 1000 as seconds, count()"
        " from system.query_log where type = 'QueryFinish' and node <> ''"
        f" and query_start_time_microseconds >= '{since}' and query not like '%system.query_log%'"
        " group by node order by seconds desc limit 8"
    ).result_rows
    for node, seconds, statements in rows:
        context.progress(f"    {node}: {seconds:.2f} s in {statements} statements")
