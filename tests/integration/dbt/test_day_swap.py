"""Swaps under readers and under kill -9."""

from __future__ import annotations

import threading
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from bilten_orchestration.settings import Settings
from bilten_orchestration.stores.clickhouse import connect
from tests.integration.dbt.interception import Killer, Moment, intercepting
from tests.integration.dbt.project import SALES, SALES_FROM_NOTHING, Project
from tests.integration.dbt.scenario import Scenario, days_between

MART = "fct_event_sales_daily"


def world_of(days: list[str]) -> Scenario:
    world = Scenario()
    world.event("Show")
    for number, day in enumerate(days):
        world.payment(day, "Show", f"{day} 12:00", str(100 + number))
    return world


def raise_prices(world: Scenario, days: list[str], by: int) -> None:
    for day in days:
        for table, name in (("payments_payments", day), ("payments_payment_items", f"{day} addon")):
            world.change(table, name, amount=world.rows[table][name]["amount"] + by)


def published(client: Client) -> dict[str, Decimal]:
    rows = client.query(
        f"select toString(metric_date), sum(gross_sales) from marts.{MART} group by 1 order by 1"
    )
    return dict(rows.result_rows)


def content(client: Client) -> Any:
    return client.query(
        f"select metric_date, count(), sum(cityHash64(*)) from marts.{MART} group by metric_date order by"
        f" metric_date"
    ).result_rows


def test_a_reader_never_sees_a_wrong_or_missing_total_during_20_swaps(
    settings: Settings, project: Project, client: Client
) -> None:
    check_readers(settings, project, client, days_between("2026-03-01", "2026-03-20"), builds=1)


@pytest.mark.faults
def test_a_reader_never_sees_a_wrong_or_missing_total_during_100_swaps(
    settings: Settings, project: Project, client: Client
) -> None:
    check_readers(settings, project, client, days_between("2026-03-01", "2026-04-19"), builds=2)


def check_readers(
    settings: Settings, project: Project, client: Client, days: list[str], *, builds: int
) -> None:
    """Each build changes every day; whoever reads sees each day as it was or is, and never goes back."""
    world = world_of(days)
    world.apply(client, controls=days)
    first = project.build(*SALES_FROM_NOTHING, build_id="first", days=days)
    assert first.exit_code == 0, first.output

    wrong: list[object] = []
    states: list[list[int]] = []  # of each poll, the step that each day showed
    done = threading.Event()
    shown = {
        Decimal(100 + number + 1000 * step): (day, step)
        for number, day in enumerate(days)
        for step in range(builds + 1)
    }

    def read() -> None:
        reader = connect(settings.clickhouse, "analyst")
        newest = [0] * len(days)
        while not wrong:
            ends = done.is_set()  # before the last read, so that it sees the end
            found = published(reader)
            steps = [shown[total][1] for day, total in found.items() if shown.get(total, ("", 0))[0] == day]
            if list(found) != days or len(steps) != len(days):
                wrong.append(("missing or wrong", found))
            elif any(step < before for step, before in zip(steps, newest, strict=True)):
                wrong.append(("went back", found))
            elif max(steps) - min(steps) > 1:
                wrong.append(("a whole build behind", found))
            states.append(steps)
            newest = steps
            if ends:
                break
        reader.close()

    thread = threading.Thread(target=read)
    thread.start()
    try:
        for step in range(1, builds + 1):
            raise_prices(world, days, 1000)
            world.apply(client, controls=days)
            outcome = project.build(*SALES, build_id=f"step{step}", days=days)
            assert outcome.exit_code == 0, outcome.output
            assert f"{MART}: {len(days)} swapped" in outcome.output
    finally:
        done.set()
        thread.join()
    assert not wrong
    assert {min(steps) for steps in states} == set(range(builds + 1)), "the reader saw each build whole"
    assert any(min(steps) < max(steps) for steps in states), "the reader read while days were swapped"
    assert published(client) == {
        day: Decimal(100 + 1000 * builds + number) for number, day in enumerate(days)
    }


