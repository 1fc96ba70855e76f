"""Every trait of the trade is in the data at scale 0.1: a count per trait with a lower bound."""

# ruff: noqa: E501 (statements and their bounds side by side)

from __future__ import annotations

from datetime import date

import pytest

from bilten_orchestration.demo.load import LoadReport
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores.postgres import Connection

SALES = """payments.payments p join events.events e on e.id = p.event_id
    left join users.organizations o on o.id = e.organization_id"""

ORGANIZERS = "users.users u join users.organizations o on o.id = u.organization_id and u.role = 'organizer'"
# minutes ahead of UTC
OFFSET, OFFSET_IN_JULY = (
    f"extract(epoch from timestamptz '{day} 12:00+00' at time zone o.timezone - timestamp '{day} 12:00')::int / 60"
    for day in ("2026-01-15", "2026-07-15")
)

TRAITS = {
    # time and place
    "zones of organizers": (13, f"select count(distinct timezone) from {ORGANIZERS}"),
    "orders at UTC-10": (50, f"select count(*) from {SALES} where {OFFSET} = -600"),
    "orders at UTC+13 all year": (50, f"select count(*) from {SALES} where {OFFSET} = 780 and {OFFSET_IN_JULY} = 780"),
    "organizers in zones of half hours": (2, f"select count(distinct timezone) from {ORGANIZERS} where {OFFSET} % 60 = 30"),
    "organizers in zones of 45 minutes": (1, f"select count(distinct timezone) from {ORGANIZERS} where {OFFSET} % 60 = 45"),
    "organizers whose clocks change, in the north": (3, f"""
        select count(distinct timezone) from {ORGANIZERS} where {OFFSET_IN_JULY} > {OFFSET}"""),
    "organizers whose clocks change, in the south": (2, f"""
        select count(distinct timezone) from {ORGANIZERS} where {OFFSET_IN_JULY} < {OFFSET}"""),
    "organizations of one, two and three organizers, and none without": (3, """
        select count(distinct n) * (max(n) = 3)::int * (min(n) = 1)::int from (select count(u.id) as n
        from users.organizations o left join users.users u on u.organization_id = o.id and u.role = 'organizer'
        group by o.id) x"""),
    "staff and an administrator": (2, "select count(distinct role) from users.users where role in ('staff', 'admin')"),
    "events without an organization": (1, "select count(*) from events.events where organization_id is null"),
    "events on tour, in a zone other than their organization's": (5, """
        select count(*) from events.events e join users.organizations o on o.id = e.organization_id
        where o.timezone <> e.timezone"""),
    "payments within three minutes of the organization's midnight, twice what chance puts there": (60, f"""
        select count(*) from {SALES} where abs(extract(epoch from
        (p.captured_at at time zone o.timezone)::time - time '12:00')) > 43020"""),
    "payments within two hours of a clock change": (20, f"""
        select count(*) from {SALES} where extract(timezone from p.created_at) = 0 and
        (p.created_at + interval '1 hour') at time zone e.timezone - (p.created_at - interval '1 hour') at time zone e.timezone
        <> interval '2 hours'"""),
    "orders in the second run of a repeated local hour": (1, f"""
        select count(*) from {SALES} where ((p.created_at at time zone e.timezone) at time zone e.timezone) <> p.created_at"""),
    "more events in a northern summer month than in a winter one": (1, """
        select (avg(n) filter (where extract(month from month) in (5, 6, 7))
              > 1.2 * avg(n) filter (where extract(month from month) in (11, 12, 1, 2)))::int
        from (select date_trunc('month', start_date) as month, count(*) as n from events.events
              where timezone like 'Europe/%' or timezone like 'America/%' or timezone like 'Asia/%' group by 1) x"""),
    "evenings sell more than nights": (1, f"""
        select (count(*) filter (where h between 19 and 21) > 3 * count(*) filter (where h between 2 and 4))::int
        from (select extract(hour from p.created_at at time zone e.timezone) h from {SALES}) x"""),
    "Fridays sell more than Sundays": (1, f"""
        select (count(*) filter (where d = 5) > 1.2 * count(*) filter (where d = 7))::int
        from (select extract(isodow from p.created_at at time zone e.timezone) d from {SALES}) x"""),
    "on-sale spikes: a fifth of an event's orders within two days": (5, """
        select count(*) from (select y.event_id from payments.payments p join
            (select event_id, min(sales_start) opens from tickets.ticket_types group by 1) y on y.event_id = p.event_id
        group by y.event_id having count(*) > 40 and
        count(*) filter (where p.created_at < y.opens + interval '2 days') > 0.2 * count(*)) x"""),
    # money
    "currencies": (8, "select count(distinct currency) from payments.payments where captured_at is not null"),
    "yen": (100, "select count(*) from payments.payments where currency = 'JPY' and captured_at is not null"),
    "dinars of Kuwait": (100, "select count(*) from payments.payments where currency = 'KWD' and captured_at is not null"),
    "fils of Kuwait, which hundredths would lose": (100, """
        select count(*) from payments.payments where currency = 'KWD' and amount <> round(amount, 2)"""),
    "refunds in yen and in dinars of Kuwait": (2, """
        select count(distinct p.currency) from payments.refunds r join payments.payments p on p.id = r.payment_id
        where p.currency in ('JPY', 'KWD') and r.refunded_at is not null"""),
    "fees": (5000, "select count(*) from payments.payment_items where item_type = 'fee'"),
    "payments without a fee": (100, "select count(*) from payments.payments where fee_amount = 0"),
    "taxes": (5000, "select count(*) from payments.payment_items where item_type = 'tax'"),
    "countries without tax": (50, "select count(*) from payments.payments where tax_amount = 0"),
    "discounts on the order": (100, "select count(*) from payments.payment_items where item_type = 'discount' and ticket_id is null"),
    "discounts on a ticket": (50, "select count(*) from payments.payment_items where item_type = 'discount' and ticket_id is not null"),
    "addons on the order": (50, "select count(*) from payments.payment_items where item_type = 'addon' and ticket_id is null"),
    "addons on a ticket": (50, "select count(*) from payments.payment_items where item_type = 'addon' and ticket_id is not null"),
    "free tickets in a paid order": (5, """
        select count(*) from payments.payment_items where item_type = 'ticket' and amount = 0"""),
    "pending payments": (20, "select count(*) from payments.payments where status = 'pending'"),
    "failed payments": (100, "select count(*) from payments.payments where status = 'failed'"),
    "captured days after the order": (100, """
        select count(*) from payments.payments where captured_at > created_at + interval '12 hours'"""),
    "soft-deleted payments": (5, "select count(*) from payments.payments where deleted_at is not null"),
    "returning buyers": (1000, """
        select count(*) from (select user_id from payments.payments group by 1 having count(*) > 1) x"""),
    "buyers of a single order": (300, """
        select count(*) from (select user_id from payments.payments group by 1 having count(*) = 1) x"""),
    "exchange rates, one a day": (600, "select count(distinct rate_date) from financial.exchange_rates"),
    "payouts, paid and pending": (2, "select count(distinct status) from financial.payouts where status <> 'failed'"),
    # what came after
    "full refunds, asked for weeks later": (20, """
        select count(*) from payments.refunds r join payments.payments p on p.id = r.payment_id
        where r.reason = 'requested by buyer' and r.amount = p.amount and r.refunded_at > p.captured_at + interval '14 days'"""),
    "refunds with fee and tax parts": (50, "select count(*) from payments.refunds where fee_amount > 0 and tax_amount > 0"),
    "refunds that keep the fee": (10, """
        select count(*) from payments.refunds r join payments.payments p on p.id = r.payment_id
        where r.ticket_id is null and r.fee_amount = 0 and p.fee_amount > 0"""),
    "refunds of one ticket": (50, "select count(*) from payments.refunds where ticket_id is not null"),
    "partial refunds, of a ticket, weeks later": (50, """
        select count(*) from payments.refunds r join payments.payments p on p.id = r.payment_id
        where r.ticket_id is not null and r.amount < p.amount and r.refunded_at > p.captured_at + interval '14 days'"""),
    "partial refunds, of no ticket": (20, """
        select count(*) from payments.refunds r where r.reason = 'goodwill' and r.refunded_at is not null"""),
    "two refunds of one payment": (10, """
        select count(*) from (select payment_id from payments.refunds where status = 'succeeded' group by 1 having count(*) > 1) x"""),
    "refunds reversed": (10, "select count(*) from payments.refunds where status = 'reversed'"),
    "reversed and sent again": (5, "select count(*) from payments.refunds where reason = 'sent again'"),
    "refunds that failed": (3, "select count(*) from payments.refunds where status = 'failed'"),
    "disputes won": (10, "select count(*) from payments.chargebacks where status = 'won'"),
    "disputes lost": (10, "select count(*) from payments.chargebacks where status = 'lost'"),
    "disputes open": (1, "select count(*) from payments.chargebacks where status = 'open'"),
    "disputes of a part": (3, """
        select count(*) from payments.chargebacks b join payments.payments p on p.id = b.payment_id where b.amount < p.amount"""),
    "refunded in part and disputed": (1, """
        select count(*) from payments.chargebacks b where exists
        (select from payments.refunds r where r.payment_id = b.payment_id and r.status = 'succeeded')"""),
    # events and tickets
    "cancelled events with mass refunds": (2, """
        select count(*) from (select p.event_id from payments.refunds r join payments.payments p on p.id = r.payment_id
        join events.events e on e.id = p.event_id and e.status = 'cancelled'
        where r.reason = 'event cancelled' group by 1 having count(*) > 5) x"""),
    "postponed events, sold before and after": (1, """
        select count(*) from events.events e join lateral (select (e.metadata ->> 'postponed_from')::timestamptz as at) first
        on e.start_date > first.at + interval '10 days'
        where exists (select from payments.payments p where p.event_id = e.id and p.created_at < first.at)
          and exists (select from payments.payments p where p.event_id = e.id and p.created_at > first.at)"""),
    "postponed events, with refunds for it": (1, """
        select count(distinct p.event_id) from payments.refunds r join payments.payments p on p.id = r.payment_id
        join events.events e on e.id = p.event_id and e.metadata ? 'postponed_from' where r.reason = 'event postponed'"""),
    "events that never sold, though on sale for a month": (2, """
        select count(*) from events.events e where status in ('published', 'completed') and deleted_at is null
        and not exists (select from tickets.tickets t where t.event_id = e.id)
        and exists (select from tickets.ticket_types y where y.event_id = e.id and y.price > 0
            and least(y.sales_end, e.start_date, timestamptz '2026-06-30 00:00+00') > y.sales_start + interval '28 days')"""),
    "drafts": (2, "select count(*) from events.events where status = 'draft'"),
    "soft-deleted events": (1, "select count(*) from events.events where deleted_at is not null"),
    "free events": (2, """
        select count(*) from (select event_id from tickets.tickets where payment_id is null and not is_complimentary
        and transferred_from is null group by 1) x"""),
    "sold out": (5, "select count(*) from tickets.ticket_types where sold = quantity and sold > 20"),
    "several ticket types": (50, """
        select count(*) from (select event_id from tickets.ticket_types group by 1 having count(*) >= 3) x"""),
    "seats in carts": (5, "select count(*) from tickets.ticket_types where reserved > 0"),
    "groups": (20, "select count(*) from (select payment_id from tickets.tickets group by 1 having count(*) between 9 and 25) x"),
    "complimentary tickets": (100, "select count(*) from tickets.tickets where is_complimentary"),
    "tickets of nobody's account": (20, "select count(*) from tickets.tickets where user_id is null"),
    "check-ins around the door": (5000, """
        select count(*) from tickets.tickets t join events.events e on e.id = t.event_id
        where t.checked_in_at between e.start_date - interval '2 hours' and e.start_date + interval '3 hours'"""),
    "no-shows": (500, """
        select count(*) from tickets.tickets t join events.events e on e.id = t.event_id
        where t.status = 'active' and e.status = 'completed'"""),
    "transferred": (100, "select count(*) from tickets.tickets where status = 'transferred'"),
    "transferred twice": (5, """
        select count(*) from tickets.tickets where status = 'transferred' and transferred_from is not null"""),
    "transferred and attended": (50, """
        select count(*) from tickets.tickets where status = 'checked_in' and transferred_from is not null"""),
    "cancelled before they were refunded": (20, """
        select count(*) from tickets.tickets where status = 'refunded' and cancelled_at is not null"""),
    "refunded without a cancellation, named by the refund": (20, """
        select count(*) from tickets.tickets t where t.status = 'refunded' and t.cancelled_at is null
        and exists (select from payments.refunds r where r.ticket_id = t.id and r.refunded_at is not null)"""),
    "cancelled at the moment at which the whole order was refunded": (100, """
        select count(distinct t.id) from tickets.tickets t join payments.refunds r on r.payment_id = t.payment_id
        and r.ticket_id is null where t.status = 'refunded' and t.cancelled_at = r.refunded_at"""),
    "abandoned carts": (200, """
        select count(*) from tickets.tickets t join payments.payments p on p.id = t.payment_id
        where p.captured_at is null and t.status = 'cancelled'"""),
    "capacity raised": (5, """
        select count(*) from tickets.ticket_type_capacity_log a join tickets.ticket_type_capacity_log b
        on b.ticket_type_id = a.ticket_type_id and b.valid_from > a.valid_from where b.quantity > a.quantity"""),
    "capacity lowered": (5, """
        select count(*) from tickets.ticket_type_capacity_log a join tickets.ticket_type_capacity_log b
        on b.ticket_type_id = a.ticket_type_id and b.valid_from > a.valid_from where b.quantity < a.quantity"""),
    # after the fact
    "tombstones of several tables": (6, "select count(distinct table_name) from system.deleted_rows"),
    "tables with updates in the audit": (4, "select count(distinct table_name) from audit.audit_log where action = 'UPDATE'"),
    "tables with deletes in the audit": (3, "select count(distinct table_name) from audit.audit_log where action = 'DELETE'"),
    "audit masks e-mail": (1, "select count(*) from audit.audit_log where after ->> 'email' like '%***@%'"),
    "soft-deleted users": (5, "select count(*) from users.users where deleted_at is not null"),
    "soft-deleted venues": (1, "select count(*) from events.venues where deleted_at is not null"),
    # around it
    "brand settings": (10, "select count(*) from branding.brand_settings"),
    "preferences": (100, "select count(*) from users.user_preferences"),
    "sessions, some revoked": (10, "select count(*) from authentication.sessions where revoked_at is not null"),
    "failed logins": (50, "select count(*) from authentication.login_attempts where not succeeded"),
    "behaviour in many months": (10, "select count(distinct date_trunc('month', created_at)) from users.user_behavior"),
    "analytics in many months": (15, "select count(distinct date_trunc('month', created_at)) from events.event_analytics"),
    "files": (50, "select count(*) from assets.files"),
    "months ready ahead": (4, """
        select count(*) from pg_class where relname ~ '^audit_log_p' and relkind = 'r'
        and relname > 'audit_log_p' || to_char(now(), 'YYYYMM')"""),
}  # fmt: skip


