"""A mart changes its structure: a column is added; all else is refused, with difference and way out."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client

from bilten_orchestration.settings import Settings
from tests.integration.dbt.project import PROJECT, SALES, SALES_FROM_NOTHING, Project
from tests.integration.dbt.scenario import Scenario, days_between

MART = "fct_event_sales_daily"
DAYS = days_between("2026-03-01", "2026-03-02")
LAST_COLUMN = '      - {name: check_ins, data_type: UInt64, description: "Tickets scanned at the door"}\n'
ADDED = '      - {name: refund_rows, data_type: UInt64, description: "Refunds posted"}\n'

Changed = Callable[[dict[str, tuple[str, str]]], Project]


@pytest.fixture
def changed(settings: Settings, tmp_path: Path, dbt_forks: Path) -> Changed:
    """A copy of the project with one text replaced per file (below models/marts), once in each."""

    def copy(edits: dict[str, tuple[str, str]]) -> Project:
        directory = tmp_path / "project"
        shutil.copytree(PROJECT, directory, ignore=shutil.ignore_patterns("target", "logs"))
        for name, (old, new) in edits.items():
            path = directory / "models" / "marts" / name
            text = path.read_text()
            assert old in text, f"{name} has changed: {old!r} is not in it"
            path.write_text(text.replace(old, new, 1))
        target = tmp_path / "target"
        target.mkdir()
        return Project(target, settings, directory=directory, forks=dbt_forks)

    return copy


@pytest.fixture
def published(project: Project, client: Client) -> Scenario:
    """Two days of the mart as it is, published."""
    world = Scenario()
    world.event("Show")
    for day in DAYS:
        world.payment(day, "Show", f"{day} 12:00", "100")
    world.refund("refund", DAYS[0], f"{DAYS[0]} 18:00", "40")
    world.apply(client, controls=DAYS)
    outcome = project.build(*SALES_FROM_NOTHING, build_id="before", days=DAYS)
    assert outcome.exit_code == 0, outcome.output
    return world


def columns(client: Client, table: str = MART) -> list[tuple[str, str]]:
    rows = client.query(
        "select name, type from system.columns"
        " where database = 'marts' and table = {table:String} order by position",
        parameters={"table": table},
    ).result_rows
    return [(name, kind) for name, kind in rows]


def test_an_added_column_follows_and_days_get_it_as_they_are_built(
    changed: Changed, published: Scenario, client: Client
) -> None:
    before = columns(client)
    wider = changed(
        {
            "_marts.yml": (LAST_COLUMN, LAST_COLUMN + ADDED),
            f"{MART}__build.sql": (
                "    countIf(fact = 'checked_in') as check_ins\n",
                "    countIf(fact = 'checked_in') as check_ins,\n"
                "    countIf(fact = 'refund') as refund_rows\n",
            ),
        }
    )
    outcome = wider.build(*SALES, build_id="wider", days=DAYS[:1])
    assert outcome.exit_code == 0, outcome.output
    assert "column refund_rows was added" in " ".join(outcome.output.split())
    assert columns(client) == [*before, ("refund_rows", "UInt64")]
    days = f"select toString(metric_date), gross_sales, refund_rows from marts.{MART} order by 1"
    assert client.query(days).result_rows == [(DAYS[0], 100, 1), (DAYS[1], 100, 0)]

    # a day without a refund has the default already: nothing to swap
    rest = wider.parsed_once().build(*SALES, build_id="rest", days=DAYS)
    assert rest.exit_code == 0, rest.output
    assert f"{MART}: 0 swapped, 2 unchanged" in rest.output


def test_any_other_change_is_refused_with_all_differences_and_the_way_out(
    changed: Changed, published: Scenario, client: Client
) -> None:
    before = columns(client)
    content = client.query(f"select * from marts.{MART} order by all").result_rows
    other = changed(
        {
            "_marts.yml": (LAST_COLUMN, LAST_COLUMN.replace("UInt64", "UInt32")),
            f"{MART}__build.sql": (
                "order_by=['organization_id', 'organizer_id', 'event_id', 'currency']",
                "order_by=['event_id', 'currency']",
            ),
        }
    )
    text = other.directory / "models" / "marts" / f"{MART}__build.sql"
    text.write_text(
        text.read_text().replace("countIf(fact = 'checked_in')", "toUInt32(countIf(fact = 'checked_in'))")
    )

    outcome = other.build(*SALES, build_id="other", days=DAYS)
    said = " ".join(outcome.output.split())
    assert outcome.exit_code == 1
    assert outcome.statuses[MART] == "error"
    assert "column check_ins was UInt64, is UInt32" in said
    assert (
        "sorting key was (organization_id, organizer_id, event_id, currency), is (event_id, currency)" in said
    )
    assert "Nothing was swapped" in said
    assert columns(client) == before
    assert client.query(f"select * from marts.{MART} order by all").result_rows == content

    # the way out that it names works as it stands there
    found = re.search(r"\((rename table [^)]+)\)", said)
    assert found, said
    client.command(found.group(1))
    again = other.parsed_once().build(*SALES, build_id="again", days=DAYS)
    assert again.exit_code == 0, again.output
    assert dict(columns(client))["check_ins"] == "UInt32"
    assert client.query(f"select sum(gross_sales) from marts.{MART}").result_rows == [(200,)]
    client.command(f"drop table marts.{MART}__before")
