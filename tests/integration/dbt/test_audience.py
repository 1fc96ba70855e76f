"""Visitors, funnels and sources from clicks as they come: bots, repeats, late ones, midnights, short days."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from clickhouse_connect.driver.client import Client

from tests.integration.dbt.clicks import BROWSER, SETTLED, Click, write
from tests.integration.dbt.project import FROM_NOTHING, Project
from tests.integration.dbt.scenario import Scenario, at, days_between, uid

DAYS = days_between("2026-03-01", "2026-03-30")
BERLIN = ZoneInfo("Europe/Berlin")
STEPS = ["visitors", "sessions", "buyers", "funnel_viewed", "funnel_checkout", "funnel_purchased"]


def click(
    visitor: str,
    moment: str | datetime,
    kind: str = "page_view",
    *,
    event: str | None = "Show",
    source: str = "",
    **more: Any,
) -> Click:
    when = at(moment) if isinstance(moment, str) else moment
    return Click(
        visitor,
        event,
        when,
        kind,
        local_date=when.astimezone(BERLIN if event else UTC).date(),
        properties={"utm_source": source, "utm_medium": "email"} if source else {},
        **more,
    )


def audience(client: Client, day: str) -> dict[str, int]:
    columns = ", ".join(f"finalizeAggregation({step})" for step in STEPS)
    [row] = client.query(
        f"select page_views, {columns} from marts.fct_event_audience_daily where metric_date = '{day}'"
        " and event_id = {event:UUID}",
        parameters={"event": uid("Show")},
    ).result_rows
    return {name: value for name, value in zip(["page_views", *STEPS], row, strict=True) if value}


def world() -> Scenario:
    world = Scenario()
    world.organization("Berlin", "Europe/Berlin")
    world.event("Show", organization="Berlin")
    world.event("Big", organization="Berlin")
    for user, moment in [
        ("within", "2026-03-11 09:59"),
        ("after", "2026-03-11 12:01"),
        ("no checkout", "2026-03-10 11:30"),
        ("short day", "2026-03-29 22:50"),
    ]:
        world.payment(f"order {user}", "Show", moment, "10.00", user=user)
    return world


def clicks() -> list[Click]:
    found = [
        click("within", "2026-03-10 10:00"),
        click("within", "2026-03-10 10:05", "checkout_started", user="within"),
        click("after", "2026-03-10 12:00"),
        click("after", "2026-03-10 12:01", "checkout_started", user="after"),
        click("no checkout", "2026-03-10 11:00", user="no checkout"),
        click("robot", "2026-03-10 10:00", agent="Mozilla/5.0 (compatible; Googlebot/2.1)"),
        # one session across the local midnight (23:00 UTC)
        click("night", "2026-03-12 22:30", session="night"),
        click("night", "2026-03-12 23:30", session="night"),
        # 24 h after 23:59 of the day before a 23-hour day is 00:59 of the day after it
        click("short day", "2026-03-28 22:59"),
        click("short day", "2026-03-29 22:40", "checkout_started", user="short day"),
        # touches: 19 days before the order, and 38
        click("within", "2026-02-20 10:00", event=None, source="Newsletter"),
        click("after", "2026-02-01 10:00", event=None, source="Newsletter"),
    ]
    found += [
        click("too fast", at("2026-03-10 14:00") + timedelta(milliseconds=500 * number), name=str(number))
        for number in range(61)
    ]
    # delivered again, later: the same click
    return [*found, click("within", "2026-03-10 10:00", ingested=SETTLED + timedelta(hours=1))]


def test_audience_funnel_and_sources(project: Project, client: Client) -> None:
    scenario = world()
    scenario.apply(client, controls=DAYS)
    write(client, clicks())
    # 30 days of a big event: 3,000 clicks a day of 30,000 possible visitors
    client.command(
        "insert into analytics.events"
        " (click_id, event_id, session_id, visitor_id, event_type, timestamp, local_date, user_agent,"
        " ingested_at)"
        " select reinterpretAsUUID(MD5(toString(number))), {event:UUID}, reinterpretAsUUID(MD5(concat('s',"
        " toString(number)))),"
        "  reinterpretAsUUID(MD5(concat('v', toString(cityHash64(number) % 30000)))), 'page_view',"
        "  toDateTime64('2026-03-01 10:00:00', 3, 'UTC') + interval intDiv(number, 3000) day + interval"
        " number % 3000 second,"
        "  toDate32('2026-03-01') + intDiv(number, 3000), {agent:String}, toDateTime64('2026-04-01"
        " 00:00:00', 3, 'UTC')"
        " from numbers(90000)",
        parameters={"event": uid("Big"), "agent": BROWSER},
    )
    first = project.build(*FROM_NOTHING, build_id="first", days=DAYS)
    assert first.exit_code == 0, first.output

    assert audience(client, "2026-03-10") == {
        "page_views": 3, "visitors": 3, "sessions": 3, "buyers": 1,
        "funnel_viewed": 3, "funnel_checkout": 2, "funnel_purchased": 1,
    }  # fmt: skip
    assert audience(client, "2026-03-11") == {"buyers": 2}
    assert audience(client, "2026-03-12")["sessions"] == audience(client, "2026-03-13")["sessions"] == 1
    assert audience(client, "2026-03-28") == {
        "page_views": 1, "visitors": 1, "sessions": 1,
        "funnel_viewed": 1, "funnel_checkout": 1, "funnel_purchased": 1,
    }  # fmt: skip
    assert client.query(
        "select uniqCombined64Merge(17)(sessions) from marts.fct_event_audience_daily"
        " where metric_date in ('2026-03-12', '2026-03-13') and event_id = {event:UUID}",
        parameters={"event": uid("Show")},
    ).result_rows == [(1,)]

    [(merged, exact)] = client.query(
        "select (select uniqCombined64Merge(17)(visitors) from marts.fct_organization_audience_daily"
        "  where organization_id = {organization:UUID}),"
        " (select uniqExact(visitor_id) from analytics.events where event_id = {event:UUID})",
        parameters={"organization": uid("Berlin"), "event": uid("Big")},
    ).result_rows
    show = 5  # within, after, no checkout, night, short day
    assert exact > 25_000
    assert abs(merged - show - exact) <= 0.01 * exact

    assert client.query(
        "select toString(metric_date), source, medium, toString(currency), sessions, paid_orders,"
        " toFloat64(gross_sales)"
        " from marts.fct_traffic_sources_daily where event_id = {event:UUID} and metric_date ="
        " '2026-03-11' order by all",
        parameters={"event": uid("Show")},
    ).result_rows == [
        ("2026-03-11", "(direct)", "(none)", "USD", 0, 1, 10.0),
        ("2026-03-11", "newsletter", "email", "USD", 0, 1, 10.0),
    ]

    # a click comes two days late: its day changes, the one before and the one after do not
    write(client, [click("late", "2026-03-11 08:00", ingested=SETTLED)])
    late = project.build(build_id="late", days=DAYS[9:12])
    assert late.exit_code == 0, late.output
    assert audience(client, "2026-03-11") == {
        "page_views": 1,
        "visitors": 1,
        "sessions": 1,
        "buyers": 2,
        "funnel_viewed": 1,
    }
    assert client.query(
        "select toString(day) from analytics.mart_days final where run_id = 'late' and verdict = 'swapped'"
        " and mart = 'fct_event_audience_daily'"
    ).result_rows == [("2026-03-11",)]


def test_a_day_is_the_same_whichever_days_are_built_along(project: Project, client: Client) -> None:
    """Logins and sessions of other days of a run are there to be read; a day must not look at them."""
    scenario = Scenario()
    scenario.organization("Berlin", "Europe/Berlin")
    scenario.event("Show", organization="Berlin")
    for user in ("guest", "later", "long ago"):
        scenario.payment(f"order {user}", "Show", "2026-03-10 12:00", "10.00", user=user)
    scenario.apply(client, controls=DAYS)
    write(
        client,
        [
            # bought as a guest of this browser; logged in with it when the funnel was over
            click("guest", "2026-03-10 11:00"),
            click("guest", "2026-03-10 11:30", "checkout_started"),
            click("guest", "2026-03-14 10:00", user="guest"),
            # came by a newsletter, and logged in with this browser days after the order
            click("later", "2026-03-05 10:00", event=None, source="Newsletter"),
            click("later", "2026-03-16 10:00", user="later"),
            # logged in, but longer ago than a touch counts
            click("long ago", "2026-02-02 10:00", event=None, user="long ago"),
            click("long ago", "2026-03-09 10:00", event=None, source="Newsletter"),
            # a session that was never closed: on this day it came by itself
            click("open tab", "2026-03-07 10:00", session="open tab", source="Newsletter"),
            click("open tab", "2026-03-10 10:00", session="open tab"),
        ],
    )
    month = project.build(*FROM_NOTHING, build_id="month", days=DAYS)
    assert month.exit_code == 0, month.output
    assert audience(client, "2026-03-10") == {
        "page_views": 2, "visitors": 2, "sessions": 2, "buyers": 3, "funnel_viewed": 2, "funnel_checkout": 1,
    }  # fmt: skip
    assert client.query(
        "select source, toString(currency), sessions, paid_orders from marts.fct_traffic_sources_daily"
        " where metric_date = '2026-03-10' order by all"
    ).result_rows == [("(direct)", "USD", 0, 3), ("(direct)", "XXX", 2, 0)]

    alone = project.build(build_id="alone", days=["2026-03-10"])
    assert alone.exit_code == 0, alone.output
    assert set(
        client.query("select mart, verdict from analytics.mart_days final where run_id = 'alone'").result_rows
    ) == {
        (mart, "unchanged")
        for mart in (
            "fct_event_audience_daily",
            "fct_event_sales_daily",
            "fct_organization_audience_daily",
            "fct_ticket_type_sales_daily",
            "fct_traffic_sources_daily",
        )
    }


def test_a_day_of_clicks_reads_three_days_of_granules(project: Project, client: Client) -> None:
    views = project.build("run", "--select", "+int_clicks_cleaned", build_id="views", days=DAYS[:1])
    assert views.exit_code == 0, views.output
    client.command(
        "insert into analytics.events (click_id, event_id, session_id, visitor_id, event_type, timestamp,"
        " local_date)"
        " select generateUUIDv4(), {event:UUID}, {event:UUID}, {event:UUID}, 'page_view',"
        "  toDateTime64('2026-03-01 00:00:00', 3, 'UTC') + number * 10, toDate32('2026-03-01') +"
        " intDiv(number * 10, 86400)"
        " from numbers(250000)",
        parameters={"event": uid("Show")},
    )
    plan = "\n".join(
        row[0]
        for row in client.query(
            "explain indexes = 1 select count() from intermediate.int_clicks_cleaned where local_date ="
            " '2026-03-15'"
            " and created_date between '2026-03-14' and '2026-03-16'"
        ).result_rows
    )
    granules = [
        line.split("Granules:")[1].strip()
        for line in plan.splitlines()
        if "Granules:" in line and "/" in line
    ]
    selected, of = map(int, granules[-1].split("/"))
    total = int(granules[0].split("/")[1])
    assert total >= 30
    assert selected <= 6, f"{selected} of {of} granules of {total} are read:\n{plan}"


def test_states_of_one_set_are_equal_bytes_in_any_order(client: Client) -> None:
    """day_swap compares states by their bytes; macros/audience.sql builds them like this."""
    for size in (3, 200, 3_000, 30_000):
        found = set()
        for numbers in ("numbers_mt", "numbers"):
            for threads in (1, 4):
                ids = "UUIDNumToString(toFixedString(MD5(toString({})), 16))::UUID"
                number = "number" if numbers == "numbers_mt" else f"{size} - 1 - number"
                [(state,)] = client.query(
                    "select hex(arrayReduce('uniqCombined64State(17)',"
                    " arraySort(groupUniqArray(id)))::String)"
                    f" from (select {ids.format(number)} as id from {numbers}({size}))",
                    settings={"max_threads": threads, "max_block_size": 100 * threads},
                ).result_rows
                found.add(state)
        assert len(found) == 1