@pytest.mark.parametrize("trait", TRAITS)
def test_trait(owner: Connection, trait: str) -> None:
    bound, query = TRAITS[trait]
    row = owner.execute(query.encode()).fetchone()
    assert row is not None
    assert row[0] >= bound, f"{trait}: {row[0]}, wanted at least {bound}"


def test_totals_are_those_of_the_scale(owner: Connection, loaded: tuple[Settings, LoadReport]) -> None:
    """A tenth of 1,500 events, 120,000 orders and 300,000 tickets; organizations as many as it takes for all zones."""
    late = loaded[1].late_changes
    found = owner.execute("""
        select (select count(*) from users.organizations), (select count(*) from events.events) + %s,
            (select count(*) from payments.payments) + %s, (select count(*) from tickets.tickets)""",
        (late["drafts thrown away"], late["payments erased"])).fetchone()  # fmt: skip
    assert found is not None
    assert found[:3] == (15, 150, 12_000)
    assert found[3] == pytest.approx(30_000, rel=0.05)


def test_events_lie_from_18_months_back_to_6_ahead(owner: Connection, today: date) -> None:
    assert today == date(2026, 6, 30), "the bounds below follow from it"
    found = owner.execute("""
        select min(start_date)::date, max(start_date)::date, count(distinct date_trunc('month', start_date)),
            count(*) filter (where start_date >= '2026-06-30') from events.events""").fetchone()
    assert found is not None
    first, last, months, ahead = found
    # the evening of a month's first day may be the day before in UTC
    assert date(2024, 11, 30) <= first < date(2025, 1, 15)
    assert date(2026, 12, 1) < last <= date(2026, 12, 31)
    assert months >= 23, "of 25: a month or two may be without at this scale"
    assert 30 <= ahead <= 75, "a quarter of the time"


