"""What is for sale, and how it is bought: half of the traffic's transactions; actions.py has the rest."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from uuid import UUID, uuid4

from bilten_orchestration.stores.postgres import Connection

SAMPLE = 4_000

_ON_SALE = """
    select y.id, y.event_id, e.organizer_id, y.price, y.currency, c.minor_unit
    from tickets.ticket_types y join events.events e on e.id = y.event_id
    join financial.currencies c on c.code = y.currency
    where y.is_active and y.deleted_at is null and e.status = 'published' and e.deleted_at is null
      and y.sold + y.reserved < y.quantity and now() < y.sales_end and now() >= y.sales_start
    order by y.id limit %s
"""
_DOORS = """
    select id, organizer_id from events.events e where status = 'published' and deleted_at is null
        and end_date > now()
        and exists (select from tickets.tickets t where t.event_id = e.id and t.status = 'active')
    order by start_date limit 20
"""
_PEOPLE = """
    select id from users.users where id >= %s and status = 'active' and deleted_at is null
    order by id limit %s
"""


@dataclass(frozen=True, slots=True)
class Offer:
    """A ticket type on sale when it was last looked."""

    type: UUID
    event: UUID
    organizer: UUID
    price: Decimal
    currency: str
    minor_unit: int


@dataclass(frozen=True, slots=True)
class World:
    """What a worker chooses from; read again now and then. What it finds sold out or announces itself, it
    takes off or adds meanwhile. `doors` are those of the next events that somebody still has to enter."""

    offers: list[Offer]
    doors: list[tuple[UUID, UUID]]
    people: list[UUID]


def look_around(connection: Connection, rng: random.Random) -> World:
    """Ticket types on sale, the next events, and some people."""
    offers = [Offer(*row) for row in connection.execute(_ON_SALE, (SAMPLE,)).fetchall()]
    doors = [(row[0], row[1]) for row in connection.execute(_DOORS).fetchall()]
    people = [row[0] for row in connection.execute(_PEOPLE, (point(rng), SAMPLE)).fetchall()]
    if not people:
        people = [row[0] for row in connection.execute(_PEOPLE, (UUID(int=0), SAMPLE)).fetchall()]
    return World(offers, doors, people)


def point(rng: random.Random) -> UUID:
    """A random place to start looking in the order of ids: cheap at any size."""
    return UUID(int=rng.getrandbits(128))


def one(
    connection: Connection, query: str, parameters: Mapping[str, Any] | None = None
) -> tuple[Any, ...] | None:
    return connection.execute(query.encode(), parameters).fetchone()


def purchase(connection: Connection, rng: random.Random, offer: Offer, buyer: UUID) -> bool:
    """Payment, items, tickets and the counter of sold seats, together or not at all."""
    count = rng.choices((1, 2, 3, 4), (4, 4, 1, 1))[0]
    taken = one(
        connection,
        """
        update tickets.ticket_types y set sold = sold + %(count)s
        where y.id = %(type)s and y.is_active and y.deleted_at is null
            and y.sold + y.reserved + %(count)s <= y.quantity
          and exists (select from events.events e where e.id = y.event_id and e.status = 'published'
              and e.deleted_at is null)
        returning y.price
        """,
        {"count": count, "type": offer.type},
    )
    if taken is None:
        return False
    price: Decimal = taken[0]
    if price == 0:
        new_tickets(connection, offer, buyer, None, count)
        return True
    payment = _payment(connection, rng, offer, buyer, price, count, captured=True)
    tickets = new_tickets(connection, offer, buyer, payment[0], count)
    _items(connection, payment, price, tickets)
    return True


def abandoned_cart(connection: Connection, rng: random.Random, world: World) -> bool:
    """A payment that is never taken; its tickets are cancelled and hold no seat."""
    if not world.offers or not world.people:
        return False
    offer, buyer = rng.choice(world.offers), rng.choice(world.people)
    if offer.price == 0:
        return False
    payment = _payment(connection, rng, offer, buyer, offer.price, 1, captured=False)
    tickets = new_tickets(connection, offer, buyer, payment[0], 1, status="cancelled")
    _items(connection, payment, offer.price, tickets)
    return True


def _payment(
    connection: Connection,
    rng: random.Random,
    offer: Offer,
    buyer: UUID,
    price: Decimal,
    count: int,
    *,
    captured: bool,
) -> tuple[UUID, Decimal, Decimal]:
    unit = Decimal(1).scaleb(-offer.minor_unit)
    fee = (price * count * Decimal("0.05")).quantize(unit, ROUND_HALF_UP)
    tax = ((price * count + fee) * Decimal("0.10")).quantize(unit, ROUND_HALF_UP)
    row = connection.execute(
        """
        insert into payments.payments (user_id, event_id, amount, fee_amount, tax_amount, currency,
            payment_method,
                                       status, transaction_id, captured_at)
        values (%s, %s, %s, %s, %s, %s, %s, %s, %s, case when %s then clock_timestamp() end) returning id
        """,
        (
            buyer, offer.event, price * count + fee + tax, fee, tax, offer.currency,
            rng.choice(("card", "wallet")), "captured" if captured else rng.choice(("pending", "failed")),
            f"tr_{uuid4().hex}", captured,
        ),
    ).fetchone()  # fmt: skip
    assert row is not None  # noqa: S101 (for the type checker)
    return row[0], fee, tax


def new_tickets(
    connection: Connection,
    offer: Offer,
    holder: UUID,
    payment: UUID | None,
    count: int,
    status: str = "active",
) -> list[UUID]:
    tickets = [uuid4() for _ in range(count)]
    for ticket in tickets:
        connection.execute(
            """
            insert into tickets.tickets (id, ticket_type_id, event_id, user_id, payment_id, ticket_number,
                status, cancelled_at)
            values (%s, %s, %s, %s, %s, %s, %s::tickets.ticket_status,
                case when %s = 'cancelled' then clock_timestamp() end)
            """,
            (
                ticket,
                offer.type,
                offer.event,
                holder,
                payment,
                f"T-{ticket.hex[:20].upper()}",
                status,
                status,
            ),
        )
    return tickets


def _items(
    connection: Connection, payment: tuple[UUID, Decimal, Decimal], price: Decimal, tickets: list[UUID]
) -> None:
    number, fee, tax = payment
    rows: list[tuple[UUID, UUID | None, str, Decimal]] = [
        (number, ticket, "ticket", price) for ticket in tickets
    ]
    rows += [(number, None, kind, amount) for kind, amount in (("fee", fee), ("tax", tax)) if amount]
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into payments.payment_items (payment_id, ticket_id, item_type, amount)"
            " values (%s, %s, %s, %s)",
            rows,
        )
