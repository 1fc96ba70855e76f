"""Reports, cohorts, dimensions and long form, against a small world (hall.py) that was counted by hand."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from tests.integration.dbt import clicks, hall
from tests.integration.dbt.hall import DAYS, SALE
from tests.integration.dbt.project import Project
from tests.integration.dbt.scenario import ZERO, at, uid

#: Models and the gates between them; what else is tested about them, test_by_hand.py runs.
EVERYTHING = (
    "build", "--select", "resource_type:model", "config.meta.gate:true", "--indirect-selection", "empty",
)  # fmt: skip
DIRECT = {"source": "(direct)", "medium": "(none)", "campaign": "(none)"}
MAIL = {"source": "mail", "medium": "email", "campaign": "spring"}


@pytest.fixture
def built(project: Project, client: Client) -> Client:
    hall.world().apply(client, controls=DAYS)
    clicks.write(client, hall.seen())
    outcome = project.build(*EVERYTHING, build_id="whole", days=DAYS)
    assert outcome.exit_code == 0, outcome.output
    assert set(outcome.statuses.values()) == {"success", "pass"}, outcome.output
    return client


def rows(client: Client, sql: str, **parameters: Any) -> list[Any]:
    return list(client.query(sql, parameters=parameters).result_rows)


def test_all_that_is_built_as_a_whole(built: Client) -> None:
    """One world and one build, and then everything that is read from it."""
    check_event_summary(built)
    check_sales_to_date(built)
    check_cohorts(built)
    check_organization_audience(built)
    check_long_form_of_a_day(built)
    check_long_form_over_all_days(built)
    check_dimensions(built)


def check_event_summary(client: Client) -> None:
    names = [
        "is_over", "seats_offered", "gross_sales", "refunded", "charged_back", "net_revenue", "paid_orders",
        "tickets_sold", "comp_tickets", "tickets_cancelled", "tickets_held", "check_ins", "no_shows",
        "median_days_before",
    ]  # fmt: skip
    found = {
        (title, currency): dict(zip(names, values, strict=True))
        for title, currency, *values in rows(
            client, f"select title, toString(currency), {', '.join(names)} from marts.rpt_event_summary"
        )
    }
    until_later = (date(2099, 6, 1) - date(2025, 3, 11)).days
    expected: dict[tuple[str, str], list[Any]] = {
        # Sold: c1 to c3 40 days before, c4 and c5 20, free 9, c6 and v2 5: of 8 tickets 5 at least 20 days
        # before.
        # Not scanned: c3, c6 and free. v2 was: a check-in in euros, of a ticket held in dollars.
        ("Concert", "USD"): [1, 120, 175, 10, 50, "111.5", 4, 8, 1, 2, 7, 3, 3, 20],
        ("Concert", "EUR"): [1, 120, 80, 0, 0, 80, 1, 1, 0, 0, 1, 2, 0, 5],
        ("Called off", "USD"): [1, 40, 40, 20, 0, 20, 1, 2, 0, 1, 1, 0, 0, 33],
        ("Later", "USD"): [0, 10, 10, 0, 0, 10, 1, 1, 0, 0, 1, 0, 0, until_later],
        # r2 never came, though as many were scanned as are held
        ("Bad night", "USD"): [1, 5, 20, 10, 0, 10, 1, 2, 0, 1, 1, 1, 1, 28],
        ("Unsold", "XXX"): [1, 30, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, None],
        ("Street", "USD"): [1, 0, 5, 0, 0, 5, 1, 0, 0, 0, 0, 0, 0, None],
    }
    assert found == {
        key: {
            name: None if value is None else Decimal(value) for name, value in zip(names, values, strict=True)
        }
        for key, values in expected.items()
    }
    assert rows(
        client,
        "select organization_id, organizer_id, category, toString(status), start_local_date"
        " from marts.rpt_event_summary where title in ('Concert', 'Called off', 'Street')"
        " order by title, currency",
    ) == [
        (uid("Hall"), uid("organizer"), None, "cancelled", date(2025, 4, 12)),
        (uid("Hall"), uid("organizer"), "music", "published", date(2025, 4, 10)),
        (uid("Hall"), uid("organizer"), "music", "published", date(2025, 4, 10)),
        (ZERO, uid("staff"), None, "published", date(2025, 4, 2)),
    ]  # fmt: skip


def check_sales_to_date(client: Client) -> None:
    def of(ticket_type: str) -> list[Any]:
        return rows(
            client,
            "select toString(metric_date), toString(currency), ticket_face_sales, tickets_sold, comp_tickets,"
            "  tickets_cancelled, check_ins, capacity, sold_to_date, comps_to_date, cancelled_to_date"
            " from marts.ticket_type_sales_to_date where ticket_type_id = {type:UUID} order by all",
            type=uid(ticket_type),
        )

    assert of("Seat") == [
        ("2025-03-01", "USD", 45, 3, 0, 0, 0, 100, 3, 0, 0),
        ("2025-03-05", "USD", 0, 0, 1, 0, 0, 100, 3, 1, 0),
        ("2025-03-21", "USD", 20, 2, 0, 0, 0, 100, 5, 1, 0),
        ("2025-03-25", "USD", 0, 0, 0, 1, 0, 100, 5, 1, 1),
        ("2025-03-26", "USD", 0, 0, 0, 1, 0, 100, 5, 1, 2),
        ("2025-04-01", "USD", 0, 1, 0, 0, 0, 100, 6, 1, 2),
        (SALE, "USD", 15, 1, 0, 0, 0, 100, 7, 1, 2),
        ("2025-04-10", "USD", 0, 0, 0, 0, 3, 100, 7, 1, 2),
    ]
    # both rows of a day show what the type had sold by its end, in whatever currency
    assert of("VIP") == [
        (SALE, "EUR", 80, 1, 0, 0, 0, 20, 2, 0, 0),
        (SALE, "USD", 90, 1, 0, 0, 0, 20, 2, 0, 0),
        ("2025-04-10", "EUR", 0, 0, 0, 0, 2, 20, 2, 0, 0),
    ]


def check_cohorts(client: Client) -> None:
    march, april = date(2025, 3, 1), date(2025, 4, 1)
    people = {uid(name): name for name in ("ann", "bob", "cat", "dan", "eve")}
    buyers = rows(
        client,
        "select organization_id, user_id, toString(first_purchase_date), cohort_month"
        " from intermediate.int_buyers",
    )
    assert {(organization, people[user], *rest) for organization, user, *rest in buyers} == {
        (uid("Hall"), "ann", "2025-03-01", march),
        (uid("Hall"), "bob", "2025-03-21", march),
        (uid("Hall"), "cat", SALE, april),
        (uid("Hall"), "dan", "2025-03-10", march),
        (uid("Hall"), "eve", "2025-03-12", march),
        (ZERO, "ann", "2025-03-15", march),
    }
    cohorts = rows(
        client,
        "select organization_id, cohort_month, purchase_month, months_since_first, toString(currency),"
        "  cohort_buyers, buyers, paid_orders, gross_sales from marts.fct_buyer_cohorts_monthly order by all",
    )
    assert sorted(cohorts, key=str) == sorted(
        [
            (ZERO, march, march, 0, "USD", 1, 1, 1, Decimal(5)),
            # o1, o2, o6, o7, o8: whatever was given back later
            (uid("Hall"), march, march, 0, "USD", 4, 4, 5, Decimal(140)),
            (uid("Hall"), march, april, 1, "EUR", 4, 1, 1, Decimal(80)),
            (uid("Hall"), march, april, 1, "USD", 4, 1, 1, Decimal(15)),
            (uid("Hall"), april, april, 0, "USD", 1, 1, 1, Decimal(90)),
        ],
        key=str,
    )


def check_organization_audience(client: Client) -> None:
    states = "visitors", "sessions", "buyers", "funnel_viewed", "funnel_checkout", "funnel_purchased"
    counts = ", ".join(f"finalizeAggregation({state})" for state in states)
    of = f"select page_views, {counts} from marts"
    where = "where metric_date = {day:Date32}"
    assert rows(
        client,
        f"{of}.fct_event_audience_daily {where} and event_id = {{event:UUID}}",
        day=SALE,
        event=uid("Later"),
    ) == [(1, 1, 1, 0, 1, 0, 0)]
    # views add up (3 and 1), the browser at both events counts once
    assert rows(
        client,
        f"{of}.fct_organization_audience_daily {where} and organization_id = {{organization:UUID}}",
        day=SALE,
        organization=uid("Hall"),
    ) == [(4, 2, 2, 3, 2, 1, 1)]


def check_long_form_of_a_day(client: Client) -> None:
    usd, eur, none = {"currency": "USD"}, {"currency": "EUR"}, {"currency": "XXX"}
    seat, vip = {"ticket_type_id": str(uid("Seat"))}, {"ticket_type_id": str(uid("VIP"))}
    expected: list[tuple[str, dict[str, str], dict[str, int]]] = [
        ("Concert", usd, {"gross_sales": 105, "net_revenue": 105, "paid_orders": 2, "tickets_sold": 2}),
        ("Concert", eur, {"gross_sales": 80, "net_revenue": 80, "paid_orders": 1, "tickets_sold": 1}),
        ("Concert", {}, {
            "page_views": 3, "visitors": 2, "sessions": 2, "buyers": 3, "funnel_viewed": 2,
            "funnel_checkout": 1, "funnel_purchased": 1}),
        ("Concert", usd | seat, {
            "ticket_type_face_sales": 15, "ticket_type_tickets_sold": 1, "ticket_type_capacity": 100}),
        ("Concert", usd | vip, {
            "ticket_type_face_sales": 90, "ticket_type_tickets_sold": 1, "ticket_type_capacity": 20}),
        ("Concert", eur | vip, {
            "ticket_type_face_sales": 80, "ticket_type_tickets_sold": 1, "ticket_type_capacity": 20}),
        ("Concert", MAIL | none, {"traffic_sessions": 1}),
        ("Concert", DIRECT | none, {"traffic_sessions": 1}),
        ("Concert", DIRECT | usd, {"traffic_paid_orders": 2, "traffic_gross_sales": 105}),
        ("Concert", DIRECT | eur, {"traffic_paid_orders": 1, "traffic_gross_sales": 80}),
        ("Later", {}, {"page_views": 1, "visitors": 1, "sessions": 1, "funnel_viewed": 1}),
        ("Later", MAIL | none, {"traffic_sessions": 1}),
        ("", {}, {
            "organization_page_views": 4, "organization_visitors": 2, "organization_sessions": 2,
            "organization_buyers": 3, "organization_funnel_viewed": 2, "organization_funnel_checkout": 1,
            "organization_funnel_purchased": 1}),
    ]  # fmt: skip
    found = [
        (organization, organizer, event, name, value, dict(sorted(dimensions.items())))
        for organization, organizer, event, name, value, dimensions in rows(
            client,
            "select organization_id, organizer_id, event_id, metric_name, metric_value, dimensions"
            " from analytics.metrics_daily where date = {day:Date32}",
            day=SALE,
        )
    ]
    assert sorted(found, key=str) == sorted(
        (
            (
                uid("Hall"),
                uid("organizer") if event else ZERO,
                uid(event) if event else ZERO,
                name,
                Decimal(value),
                dict(sorted(dimensions.items())),
            )
            for event, dimensions, metrics in expected
            for name, value in metrics.items()
        ),
        key=str,
    )


def check_long_form_over_all_days(client: Client) -> None:
    """Every metric of the event under its own name, those of the sales day by day to the cent."""
    assert dict(
        rows(
            client,
            "select metric_name, sum(metric_value) from analytics.metrics_daily"
            " where event_id = {event:UUID} and dimensions = map('currency', 'USD') group by metric_name",
            event=uid("Concert"),
        )
    ) == {
        "gross_sales": 175, "refunds": 20, "refund_reversals": 10, "chargebacks": 65,
        "chargeback_reversals": 15, "fees": 3, "tax": 2, "refunded_fees": 1, "refunded_tax": Decimal("0.5"),
        "dispute_fees": 15, "net_revenue": Decimal("111.5"), "paid_orders": 4, "tickets_sold": 8,
        "comp_tickets": 1, "tickets_cancelled": 2, "check_ins": 3,
    }  # fmt: skip
    assert dict(
        rows(
            client,
            "select metric_name, sum(metric_value) from analytics.metrics_daily"
            " where dimensions['ticket_type_id'] = {type:String} and metric_name <> 'ticket_type_capacity'"
            " group by metric_name",
            type=str(uid("Seat")),
        )
    ) == {
        "ticket_type_face_sales": 80, "ticket_type_tickets_sold": 7, "ticket_type_comp_tickets": 1,
        "ticket_type_tickets_cancelled": 2, "ticket_type_check_ins": 3,
    }  # fmt: skip
    assert rows(client, "select count() from analytics.metrics_daily where metric_value = 0") == [(0,)]


def check_dimensions(client: Client) -> None:
    def dimension(name: str, *columns: str) -> list[Any]:
        listed = ", ".join(columns)
        return sorted(rows(client, f"select {listed} from marts.dim_{name}"), key=str)

    def ordered(*expected: tuple[Any, ...]) -> list[Any]:
        return sorted(expected, key=str)

    assert dimension(
        "events", "title", "event_id", "organization_id", "organizer_id", "venue_id",
        "toString(status)", "start_at", "start_local_date", "seats_offered", "is_soft_deleted", "tags",
    ) == ordered(*(
        (title, uid(title), organization, uid(organizer), venue, status, at(start).replace(tzinfo=None),
         date.fromisoformat(local), seats, deleted, tags)
        for title, organization, organizer, venue, status, start, local, seats, deleted, tags in [
            ("Concert", uid("Hall"), "organizer", uid("Arena"), "published", "2025-04-10 18:00", "2025-04-10",
             120, 0, ["loud", "late"]),
            ("Called off", uid("Hall"), "organizer", None, "cancelled", "2025-04-12 18:00", "2025-04-12",
             40, 0, []),
            ("Later", uid("Hall"), "organizer", None, "published", "2099-06-01 18:00", "2099-06-01",
             10, 0, []),
            ("Bad night", uid("Hall"), "organizer", None, "published", "2025-04-08 22:30", "2025-04-09",
             5, 0, []),
            ("Unsold", uid("Hall"), "organizer", None, "published", "2025-05-01 18:00", "2025-05-01",
             30, 1, []),
            ("Street", ZERO, "staff", None, "published", "2025-04-02 18:00", "2025-04-02", 0, 0, []),
        ]
    ))  # fmt: skip
    assert dimension(
        "organizations", "organization_id", "name", "timezone", "default_currency", "is_soft_deleted"
    ) == ordered((uid("Hall"), "Hall", "Europe/Berlin", "USD", 0), (ZERO, "(none)", "UTC", "USD", 0))
    # whoever runs an event, and whoever may: not the buyers
    assert dimension(
        "organizers", "organizer_id", "organization_id", "toString(role)", "toString(status)",
        "email_verified",
    ) == ordered(
        (uid("organizer"), ZERO, "organizer", "active", True),
        (uid("idle"), uid("Hall"), "organizer", "suspended", False),
        (uid("staff"), ZERO, "admin", "active", True),
    )  # fmt: skip
    assert dimension(
        "venues", "venue_id", "name", "address", "toString(city)", "toString(country)", "postal_code",
        "latitude", "longitude", "capacity", "amenities", "is_soft_deleted",
    ) == [
        (uid("Arena"), "Arena", "1 Long Street", "Berlin", "DE", None, Decimal("52.520008"),
         Decimal("13.404954"), 900, ["bar"], 0)
    ]  # fmt: skip
    assert dimension(
        "ticket_types", "ticket_type_id", "event_id", "price", "toString(currency)", "quantity",
        "is_soft_deleted",
    ) == ordered(*(
        (uid(name), uid(event), Decimal(price), currency, quantity, deleted)
        for name, event, price, currency, quantity, deleted in [
            ("Seat", "Concert", "10.000", "USD", 100, 0),
            ("VIP", "Concert", "80.000", "EUR", 20, 0),
            ("Withdrawn", "Concert", "10.000", "USD", 50, 1),
            ("Floor", "Called off", "10.000", "USD", 40, 0),
            ("Early bird", "Later", "10.000", "USD", 10, 0),
            ("Stool", "Bad night", "10.000", "USD", 5, 0),
            ("Unwanted", "Unsold", "10.000", "USD", 30, 0),
        ]
    ))  # fmt: skip
    check_dates(client)


def check_dates(client: Client) -> None:
    assert rows(
        client, "select min(date_day), max(date_day), count(), uniqExact(date_day) from marts.dim_dates"
    ) == [(date(2015, 1, 1), date(2040, 12, 31), 9497, 9497)]
    columns = (
        "date_day", "year", "quarter", "month", "day_of_month", "day_of_week", "iso_year", "iso_week",
        "month_start", "quarter_start", "weekday_name", "month_name", "is_weekend",
    )  # fmt: skip
    found = rows(client, f"select {', '.join(columns)} from marts.dim_dates order by date_day")
    for row in found:
        day = row[0]
        iso = day.isocalendar()
        quarter = (day.month + 2) // 3
        assert row == (
            day, day.year, quarter, day.month, day.day, iso.weekday, iso.year, iso.week,
            day.replace(day=1), date(day.year, 3 * quarter - 2, 1), f"{datetime(*day.timetuple()[:3]):%A}",
            f"{datetime(*day.timetuple()[:3]):%B}", int(iso.weekday >= 6),
        )  # fmt: skip