def test_no_ticket_is_gone_without_a_moment(owner: Connection) -> None:
    """One that is would show as held, and as a no-show: metrics count moments, and no status."""
    found = owner.execute("""
        select count(*) filter (where not t.said), count(*) filter (where t.said and t.cancelled_at is null),
            count(*) filter (where t.cancelled_at is not null and not t.named)
        from (
            select cancelled_at, n.named, cancelled_at is not null or n.named as said from tickets.tickets
            cross join lateral (select exists (select from payments.refunds r
                where r.ticket_id = tickets.id and r.refunded_at is not null) as named) n
            where status in ('refunded', 'cancelled')) t""").fetchone()
    assert found is not None
    silent, by_the_refund_alone, by_themselves = found
    assert silent == 0
    assert min(by_the_refund_alone, by_themselves) > 20


def test_whole_orders_refunded_leave_no_ticket_held(owner: Connection) -> None:
    """Whoever was not handed on or scanned is cancelled with the refund, or was before it."""
    found = owner.execute("""
        select count(*) filter (where t.cancelled_at is null or t.cancelled_at > r.refunded_at), count(*)
        from (select payment_id, min(refunded_at) as refunded_at from payments.refunds
              where ticket_id is null and reason in ('requested by buyer', 'event postponed')
                and refunded_at is not null group by 1) r
        join tickets.tickets t on t.payment_id = r.payment_id
        where t.status not in ('transferred', 'checked_in')""").fetchone()
    assert found is not None
    assert found[0] == 0
    assert found[1] > 100


def test_nothing_is_later_than_the_day_it_was_made_for(owner: Connection, today: object) -> None:
    for column in (
        "payments.payments.captured_at",
        "tickets.tickets.checked_in_at",
        "payments.refunds.refunded_at",
    ):
        table, _, name = column.rpartition(".")
        row = owner.execute(f"select max({name}) < %s from {table}".encode(), (today,)).fetchone()
        assert row == (True,), column
