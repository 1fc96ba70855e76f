"""dbt as an analyst calls it: in dbt_project, with what `bilten env` exports and no more of the platform."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from clickhouse_connect.driver.client import Client

from bilten_orchestration.settings import Settings
from tests.integration.dbt.project import PROJECT, Project
from tests.integration.dbt.scenario import Scenario, uid

BIN = Path(sys.executable).parent


@pytest.fixture
def exported(settings: Settings, environment: Callable[[Settings], dict[str, str]]) -> dict[str, str]:
    """What a shell has after eval "$(bilten env)": no variable of the settings but those."""
    told = subprocess.run(
        [str(BIN / "python"), "-m", "bilten_orchestration.cli.main", "env", "--json"],
        env=environment(settings) | {"BILTEN_HOME": str(settings.home), "PYTHONPATH": str(PROJECT.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    variables: dict[str, str] = json.loads(told.stdout)["result"]
    outside = {name: text for name, text in os.environ.items() if not name.startswith(("BILTEN_", "DBT_"))}
    return outside | variables


def test_dbt_build_alone_builds_yesterday_and_passes_every_test(
    client: Client, exported: dict[str, str], target_directory: Path, project: Project
) -> None:
    yesterday = (datetime.now(UTC) - timedelta(days=1)).date().isoformat()
    world = Scenario()
    world.organization("Home")
    world.event("Show", organization="Home")
    world.ticket_type("Seat", "Show")
    world.payment("order", "Show", f"{yesterday} 12:00", "30", tickets=["a", "b", "c"], ticket_type="Seat")
    world.apply(client, controls=[yesterday], as_of=f"{datetime.now(UTC):%F %T}")
    noon = datetime.fromisoformat(f"{yesterday}T12:00Z")
    click(client, happened=noon, arrived=noon, event=uid("Show"))
    run = subprocess.run(
        [str(BIN / "dbt"), "build"],
        env=exported
        | {"DBT_TARGET_PATH": str(target_directory), "DBT_LOG_PATH": str(target_directory / "logs")},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-5000:]
    results = json.loads((target_directory / "run_results.json").read_text())["results"]
    statuses = {(result["unique_id"].partition(".")[0], result["status"]) for result in results}
    assert statuses == {
        ("model", "success"),
        ("test", "pass"),
        ("unit_test", "pass"),
        ("exposure", "no-op"),
    }
    assert client.query(
        "select toString(metric_date), gross_sales, tickets_sold from marts.fct_event_sales_daily"
    ).result_rows == [(yesterday, Decimal(30), 3)]
    assert client.query("select title, tickets_held from marts.rpt_event_summary").result_rows == [
        ("Show", 3)
    ]
    its_documentation_has_every_model_with_its_columns(project)
    what_stands_twice_is_found(project, client)
    what_names_nothing_is_told(project, client, world, yesterday)


#: By view: the test of its grain.
GRAINS = {
    "intermediate.int_postings": "int_postings_unique",
    "intermediate.int_ticket_movements": "int_ticket_movements_unique",
    "intermediate.int_session_touches": "int_session_touches_unique",
    "marts.ticket_type_sales_to_date": "ticket_type_sales_to_date_unique",
    "analytics.metrics_daily": "metrics_daily_unique",
}

#: Rows that name a parent, by the test that looks for it: table, row, column.
ORPHANS = {
    "stg_bilten__tickets_event_id__id__ref_stg_bilten__events_": ("tickets_tickets", "a", "event_id"),
    "stg_bilten__tickets_ticket_type_id__id__ref_stg_bilten__ticket_types_": (
        "tickets_tickets",
        "a",
        "ticket_type_id",
    ),
    "stg_bilten__payments_event_id__id__ref_stg_bilten__events_": ("payments_payments", "order", "event_id"),
    "stg_bilten__payment_items_payment_id__id__ref_stg_bilten__payments_": (
        "payments_payment_items",
        "order a",
        "payment_id",
    ),
    "stg_bilten__refunds_payment_id__id__ref_stg_bilten__payments_": (
        "payments_refunds",
        "refund",
        "payment_id",
    ),
    "stg_bilten__chargebacks_payment_id__id__ref_stg_bilten__payments_": (
        "payments_chargebacks",
        "dispute",
        "payment_id",
    ),
}


COHORTS = "relationships_fct_buyer_cohorts_monthly_organization_id__organization_id__ref_dim_organizations_"


def its_documentation_has_every_model_with_its_columns(project: Project) -> None:
    """As `make docs` makes it: what the server has is what the YAML says."""
    outcome = project.build("docs", "generate")
    assert outcome.exit_code == 0, outcome.output
    assert (project.target / "index.html").stat().st_size > 100_000
    catalogue = json.loads((project.target / "catalog.json").read_text())
    assert catalogue["errors"] is None
    described = json.loads((project.target / "manifest.json").read_text())["nodes"]
    found = {name: set(node["columns"]) for name, node in catalogue["nodes"].items()}
    wanted = {
        name: set(node["columns"])
        for name, node in described.items()
        if node["resource_type"] == "model" and not name.endswith("__build")
    }
    assert len(wanted) > 30
    assert {name: found.get(name) for name in wanted} == wanted


def what_stands_twice_is_found(project: Project, client: Client) -> None:
    """Each view with every row twice: its test fails, and none of the others."""
    for view in GRAINS:
        [(query,)] = client.query(
            "select as_select from system.tables where concat(database, '.', name) = {view:String}",
            parameters={"view": view},
        ).result_rows
        client.command(
            f"create or replace view {view} as select * from ({query}) union all select * from ({query})"
        )
    outcome = project.build("test", "--select", *GRAINS.values())
    assert outcome.statuses == dict.fromkeys(GRAINS.values(), "fail"), outcome.output


def what_names_nothing_is_told(project: Project, client: Client, world: Scenario, day: str) -> None:
    """A row whose parent is not there fails; a ticket gone without a moment and unknown names warn."""
    for ticket, status in (("b", "refunded"), ("c", "cancelled")):
        world.change("tickets_tickets", ticket, status=status)
    world.refund("refund", "order", f"{day} 13:00", "10", ticket="b")
    world.chargeback("dispute", "order", f"{day} 13:00", "10")
    world.apply(client)
    for table, row, column in ORPHANS.values():
        client.command(
            f"insert into bilten_raw.{table} select * replace (generateUUIDv4() as {column}, 9 as version)"
            f" from bilten_raw.{table} final where id = {{id:UUID}}",
            parameters={"id": uid(row)},
        )
    for mart, column in (
        ("fct_event_audience_daily", "event_id"),
        ("fct_buyer_cohorts_monthly", "organization_id"),
    ):
        client.command(
            f"insert into marts.{mart} select * replace (generateUUIDv4() as {column})"
            f" from marts.{mart} limit 1"
        )
    relations = [f"relationships_{name}" for name in ORPHANS]
    relations.append(COHORTS)
    warnings = ["tickets_gone_say_when", "metrics_daily_known_names"]
    outcome = project.build("test", "--select", *relations, *warnings)
    assert outcome.statuses == dict.fromkeys(relations, "fail") | dict.fromkeys(warnings, "warn")
    # of the two tickets that are gone, the one that no refund names
    assert f"tickets_gone_say_when: {uid('c')} | cancelled" in outcome.output
    assert str(uid("b")) not in outcome.output


@pytest.mark.parametrize(
    ("batch_age", "click_age", "code", "statuses"),
    [
        (timedelta(minutes=30), timedelta(hours=5), 0, {"bilten_raw": "pass", "analytics.events": "pass"}),
        pytest.param(
            timedelta(minutes=90),
            timedelta(hours=7),
            0,
            {"bilten_raw": "warn", "analytics.events": "warn"},
            marks=pytest.mark.faults,
        ),
        (timedelta(hours=25), timedelta(hours=5), 1, {"bilten_raw": "error", "analytics.events": "pass"}),
        # silent for a day while batches come: nothing else would tell
        (timedelta(minutes=30), timedelta(hours=25), 1, {"bilten_raw": "pass", "analytics.events": "error"}),
    ],
)
def test_source_freshness_is_the_age_of_the_newest_batch_and_of_the_newest_click(
    project: Project,
    client: Client,
    batch_age: timedelta,
    click_age: timedelta,
    code: int,
    statuses: dict[str, str],
) -> None:
    world = Scenario()
    world.apply(client, as_of="2026-01-01 00:00")
    world.apply(client, as_of=f"{datetime.now(UTC) - batch_age:%F %T}")
    newest = datetime.now(UTC) - click_age
    # days late, and of a day that the filter leaves out: neither is the newest arrival
    click(client, happened=newest - timedelta(hours=71), arrived=newest)
    click(client, happened=newest - timedelta(days=9), arrived=datetime.now(UTC))
    outcome = project.build("source", "freshness")
    assert outcome.exit_code == code, outcome.output
    assert freshness(project) == {source: {status} for source, status in statuses.items()}


def test_a_source_that_was_never_loaded_is_not_fresh(project: Project, client: Client) -> None:
    outcome = project.build("source", "freshness")
    assert outcome.exit_code == 1, outcome.output
    assert freshness(project) == {"bilten_raw": {"error"}, "analytics.events": {"error"}}


def click(client: Client, *, happened: datetime, arrived: datetime, event: UUID | None = None) -> None:
    """As the writer leaves it, without going through its rules: they have a clock of their own."""
    client.insert(
        "analytics.events",
        [[uuid4(), event or UUID(int=0), uuid4(), uuid4(), "page_view", happened, happened.date(), arrived]],
        column_names=[
            "click_id",
            "event_id",
            "session_id",
            "visitor_id",
            "event_type",
            "timestamp",
            "local_date",
            "ingested_at",
        ],
    )


def freshness(project: Project) -> dict[str, set[str]]:
    """Statuses by source: of its tables that have a freshness, all of bilten_raw and the clickstream."""
    found: dict[str, set[str]] = {}
    for result in json.loads((project.target / "sources.json").read_text())["results"]:
        _, _, source, table = result["unique_id"].split(".")
        found.setdefault(source if source == "bilten_raw" else f"{source}.{table}", set()).add(
            result["status"]
        )
    return found