def test_a_day_is_the_same_by_its_rows_and_not_by_its_parts(project: Project, client: Client) -> None:
    """One day is as it was built, one stands in two parts, and of one a cell was altered by hand."""
    days = days_between("2026-03-01", "2026-03-03")
    world = world_of(days)
    world.event("Play")
    for day in days:
        world.payment(f"{day} of the play", "Play", f"{day} 12:00", "7")
    world.apply(client, controls=days)
    first = project.build(*SALES_FROM_NOTHING, build_id="first", days=days)
    assert first.exit_code == 0, first.output
    built = content(client)

    client.command(
        f"alter table marts.{MART} update gross_sales = gross_sales + 1 where metric_date = '{days[2]}'",
        settings={"mutations_sync": 2},
    )
    client.command(f"system stop merges marts.{MART}")
    client.command(
        "create table marts.two_parts engine = Memory as select * from marts.fct_event_sales_daily"
    )
    client.command(f"alter table marts.{MART} drop partition '{days[1]}'")
    for rest in (0, 1):
        client.command(
            f"insert into marts.{MART} select * from marts.two_parts where metric_date = '{days[1]}'"
            f" and (gross_sales = 7) = {rest}"
        )
    client.command("drop table marts.two_parts")
    assert content(client)[:2] == built[:2]
    assert content(client)[2] != built[2]

    again = project.build(*SALES, build_id="again", days=days)
    assert again.exit_code == 0, again.output
    assert f"{MART}: 1 swapped, 2 unchanged" in again.output
    assert content(client) == built
    client.command("system flush logs")
    [(read,)] = client.query(
        "select query from system.query_log where type = 'QueryFinish' and query like '%is_build%cityHash64%'"
        f" and query like '%{MART}__build_again%' and query not like '%query_log%'"
    ).result_rows
    assert [day for day in days if day in read] == days[1:], "rows of an equal part are not read"
    client.command(f"system start merges marts.{MART}")


KILLS: list[tuple[str, Moment, int]] = [
    (r"create table if not exists `?marts`?\.`?fct_event_sales_daily`? ", "after", 1),
    (r"insert into analytics\.mart_verdicts", "after", 3),
    (r"insert into analytics\.metric_restatements", "before", 1),
    (r"insert into analytics\.metric_restatements", "after", 1),
    (r"replace partition", "before", 1),
    (r"replace partition", "after", 3),
    (r"drop partition", "after", 1),
    (r"insert into analytics\.mart_days", "before", 1),
    (r"insert into analytics\.mart_days", "after", 1),
]


def check_kill(project: Project, client: Client, kill: tuple[str, Moment, int]) -> None:
    """Published, restated, killed on the way, run again under the same id: as if nobody had killed it."""
    pattern, moment, number = kill
    days = days_between("2026-03-01", "2026-03-06")
    world = world_of(days)
    world.apply(client, controls=days)
    is_first = pattern.startswith("create")
    if is_first:
        views = project.build(
            "run", "--select", "+fct_event_sales_daily__build models/staging", build_id="views", days=days[:1]
        )
        assert views.exit_code == 0, views.output
    else:
        first = project.build(*SALES_FROM_NOTHING, build_id="first", days=days)
        assert first.exit_code == 0, first.output
    before = published(client) if not is_first else {}

    raise_prices(world, days[:4], 7)
    world.change(
        "payments_payments", days[4], deleted_at=world.rows["payments_payments"][days[4]]["captured_at"]
    )
    world.apply(client, controls=days)
    after = {day: Decimal(100 + index + 7) for index, day in enumerate(days[:4])} | {days[5]: Decimal(105)}
    clickhouse = project.settings.clickhouse
    killer = Killer(pattern, moment, number)
    with intercepting(str(clickhouse.host), clickhouse.port, killer) as port:
        killer.victim = replace(project, port=port, forks=None).start(*SALES, build_id="killed", days=days)
        output, _ = killer.victim.communicate(timeout=300)
        assert killer.struck.is_set(), output
        assert killer.victim.returncode == -9
    if not is_first:
        for day, total in published(client).items():
            assert total in (before.get(day), after.get(day)), (
                f"{day} shows neither what was nor what shall be"
            )

    again = project.build(*SALES, build_id="killed", days=days)
    assert again.exit_code == 0, again.output
    assert published(client) == after
    killed = content(client)
    cells = "toString(metric_date), metric, value_before, value_after"
    restated = client.query(
        f"select {cells} from analytics.metric_restatements final where run_id = 'killed' order by 1, 2"
    ).result_rows
    expected = []
    if not is_first:
        for day in days[:5]:
            held, now = before[day], after.get(day, Decimal(0))
            expected += [(day, "gross_sales", held, now), (day, "net_revenue", held, now)]
            expected += [(day, "paid_orders", Decimal(1), Decimal(0))] if day not in after else []
    assert restated == expected
    assert client.query(
        "select count(), min(batch), uniqExact(run_id) from analytics.mart_days final where mart ="
        " {mart:String}",
        parameters={"mart": MART},
    ).result_rows == [(6, 2, 1)]

    clean = project.build(*SALES, build_id="clean", days=days)
    assert clean.exit_code == 0, clean.output
    assert f"{MART}: 0 swapped, 6 unchanged" in clean.output
    assert content(client) == killed


def test_killed_between_two_swaps_and_run_again(project: Project, client: Client) -> None:
    check_kill(project, client, (r"replace partition", "after", 2))


@pytest.mark.faults
@pytest.mark.parametrize(
    "kill", KILLS, ids=[f"{moment} {number}. {pattern}" for pattern, moment, number in KILLS]
)
def test_killed_anywhere_and_run_again(
    project: Project, client: Client, kill: tuple[str, Moment, int]
) -> None:
    check_kill(project, client, kill)
