"""What can be wrong with the built rows of a day, and which gates have to see it (test_every_gate.py)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tests.integration.dbt.scenario import ZERO, uid

SALES = "fct_event_sales_daily"
TYPES = "fct_ticket_type_sales_daily"
AUDIENCE = "fct_event_audience_daily"
ORGANIZATIONS = "fct_organization_audience_daily"
SOURCES = "fct_traffic_sources_daily"

COUNTS = ["tickets_sold", "comp_tickets", "tickets_cancelled", "check_ins"]
#: What one more of each does to net_revenue (docs/metrics.md).
NET_EFFECT = {
    "gross_sales": 1, "refunds": -1, "refund_reversals": 1, "chargebacks": -1, "chargeback_reversals": 1,
    "fees": -1, "tax": -1, "dispute_fees": 0,
}  # fmt: skip
SALES_METRICS = [*NET_EFFECT, "refunded_fees", "refunded_tax", "net_revenue", "paid_orders", *COUNTS]
STATES = ["visitors", "sessions", "buyers", "funnel_viewed", "funnel_checkout", "funnel_purchased"]

UNIT = "toDecimal64('0.001', 3)"
SEAT, VIP = f"ticket_type_id = '{uid('Seat')}'", f"ticket_type_id = '{uid('VIP')}'"


@dataclass(frozen=True)
class Fault:
    """`rows`: what the rows of the day become, by table; a SELECT in which {day} stands for those built.

    `evidence`: a statement against the control totals of the day instead. `seen_by`: gate -> failing rows.
    """

    seen_by: Mapping[str, int]
    rows: Mapping[str, str]
    evidence: str = ""


def changed(**values: str) -> str:
    return (
        f"select * replace ({', '.join(f'{value} as {name}' for name, value in values.items())}) from {{day}}"
    )


def more(*columns: str, by: str = "1") -> str:
    return changed(**{column: f"{column} + {by}" for column in columns})


def with_rows(*others: str) -> str:
    return " union all ".join(f"select * from ({other})" for other in others)


def nothing(*columns: str) -> dict[str, str]:
    return dict.fromkeys(columns, "0")


def nobody(*columns: str) -> dict[str, str]:
    return dict.fromkeys(columns, state())


def state(*names: str) -> str:
    ids = ", ".join(f"toUUID('{uid(name)}')" for name in names)
    return f"arrayReduce('uniqCombined64State(17)', cast([{ids}] as Array(UUID)))"


def negative_magnitudes() -> str:
    """One row per magnitude with that one below zero, made up for in the first row: all sums stay."""
    total = sum(NET_EFFECT.values())
    made_up = changed(**{name: f"{name} + 1" for name in NET_EFFECT}, net_revenue=f"net_revenue + ({total})")
    below = [
        changed(
            **nothing(*(metric for metric in SALES_METRICS if metric not in (name, "net_revenue"))),
            organizer_id=f"toUUID('{uid(name)}')",
            net_revenue=str(-effect),
            **{name: "-1"},
        )
        for name, effect in NET_EFFECT.items()
    ]
    return with_rows(made_up, *below)


LOST = "select * from {day} where false"

FAULTS = {
    # event sales
    "each metric is off": Fault(
        {"event_sales_equal_control_totals": 16, "ticket_type_sales_add_up_to_event_sales": 5},
        {SALES: more(*SALES_METRICS)},
    ),
    "a thousandth was a fee": Fault(
        {"event_sales_equal_control_totals": 2},
        {SALES: changed(fees=f"fees + {UNIT}", net_revenue=f"net_revenue - {UNIT}")},
    ),
    "the event of a day is lost": Fault(
        {"event_sales_equal_control_totals": 16, "ticket_type_sales_add_up_to_event_sales": 5}, {SALES: LOST}
    ),
    "a sales key twice": Fault(
        {"event_sales_one_row_per_key": 1},
        {SALES: with_rows("select * from {day}", changed(**nothing(*SALES_METRICS)))},
    ),
    "each magnitude below zero": Fault({"event_sales_not_negative": 8}, {SALES: negative_magnitudes()}),
    "net revenue of another organizer": Fault(
        {"event_sales_net_revenue_follows": 2},
        {SALES: with_rows(
            changed(net_revenue="net_revenue + 1"),
            changed(**nothing(*SALES_METRICS) | {
                "net_revenue": "-1", "organizer_id": f"toUUID('{uid('other')}')"}),
        )},
    ),
    "no organizer": Fault(
        {"event_sales_known_owner": 1}, {SALES: changed(organizer_id=f"toUUID('{ZERO}')")}
    ),
    "an organization that nobody knows": Fault(
        {"event_sales_known_owner": 1}, {SALES: changed(organization_id=f"toUUID('{uid('nobody')}')")}
    ),
    "an event that nobody knows": Fault(
        {"event_sales_known_owner": 1},
        {SALES: with_rows(
            "select * from {day}",
            changed(**nothing(*SALES_METRICS), event_id=f"toUUID('{uid('nothing')}')"),
        )},
    ),
    # ticket types
    "types and event are off alike": Fault(
        {"ticket_type_sales_equal_control_totals": 5, "event_sales_equal_control_totals": 6},
        {TYPES: changed(**{name: f"{name} + ({SEAT})" for name in ["ticket_face_sales", *COUNTS]}),
         SALES: more("gross_sales", "net_revenue", *COUNTS)},
    ),
    "the event is off, its types are not": Fault(
        {"ticket_type_sales_add_up_to_event_sales": 5, "event_sales_equal_control_totals": 6},
        {SALES: more("gross_sales", "net_revenue", *COUNTS)},
    ),
    "a ticket type is lost": Fault(
        {"ticket_type_sales_equal_control_totals": 2, "ticket_type_sales_add_up_to_event_sales": 2},
        {TYPES: f"select * from {{day}} where not ({VIP})"},
    ),
    "a type's key twice": Fault(
        {"ticket_type_sales_one_row_per_key": 2},
        {TYPES: with_rows("select * from {day}", changed(**nothing("ticket_face_sales", *COUNTS)))},
    ),
    "face value and capacity below zero": Fault(
        {"ticket_type_sales_not_negative": 2},
        {TYPES: changed(
            ticket_face_sales=f"ticket_face_sales + if({SEAT}, -1000, 1000)",
            capacity=f"if({VIP}, -1, capacity)",
        )},
    ),
    "a type of another event, and one that nobody knows": Fault(
        {"ticket_type_sales_known_type": 2},
        {TYPES: changed(
            ticket_type_id=f"if({SEAT}, toUUID('{uid('Other seat')}'), toUUID('{uid('nothing')}'))")},
    ),
    # audience
    "too many in the audience": Fault(
        {"event_audience_matches_clicks": 3},
        {AUDIENCE: changed(
            page_views="page_views + 1", visitors=state("a", "b", "c"), sessions=state("a", "b", "c"))},
    ),
    "too few in the audience": Fault(
        {"event_audience_matches_clicks": 3},
        {AUDIENCE: changed(
            page_views="page_views - 1", visitors=state("a"), sessions=state("a"),
            **nobody("funnel_viewed", "funnel_checkout", "funnel_purchased"))},
    ),
    "the audience of an event is lost": Fault(
        {"event_audience_matches_clicks": 3, "event_audience_buyers_match_payments": 1}, {AUDIENCE: LOST}
    ),
    "a buyer too many": Fault(
        {"event_audience_buyers_match_payments": 1}, {AUDIENCE: changed(buyers=state("a", "b"))}
    ),
    "a buyer too few": Fault(
        {"event_audience_buyers_match_payments": 1}, {AUDIENCE: changed(buyers=state())}
    ),
    "more purchases than checkouts": Fault(
        {"event_audience_funnel_narrows": 1}, {AUDIENCE: changed(funnel_purchased=state("a", "b"))}
    ),
    "more checkouts than views": Fault(
        {"event_audience_funnel_narrows": 1}, {AUDIENCE: changed(funnel_checkout=state("a", "b", "c"))}
    ),
    "more that viewed than visitors": Fault(
        {"event_audience_funnel_narrows": 1}, {AUDIENCE: changed(funnel_viewed=state("a", "b", "c"))}
    ),
    "an audience key twice": Fault(
        {"event_audience_one_row_per_key": 1},
        {AUDIENCE: with_rows("select * from {day}", changed(page_views="0", **nobody(*STATES)))},
    ),
    # organizations
    "too many in the organization's audience": Fault(
        {"organization_audience_matches_clicks": 3},
        {ORGANIZATIONS: changed(
            page_views="page_views + 1", visitors=state("a", "b", "c"), sessions=state("a", "b", "c"))},
    ),
    "too few in the organization's audience": Fault(
        {"organization_audience_matches_clicks": 3},
        {ORGANIZATIONS: changed(page_views="page_views - 1", visitors=state("a"), sessions=state("a"),
            **nobody("funnel_viewed", "funnel_checkout", "funnel_purchased"))},
    ),
    "the audience of an organization is lost": Fault(
        {"organization_audience_matches_clicks": 3, "organization_audience_buyers_match_payments": 1},
        {ORGANIZATIONS: LOST},
    ),
    "a buyer too many in the organization": Fault(
        {"organization_audience_buyers_match_payments": 1}, {ORGANIZATIONS: changed(buyers=state("a", "b"))}
    ),
    "more purchases than checkouts in the organization": Fault(
        {"organization_audience_funnel_narrows": 1},
        {ORGANIZATIONS: changed(funnel_purchased=state("a", "b"))},
    ),
    "more checkouts than views in the organization": Fault(
        {"organization_audience_funnel_narrows": 1},
        {ORGANIZATIONS: changed(funnel_checkout=state("a", "b", "c"))},
    ),
    "more that viewed than visitors in the organization": Fault(
        {"organization_audience_funnel_narrows": 1},
        {ORGANIZATIONS: changed(funnel_viewed=state("a", "b", "c"))},
    ),
    "an organization twice": Fault(
        {"organization_audience_one_row_per_key": 1},
        {ORGANIZATIONS: with_rows("select * from {day}", changed(page_views="0", **nobody(*STATES)))},
    ),
    # sources
    "an order of two sources": Fault(
        {"traffic_sources_equal_control_totals": 2},
        {SOURCES: with_rows(
            "select * from {day}",
            "select * replace ('partner' as source, 0 as sessions) from {day} where currency = 'USD'",
        )},
    ),
    "a session of two sources": Fault(
        {"traffic_sources_sessions_match_clicks": 1},
        {SOURCES: with_rows(
            "select * from {day}", "select * replace ('partner' as source) from {day} where currency = 'XXX'"
        )},
    ),
    "a session without a source": Fault(
        {"traffic_sources_sessions_match_clicks": 1},
        {SOURCES: changed(sessions="sessions - (currency = 'XXX')")},
    ),
    "a session again beside the money": Fault(
        {"traffic_sources_sessions_match_clicks": 1},
        {SOURCES: changed(sessions="sessions + (currency = 'USD')")},
    ),
    "a source twice": Fault(
        {"traffic_sources_one_row_per_key": 2},
        {SOURCES: with_rows(
            "select * from {day}", changed(**nothing("sessions", "paid_orders", "gross_sales")))},
    ),
    # what PostgreSQL said of the day
    "no control totals": Fault(
        {"event_sales_equal_control_totals": 17, "ticket_type_sales_equal_control_totals": 6,
         "traffic_sources_equal_control_totals": 3},
        {},
        evidence="delete from analytics.control_days where metric_date = '{date}'",
    ),
    "a control total is lost": Fault(
        {"event_sales_equal_control_totals": 2, "ticket_type_sales_equal_control_totals": 2,
         "traffic_sources_equal_control_totals": 1},
        {},
        evidence="delete from analytics.control_totals where metric_date = '{date}' and metric = 'check_ins'",
    ),
}  # fmt: skip
