"""Event sales to the cent: every rule of docs/metrics-rules.md, and what a later batch does."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from clickhouse_connect.driver.client import Client

from tests.integration.dbt.project import FROM_NOTHING, Project
from tests.integration.dbt.scenario import Scenario, days_between, uid

METRICS = [
    "gross_sales", "refunds", "refund_reversals", "chargebacks", "chargeback_reversals", "fees", "tax",
    "refunded_fees", "refunded_tax", "dispute_fees", "net_revenue", "paid_orders", "tickets_sold",
    "comp_tickets", "tickets_cancelled", "check_ins",
]  # fmt: skip
DAYS = days_between("2026-03-01", "2026-04-06")


def sales(client: Client, event: str, currency: str | None = None) -> dict[str, dict[str, Decimal]]:
    """{day: {metric: value}} of one event, without zeros."""
    found: dict[str, dict[str, Decimal]] = {}
    rows = client.query(
        f"select toString(metric_date), toString(currency), {', '.join(METRICS)} from"
        f" marts.fct_event_sales_daily"
        " where event_id = {event:UUID}",
        parameters={"event": uid(event)},
    ).result_rows
    for day, of_currency, *values in rows:
        if currency in (None, of_currency):
            found[day] = {name: Decimal(value) for name, value in zip(METRICS, values, strict=True) if value}
    return found


def amounts(**values: str | int) -> dict[str, Decimal]:
    return {name: Decimal(value) for name, value in values.items()}


def content(client: Client) -> Any:
    return client.query(
        "select mart, day, rows, hash from ("
        " select 'events' as mart, metric_date as day, count() as rows, sum(cityHash64(*)) as hash"
        " from marts.fct_event_sales_daily group by day"
        " union all select 'types', metric_date, count(), sum(cityHash64(*))"
        " from marts.fct_ticket_type_sales_daily group by metric_date) order by all"
    ).result_rows


def world() -> Scenario:
    world = Scenario()
    world.organization("Tonga", "Pacific/Tongatapu")  # UTC+13
    world.organization("Hawaii", "Pacific/Honolulu")  # UTC-10
    world.organization("Nepal", "Asia/Kathmandu")  # UTC+05:45
    world.organization("Berlin", "Europe/Berlin")  # 23 hours on 2026-03-29
    world.organization("Sydney", "Australia/Sydney")  # 25 hours on 2026-04-05
    for place in ("Tonga", "Hawaii", "Nepal", "Berlin", "Sydney"):
        world.event(place, organization=place)
        world.ticket_type(f"{place} seat", place)
    world.event("Nowhere")
    world.ticket_type("Nowhere seat", "Nowhere")

    # the last and the first moment of a local day, each side of midnight
    for place, last, first in [
        ("Tonga", "2026-03-01 10:59:59", "2026-03-01 11:00:00"),
        ("Hawaii", "2026-03-02 09:59:59", "2026-03-02 10:00:00"),
        ("Nepal", "2026-03-01 18:14:59", "2026-03-01 18:15:00"),
        ("Nowhere", "2026-03-01 23:59:59", "2026-03-02 00:00:00"),
    ]:
        world.payment(
            f"{place} last", place, last, "1.00", tickets=[f"{place} t1"], ticket_type=f"{place} seat"
        )
        world.payment(
            f"{place} first", place, first, "2.00", tickets=[f"{place} t2"], ticket_type=f"{place} seat"
        )
    # 23 hours: 23:00 UTC before until 22:00 UTC; 25 hours: 13:00 UTC before until 14:00 UTC
    for place, moments in {
        "Berlin": [
            "2026-03-28 22:59:59",
            "2026-03-28 23:00:00",
            "2026-03-29 21:59:59",
            "2026-03-29 22:00:00",
        ],
        "Sydney": [
            "2026-04-04 12:59:59",
            "2026-04-04 13:00:00",
            "2026-04-05 13:59:59",
            "2026-04-05 14:00:00",
        ],
    }.items():
        for number, moment in enumerate(moments):
            world.payment(f"{place} {number}", place, moment, str(10**number))

    # refunds: in parts of items, whole, and one that came back
    world.event("Refunds")
    world.ticket_type("Refunds seat", "Refunds")
    world.payment(
        "r1",
        "Refunds",
        "2026-03-01 10:00",
        "110.50",
        fee="5.25",
        tax="5.25",
        tickets=["ra", "rb"],
        ticket_type="Refunds seat",
    )
    world.refund("r1 part", "r1", "2026-03-03 10:00", "50.25", tax="2.50", ticket="ra")
    world.refund("r1 rest", "r1", "2026-03-05 10:00", "60.25", fee="5.25", tax="2.75", ticket="rb")
    world.payment(
        "r2", "Refunds", "2026-03-07 10:00", "21.00", fee="1.00", tickets=["rc"], ticket_type="Refunds seat"
    )
    world.refund("r2 failed", "r2", "2026-03-08 10:00", "21.00", fee="1.00")
    world.reverse("payments_refunds", "r2 failed", "2026-03-10 10:00")

    # disputes
    world.event("Disputes")
    world.payment("won", "Disputes", "2026-03-01 10:00", "80.00", fee="4.00")
    world.chargeback("won", "won", "2026-03-04 10:00", "80.00", dispute_fee="15.00")
    world.reverse("payments_chargebacks", "won", "2026-03-20 10:00")
    world.payment("lost", "Disputes", "2026-03-01 11:00", "40.00", fee="2.00")
    world.chargeback("lost", "lost", "2026-03-04 11:00", "40.00", dispute_fee="15.00")

    # currencies: never added, three decimals and none
    world.event("Money")
    world.payment("yen", "Money", "2026-03-01 10:00", "12300", fee="300", currency="JPY")
    world.payment("dinar", "Money", "2026-03-01 10:00", "10.125", fee="0.375", currency="KWD")
    world.payment("dollar", "Money", "2026-03-01 10:00", "0.01", currency="USD", discount="0.99")

    # admissions
    world.event("Door", start="2026-03-10 18:00")
    world.ticket_type("Door seat", "Door", quantity=50)
    world.ticket_type("Door free", "Door", price="0", quantity=20, currency="EUR")
    world.payment(
        "d1", "Door", "2026-03-01 10:00", "30.00", tickets=["d1a", "d1b", "d1c"], ticket_type="Door seat"
    )
    world.ticket("free", "Door", "Door free", purchased="2026-03-02 10:00")
    world.ticket("comp", "Door", "Door seat", purchased="2026-03-02 10:00", comp=True)
    world.change("tickets_tickets", "d1a", status="transferred")
    world.ticket(
        "d1a2",
        "Door",
        "Door seat",
        purchased="2026-03-04 10:00",
        transferred_from="d1a",
        status="transferred",
    )
    world.ticket("d1a3", "Door", "Door seat", purchased="2026-03-05 10:00", transferred_from="d1a2")
    world.check_in("d1a3", "2026-03-10 18:10")
    world.check_in("free", "2026-03-10 18:11")
    world.refund("d1b refund", "d1", "2026-03-06 10:00", "10.00", ticket="d1b")
    world.cancel("d1b", "2026-03-08 10:00")  # later than its refund: counts once, on the day of the refund
    world.cancel("d1c", "2026-03-07 10:00")
    world.refund("d1c refund", "d1", "2026-03-09 10:00", "10.00", ticket="d1c")
    world.cancel("comp", "2026-03-07 11:00")
    world.payment("unpaid", "Door", None, "10.00", tickets=["du"], ticket_type="Door seat", status="failed")
    world.payment("mistake", "Door", "2026-03-01 12:00", "10.00", tickets=["dm"], ticket_type="Door seat")
    world.change(
        "payments_payments", "mistake", deleted_at=world.rows["payments_payments"]["mistake"]["captured_at"]
    )
    world.check_in("dm", "2026-03-10 18:12")
    world.capacity("Door seat", 70, "2026-03-06 09:00")
    world.capacity("Door seat", 60, "2026-03-06 21:00")
    return world


def test_every_rule_to_the_cent_and_what_later_batches_change(project: Project, client: Client) -> None:
    scenario = world()
    scenario.apply(client, controls=DAYS)
    first = project.build(*FROM_NOTHING, build_id="first", days=DAYS)
    assert first.exit_code == 0, first.output

    for place in ("Tonga", "Hawaii", "Nepal", "Nowhere"):
        assert sales(client, place) == {
            "2026-03-01": amounts(gross_sales="1", net_revenue="1", paid_orders=1, tickets_sold=1),
            "2026-03-02": amounts(gross_sales="2", net_revenue="2", paid_orders=1, tickets_sold=1),
        }
    for place, days in {
        "Berlin": ["2026-03-28", "2026-03-29", "2026-03-30"],
        "Sydney": ["2026-04-04", "2026-04-05", "2026-04-06"],
    }.items():
        assert {day: row["gross_sales"] for day, row in sales(client, place).items()} == dict(
            zip(days, map(Decimal, (1, 110, 1000)), strict=True)
        )

    refunds = sales(client, "Refunds")
    assert refunds["2026-03-01"] == amounts(
        gross_sales="110.5", fees="5.25", tax="5.25", net_revenue="100", paid_orders=1, tickets_sold=2
    )
    assert refunds["2026-03-03"] == amounts(
        refunds="50.25", refunded_tax="2.5", net_revenue="-47.75", tickets_cancelled=1
    )
    assert refunds["2026-03-05"] == amounts(
        refunds="60.25", refunded_fees="5.25", refunded_tax="2.75", net_revenue="-52.25", tickets_cancelled=1
    )
    assert sum(refunds[day]["net_revenue"] for day in ("2026-03-01", "2026-03-03", "2026-03-05")) == 0
    assert refunds["2026-03-08"] == amounts(refunds="21", refunded_fees="1", net_revenue="-20")
    assert refunds["2026-03-10"] == amounts(refund_reversals="21", refunded_fees="-1", net_revenue="20")

    assert sales(client, "Disputes") == {
        "2026-03-01": amounts(gross_sales="120", fees="6", net_revenue="114", paid_orders=2),
        "2026-03-04": amounts(chargebacks="120", dispute_fees="30", net_revenue="-120"),
        "2026-03-20": amounts(chargeback_reversals="80", net_revenue="80"),
    }
    assert sales(client, "Money", "JPY")["2026-03-01"] == amounts(
        gross_sales="12300", fees="300", net_revenue="12000", paid_orders=1
    )
    assert sales(client, "Money", "KWD")["2026-03-01"] == amounts(
        gross_sales="10.125", fees="0.375", net_revenue="9.75", paid_orders=1
    )
    assert sales(client, "Money", "USD")["2026-03-01"] == amounts(
        gross_sales="0.01", net_revenue="0.01", paid_orders=1
    )

    door = sales(client, "Door", "USD")
    assert door["2026-03-01"] == amounts(gross_sales="30", net_revenue="30", paid_orders=1, tickets_sold=3)
    assert door["2026-03-02"] == amounts(comp_tickets=1)
    assert door["2026-03-06"] == amounts(refunds="10", net_revenue="-10", tickets_cancelled=1)
    assert door["2026-03-07"] == amounts(tickets_cancelled=2)
    assert "2026-03-08" not in door
    assert door["2026-03-09"] == amounts(refunds="10", net_revenue="-10")
    assert door["2026-03-10"] == amounts(check_ins=1)
    assert sales(client, "Door", "EUR") == {
        "2026-03-02": amounts(tickets_sold=1),
        "2026-03-10": amounts(check_ins=1),
    }
    assert client.query(
        "select toString(metric_date), ticket_face_sales, tickets_sold, capacity from"
        " marts.fct_ticket_type_sales_daily"
        " where ticket_type_id = {type:UUID} and metric_date <= '2026-03-06' order by metric_date",
        parameters={"type": uid("Door seat")},
    ).result_rows == [("2026-03-01", Decimal(30), 3, 50), ("2026-03-02", 0, 0, 50), ("2026-03-06", 0, 0, 60)]

    # the same days again, under another id: nothing moves, to the byte
    before = content(client)
    again = project.build(build_id="again", days=DAYS)
    assert again.exit_code == 0, again.output
    assert content(client) == before
    assert client.query(
        "select distinct verdict from analytics.mart_days final where run_id = 'again'"
    ).result_rows == [("unchanged",)]
    assert client.query("select count() from analytics.metric_restatements").result_rows == [(0,)]

    # later: a refund of an old order, a payment gone with its key, a day that emptied, a new organizer
    scenario.refund("late", "Tonga last", "2026-04-01 10:00", "1.00")
    scenario.change(
        "payments_payments",
        "Hawaii last",
        deleted_at=scenario.rows["payments_payments"]["won"]["captured_at"],
    )
    scenario.delete("payments_payments", "Sydney 3")
    scenario.delete("payments_payment_items", "Sydney 3 addon")
    scenario.change("events_events", "Disputes", organizer_id=uid("other organizer"))
    touched = ["2026-03-01", "2026-04-01", "2026-04-06", "2026-03-04", "2026-03-20"]
    scenario.apply(client, controls=touched)
    later = project.build(build_id="later", days=touched, reasons={"2026-04-06": "payments.payments"})
    assert later.exit_code == 0, later.output
    assert sales(client, "Tonga")["2026-03-01"] == amounts(
        gross_sales="1", net_revenue="1", paid_orders=1, tickets_sold=1
    )
    assert sales(client, "Tonga")["2026-04-01"] == amounts(refunds="1", net_revenue="-1")
    assert list(sales(client, "Hawaii")) == ["2026-03-02"]
    assert client.query(
        "select count() from system.parts where database = 'marts' and table = 'fct_event_sales_daily'"
        " and active and partition = '2026-04-06'"
    ).result_rows == [(0,)]
    assert client.query(
        "select distinct toString(organizer_id) from marts.fct_event_sales_daily where event_id ="
        " {event:UUID}",
        parameters={"event": uid("Disputes")},
    ).result_rows == [(str(uid("other organizer")),)]
    assert client.query(
        "select metric, value_before, value_after, reason from analytics.metric_restatements final"
        " where mart = 'fct_event_sales_daily' and metric_date = '2026-04-06' order by metric"
    ).result_rows == [
        ("gross_sales", Decimal(1000), Decimal(0), "payments.payments"),
        ("net_revenue", Decimal(1000), Decimal(0), "payments.payments"),
        ("paid_orders", Decimal(1), Decimal(0), "payments.payments"),
    ]
