"""What happens to a living platform, one ordinary transaction each, as the application's role.

Every action locks what it decides on (a payment before its refunds, a ticket type by its counter), so that
several workers keep the rules of validate.py together. Each returns False where there was nothing to do: the
type was sold out, no dispute is open. Amounts are exact decimals of the currency's minor unit.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

from bilten_orchestration.demo.buying import Offer, World, abandoned_cart, one, point
from bilten_orchestration.stores.postgres import Connection

OFFERS_AT_LEAST = 40
"""Ticket types on sale below which events are announced: what was loaded sells out, or is over one day."""

# The one definition of a payment's state, the same as the rule in validate.py.
_SETTLE = """
    update payments.payments p set status = (case
        when exists (select from payments.chargebacks b where b.payment_id = p.id
            and b.status <> 'won') then 'disputed'
        when r.amount = p.amount then 'refunded'
        when r.amount > 0 then 'partially_refunded'
        else 'captured' end)::payments.payment_status
    from (select coalesce(sum(amount), 0) as amount from payments.refunds where payment_id = %(id)s
        and status = 'succeeded') r
    where p.id = %(id)s
"""
_RELEASE = """
    with gone as (
        update tickets.tickets set status = 'refunded', cancelled_at = clock_timestamp()
        where {which} and status = 'active' returning ticket_type_id)
    update tickets.ticket_types y set sold = y.sold - g.seats
    from (select ticket_type_id, count(*) as seats from gone group by 1 order by 1) g
        where y.id = g.ticket_type_id
"""


def _captured_payment(connection: Connection, rng: random.Random) -> tuple[Any, ...] | None:
    """A captured payment from which nothing was given back yet, locked."""
    return one(
        connection,
        """
        select id, amount, fee_amount, tax_amount from payments.payments p
        where id >= %(point)s and status = 'captured' and deleted_at is null
          and not exists (select from payments.refunds r where r.payment_id = p.id
              and r.status in ('pending', 'succeeded'))
        order by id limit 1 for update skip locked
        """,
        {"point": point(rng)},
    )


def refund(connection: Connection, rng: random.Random, world: World) -> bool:
    """The whole order, or one ticket of it."""
    paid = _captured_payment(connection, rng)
    if paid is None:
        return False
    payment, amount, fee, tax = paid
    ticket = None
    if rng.random() < 0.5:
        row = one(
            connection,
            """
            select t.id, i.amount from tickets.tickets t
            join payments.payment_items i on i.ticket_id = t.id and i.item_type = 'ticket'
            where t.payment_id = %(id)s and t.status = 'active' and i.amount > 0 and i.amount <= %(left)s
            order by t.id limit 1
            """,
            {"id": payment, "left": amount - fee - tax},
        )
        if row is None:
            return False
        ticket, amount, fee, tax = row[0], row[1], 0, 0
    connection.execute(
        """
        insert into payments.refunds (payment_id, ticket_id, amount, fee_amount, tax_amount, status,
            reason, refunded_at)
        values (%s, %s, %s, %s, %s, 'succeeded', 'requested by buyer', clock_timestamp())
        """,
        (payment, ticket, amount, fee, tax),
    )
    which = "id = %(ticket)s" if ticket else "payment_id = %(id)s"
    connection.execute(_RELEASE.format(which=which).encode(), {"ticket": ticket, "id": payment})
    connection.execute(_SETTLE, {"id": payment})
    return True


def reversal(connection: Connection, rng: random.Random, world: World) -> bool:
    """A refund that failed after it was posted."""
    row = one(
        connection,
        "select id, payment_id from payments.refunds where id >= %(point)s and status = 'succeeded'"
        " order by id limit 1",
        {"point": point(rng)},
    )
    if row is None:
        return False
    connection.execute("select from payments.payments where id = %s for update", (row[1],))
    changed = connection.execute(
        "update payments.refunds set status = 'reversed', reversed_at = clock_timestamp()"
        " where id = %s and status = 'succeeded'",
        (row[0],),
    ).rowcount
    connection.execute(_SETTLE, {"id": row[1]})
    return changed == 1


def chargeback(connection: Connection, rng: random.Random, world: World) -> bool:
    """A bank takes a payment back."""
    paid = _captured_payment(connection, rng)
    if paid is None:
        return False
    connection.execute(
        """
        insert into payments.chargebacks (payment_id, amount, dispute_fee, status, reason, charged_back_at)
        values (%s, %s, 15, 'open', 'unrecognized', clock_timestamp())
        """,
        (paid[0], paid[1]),
    )
    connection.execute(_SETTLE, {"id": paid[0]})
    return True


def ruling(connection: Connection, rng: random.Random, world: World) -> bool:
    """An open dispute is won or lost."""
    row = one(
        connection,
        "select id, payment_id from payments.chargebacks where id >= %(point)s and status = 'open'"
        " order by id limit 1",
        {"point": point(rng)},
    )
    if row is None:
        return False
    connection.execute("select from payments.payments where id = %s for update", (row[1],))
    won = rng.random() < 0.5
    changed = connection.execute(
        """
        update payments.chargebacks
            set status = case when %(won)s then 'won' else 'lost' end::payments.chargeback_status,
            reversed_at = case when %(won)s then clock_timestamp() end
        where id = %(id)s and status = 'open'
        """,
        {"won": won, "id": row[0]},
    ).rowcount
    connection.execute(_SETTLE, {"id": row[1]})
    return changed == 1


def check_in(connection: Connection, rng: random.Random, world: World) -> bool:
    """Somebody is scanned at one of the next doors."""
    if not world.doors:
        return False
    event, organizer = rng.choice(world.doors)
    return (
        connection.execute(
            """
            update tickets.tickets
                set status = 'checked_in', checked_in_at = clock_timestamp(), checked_in_by = %s
            where id = (select id from tickets.tickets where event_id = %s and status = 'active' and id >= %s
                        order by id limit 1 for update skip locked)
            """,
            (organizer, event, point(rng)),
        ).rowcount
        == 1
    )


def transfer(connection: Connection, rng: random.Random, world: World) -> bool:
    """The old ticket ends, a new one of somebody else begins; the seat stays taken."""
    if not world.offers or not world.people:
        return False
    row = one(
        connection,
        """
        update tickets.tickets set status = 'transferred'
        where id = (select id from tickets.tickets where event_id = %(event)s and status = 'active'
            and id >= %(point)s
                    order by id limit 1 for update skip locked)
        returning id, ticket_type_id, event_id, is_complimentary
        """,
        {"event": rng.choice(world.offers).event, "point": point(rng)},
    )
    if row is None:
        return False
    ticket = uuid4()
    connection.execute(
        """
        insert into tickets.tickets (id, ticket_type_id, event_id, user_id, ticket_number,
            is_complimentary, transferred_from)
        values (%s, %s, %s, %s, %s, %s, %s)
        """,
        (ticket, row[1], row[2], rng.choice(world.people), f"T-{ticket.hex[:20].upper()}", row[3], row[0]),
    )
    return True


def comp(connection: Connection, rng: random.Random, world: World) -> bool:
    """Given away, or an earlier one taken back: the row is deleted."""
    if not world.offers:
        return False
    if rng.random() < 0.3:
        row = one(
            connection,
            """
            delete from tickets.tickets t where id = (
                select id from tickets.tickets c where is_complimentary and status = 'active'
                    and transferred_from is null
                  and event_id = %(event)s order by id limit 1 for update skip locked)
            returning ticket_type_id
            """,
            {"event": rng.choice(world.offers).event},
        )
        if row is None:
            return False
        connection.execute("update tickets.ticket_types set sold = sold - 1 where id = %s", (row[0],))
        return True
    offer, ticket = rng.choice(world.offers), uuid4()
    taken = connection.execute(
        "update tickets.ticket_types set sold = sold + 1 where id = %s and sold + reserved < quantity",
        (offer.type,),
    ).rowcount
    if taken:
        connection.execute(
            """
            insert into tickets.tickets (id, ticket_type_id, event_id, ticket_number, is_complimentary)
            values (%s, %s, %s, %s, true)
            """,
            (ticket, offer.type, offer.event, f"T-{ticket.hex[:20].upper()}"),
        )
    return bool(taken)


def edit_event(connection: Connection, rng: random.Random, world: World) -> bool:
    """A new text, now and then another hour."""
    if not world.offers:
        return False
    later = 30 if rng.random() < 0.1 else 0
    return (
        connection.execute(
            """
            update events.events set description = %s, start_date = start_date + make_interval(mins => %s),
                end_date = end_date + make_interval(mins => %s)
            where id = %s and start_date > now()
            """,
            (
                f"Doors half an hour before. Revision {rng.randrange(10**6)}.",
                later,
                later,
                rng.choice(world.offers).event,
            ),
        ).rowcount
        == 1
    )


def announce(connection: Connection, rng: random.Random, world: World) -> bool:
    """Another night of some event, with the same ticket types, when little is left on sale."""
    if len(world.offers) >= OFFERS_AT_LEAST:
        return False
    event = uuid4()
    row = one(
        connection,
        """
        with model as (
            select e.* from events.events e
            where e.id >= %(point)s and e.status in ('published', 'completed') and e.deleted_at is null
              and exists (select from tickets.ticket_types y where y.event_id = e.id and y.deleted_at is null)
            order by e.id limit 1),
        made as (
            insert into events.events (id, organizer_id, organization_id, venue_id, title, description,
                category, tags, start_date, end_date, timezone, location, capacity, status, settings)
            select %(event)s, organizer_id, organization_id, venue_id, title, description, category, tags,
                start_date + nights.ahead, end_date + nights.ahead, timezone, location, capacity, 'published',
                settings
            from model cross join lateral (
                select make_interval(days => current_date - start_date::date + %(days)s) as ahead) nights)
        select id, organizer_id from model
        """,
        {"event": event, "days": rng.randint(7, 90), "point": point(rng)},
    )
    if row is None:
        return False
    model, organizer = row
    types = connection.execute(
        """
        insert into tickets.ticket_types (event_id, name, description, price, currency, quantity,
            sales_start, sales_end, settings)
        select e.id, y.name, y.description, y.price, y.currency, greatest(y.quantity, 50),
            now(), e.start_date, y.settings
        from tickets.ticket_types y join events.events e on e.id = %s
        where y.event_id = %s and y.deleted_at is null
        returning id, price, currency, financial.minor_unit(currency::text)
        """,
        (event, model),
    ).fetchall()
    world.offers.extend(Offer(number, event, organizer, *price) for number, *price in types)
    return True


def edit_venue(connection: Connection, rng: random.Random, world: World) -> bool:
    return (
        connection.execute(
            """
            update events.venues set capacity = greatest(capacity + %s, 1) where id = (
                select id from events.venues where id >= %s and deleted_at is null order by id limit 1)
            """,
            (rng.randint(-5, 5), point(rng)),
        ).rowcount
        == 1
    )


def edit_capacity(connection: Connection, rng: random.Random, world: World) -> bool:
    """More seats; the capacity log remembers."""
    if not world.offers:
        return False
    changed = connection.execute(
        "update tickets.ticket_types set quantity = quantity + %s where id = %s",
        (rng.randint(1, 10), rng.choice(world.offers).type),
    )
    return changed.rowcount == 1


def forget_failed_payment(connection: Connection, rng: random.Random, world: World) -> bool:
    """A payment that was never taken is deleted, with its items and tickets."""
    row = one(
        connection,
        """
        select id from payments.payments p where id >= %(point)s and status = 'failed'
            and created_at < now() - interval '1 second'
        order by id limit 1 for update skip locked
        """,
        {"point": point(rng)},
    )
    if row is None:
        return False
    connection.execute("delete from payments.payment_items where payment_id = %s", row)
    connection.execute("delete from tickets.tickets where payment_id = %s", row)
    connection.execute("delete from payments.payments where id = %s", row)
    return True


Action = Callable[[Connection, random.Random, World], bool]

ACTIONS: Mapping[str, tuple[int, Action]] = {
    "refund": (6, refund),
    "reversal": (1, reversal),
    "chargeback": (1, chargeback),
    "ruling": (1, ruling),
    "check_in": (14, check_in),
    "transfer": (4, transfer),
    "comp": (3, comp),
    "abandoned_cart": (4, abandoned_cart),
    "edit_event": (4, edit_event),
    "announce": (1, announce),
    "edit_venue": (2, edit_venue),
    "edit_capacity": (1, edit_capacity),
    "forget_failed_payment": (1, forget_failed_payment),
}
"""Weights against `purchase` (35) and `page_view` (25), which traffic.py does itself."""
PURCHASE_WEIGHT = 35
PAGE_VIEW_WEIGHT = 25
