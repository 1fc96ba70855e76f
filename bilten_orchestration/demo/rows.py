"""Generated values as rows of their tables, in the order that foreign keys ask for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bilten_orchestration.demo import copying as c
from bilten_orchestration.demo import words
from bilten_orchestration.demo.aftermath import (
    CHARGEBACK_STATUSES,
    DISPUTE_REASONS,
    REASONS,
    REFUND_STATUSES,
    Chargebacks,
    Refunds,
)
from bilten_orchestration.demo.capacity import Seats
from bilten_orchestration.demo.catalogue import (
    CANCELLED,
    CATEGORY_NAMES,
    DELETED,
    DRAFT,
    ZONES,
    Catalogue,
)
from bilten_orchestration.demo.copying import Tuples, tuples
from bilten_orchestration.demo.people import Buyers
from bilten_orchestration.demo.plan import DAY, HOUR, NONE, Bools, Bytes, Ints, Plan, uuids
from bilten_orchestration.demo.sales import (
    ITEM_TYPES,
    METHODS,
    PAYMENT_STATUSES,
    PENDING,
    TICKET_STATUSES,
    Sales,
    Tickets,
)

_CROCKFORD = np.frombuffer(b"0123456789ABCDEFGHJKMNPQRSTVWXYZ", dtype=np.uint8)
_HEX = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)
_GATEWAY = (
    {"gateway": "example-pay", "outcome": "approved", "risk": "normal"},
    {"gateway": "example-pay", "outcome": "approved", "risk": "elevated"},
    {"gateway": "example-pay", "outcome": "declined", "code": "insufficient_funds"},
    {"gateway": "example-pay", "outcome": "declined", "code": "expired_card"},
)


def block_rows(
    plan: Plan,
    offer: Catalogue,
    people: Buyers,
    sold: Sales,
    seats: Seats,
    refunds: Refunds,
    chargebacks: Chargebacks,
    low: int,
    high: int,
) -> Iterator[Tuples]:
    """Everything of the events low..high."""
    yield _events(plan, offer, seats, low, high)
    yield _ticket_types(plan, offer, seats)
    yield _capacity_log(offer, seats)
    yield _payments(plan, offer, people, sold, refunds, chargebacks)
    yield _tickets(plan, offer, people, sold)
    yield _items(plan, offer, sold)
    yield _refunds(offer, sold, refunds)
    yield _chargebacks(offer, sold, chargebacks)


def latest(*moments: Ints) -> Ints:
    """The last of several moments, where NONE is never the last."""
    out = moments[0]
    for other in moments[1:]:
        out = np.maximum(out, other)
    return out


def hexadecimal(raw: Bytes) -> Bytes:
    """(n, k) bytes as (n, 2k) hexadecimal digits."""
    out = np.empty((raw.shape[0], raw.shape[1] * 2), dtype=np.uint8)
    out[:, 0::2] = _HEX[raw >> 4]
    out[:, 1::2] = _HEX[raw & 15]
    return out


def _events(plan: Plan, offer: Catalogue, seats: Seats, low: int, high: int) -> Tuples:
    rng = plan.stream("event rows", low)
    events = offer.events
    rows = np.arange(low, high)
    n = len(rows)
    kind, over = events.kind[rows], events.end[rows] < plan.cutoff
    status = np.where(over, 3, 1)
    status = np.where(over & (rng.random(n) < 0.02), 1, status)
    status = np.where(kind == DRAFT, 0, np.where(kind == CANCELLED, 2, status))
    deleted = np.where(
        kind == DELETED, events.created[rows] + (rng.uniform(0.1, 1, n) * DAY).astype(np.int64), NONE
    )
    capacity = np.bincount(
        offer.types.event[seats.first : seats.first + len(seats.quantity)] - low,
        weights=seats.quantity,
        minlength=n,
    )
    cities = [words.CITIES[city] for city in events.city[rows]]
    names = [offer.venues.names[venue] if venue >= 0 else None for venue in events.venue[rows]]
    places = [
        None
        if name is None
        else {
            "venue": name,
            "city": city.name,
            "country": city.country,
            "lat": city.latitude,
            "lon": city.longitude,
        }
        for name, city in zip(names, cities, strict=True)
    ]
    moved = [
        {"postponed_from": f"{np.datetime64(int(before), 'us')}Z"} if at != NONE else {}
        for before, at in zip(events.first_start[rows], events.postponed_at[rows], strict=True)
    ]
    tags = [
        sorted({words.TAGS[int(t)] for t in rng.integers(0, len(words.TAGS), rng.integers(0, 4))})
        for _ in rows
    ]
    texts = [
        f"{events.titles[e]} in {city.name}. Doors half an hour before."
        for e, city in zip(rows, cities, strict=True)
    ]
    return tuples(
        "events.events",
        {
            "id": c.uuid(events.ids[rows]),
            "organizer_id": c.reference(offer.organizers.ids, events.organizer[rows]),
            "organization_id": c.reference(offer.organizations.ids, events.organization[rows]),
            "venue_id": c.reference(offer.venues.ids, events.venue[rows]),
            "title": c.text([events.titles[e] for e in rows]),
            "description": c.text(texts),
            "category": c.choice(events.category[rows], CATEGORY_NAMES),
            "tags": c.text_array(tags),
            "start_date": c.timestamp(events.start[rows]),
            "end_date": c.timestamp(events.end[rows]),
            "timezone": c.choice(
                np.where(events.organization[rows] < 0, len(ZONES) - 1, events.city[rows]), ZONES
            ),
            "location": c.jsonb(places),
            "capacity": c.int4(np.maximum(capacity.astype(np.int64), 1)),
            "status": c.choice(status, ("draft", "published", "cancelled", "completed")),
            "visibility": c.choice(
                (rng.random(n) < 0.06).astype(np.int64) * rng.integers(1, 3, n),
                ("public", "private", "unlisted"),
            ),
            "settings": c.jsonb_choice(
                rng.integers(0, 2, n), ({"transfers": True}, {"transfers": True, "waiting_list": True})
            ),
            "metadata": c.jsonb(moved),
            "created_at": c.timestamp(events.created[rows]),
            "updated_at": c.timestamp(
                latest(events.created[rows], events.postponed_at[rows], events.cancelled_at[rows], deleted)
            ),
            "deleted_at": c.timestamp(deleted),
        },
    )


def _ticket_types(plan: Plan, offer: Catalogue, seats: Seats) -> Tuples:
    types, events = offer.types, offer.events
    rows = np.arange(seats.first, seats.first + len(seats.quantity))
    event = types.event[rows]
    closes = np.maximum(types.closes[rows], events.opens[event] + HOUR)
    return tuples(
        "tickets.ticket_types",
        {
            "id": c.uuid(types.ids[rows]),
            "event_id": c.reference(events.ids, event),
            "name": c.choice(types.kind[rows], [name for name, _, _, _ in words.TYPES]),
            "description": c.choice(
                types.kind[rows], [f"{name}, one person" for name, _, _, _ in words.TYPES]
            ),
            "price": c.numeric(types.price[rows] * events.minor[event]),
            "currency": c.choice(events.currency[event], words.CODES),
            "quantity": c.int4(seats.quantity),
            "sold": c.int4(seats.sold),
            "reserved": c.int4(seats.reserved),
            "sales_start": c.timestamp(events.opens[event]),
            "sales_end": c.timestamp(closes),
            "is_active": c.boolean(events.closes[event] > plan.cutoff),
            "settings": c.jsonb_choice(
                event % 2,
                ({"transferable": True, "refundable": True}, {"transferable": True, "refundable": False}),
            ),
            "created_at": c.timestamp(seats.created),
            "updated_at": c.timestamp(latest(seats.created, seats.changed)),
        },
    )


def _capacity_log(offer: Catalogue, seats: Seats) -> Tuples:
    return tuples(
        "tickets.ticket_type_capacity_log",
        {
            "id": c.uuid(seats.log_ids),
            "ticket_type_id": c.reference(offer.types.ids, seats.first + seats.log_type),
            "quantity": c.int4(seats.log_quantity),
            "valid_from": c.timestamp(seats.log_from),
            "created_at": c.timestamp(seats.log_from),
            "updated_at": c.timestamp(seats.log_from),
        },
    )


def _payments(
    plan: Plan, offer: Catalogue, people: Buyers, sold: Sales, refunds: Refunds, chargebacks: Chargebacks
) -> Tuples:
    rng = plan.stream("payment rows", sold.block)
    payments = sold.payments
    minor = offer.events.minor[payments.event]
    n = len(payments.event)
    changed = latest(payments.created, payments.captured, payments.deleted)
    np.maximum.at(changed, refunds.payment, latest(refunds.refunded, refunds.reversed))
    np.maximum.at(changed, chargebacks.payment, latest(chargebacks.charged_back, chargebacks.reversed))
    reference = np.empty((n, 27), dtype=np.uint8)
    reference[:, :3] = np.frombuffer(b"ch_", dtype=np.uint8)
    reference[:, 3:] = hexadecimal(np.frombuffer(rng.bytes(12 * n), dtype=np.uint8).reshape(n, 12))
    answer = np.where(
        payments.captured != NONE, (rng.random(n) < 0.05).astype(np.int64), 2 + rng.integers(0, 2, n)
    )
    return tuples(
        "payments.payments",
        {
            "id": c.uuid(payments.ids),
            "user_id": c.reference(people.ids, payments.buyer),
            "event_id": c.reference(offer.events.ids, payments.event),
            "amount": c.numeric(payments.amount * minor),
            "fee_amount": c.numeric(payments.fee * minor),
            "tax_amount": c.numeric(payments.tax * minor),
            "currency": c.choice(offer.events.currency[payments.event], words.CODES),
            "payment_method": c.choice(payments.method, METHODS),
            "status": c.choice(payments.status, PAYMENT_STATUSES),
            "transaction_id": c.fixed_text(reference),
            "gateway_response": c.jsonb_choice(np.where(payments.status == PENDING, -1, answer), _GATEWAY),
            "captured_at": c.timestamp(payments.captured),
            "created_at": c.timestamp(payments.created),
            "updated_at": c.timestamp(changed),
            "deleted_at": c.timestamp(payments.deleted),
        },
    )


def ticket_numbers(block: int, count: int) -> Bytes:
    """BLT- and eight digits of base 32, scrambled by a bijection of 40 bits, so that none is met twice."""
    number = np.arange(count, dtype=np.uint64) + np.uint64(block * 1_000_000)
    mask = np.uint64((1 << 40) - 1)
    scrambled = (number * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x5DEECE66D)) & mask
    out = np.empty((count, 12), dtype=np.uint8)
    out[:, :4] = np.frombuffer(b"BLT-", dtype=np.uint8)
    for position in range(8):
        out[:, 4 + position] = _CROCKFORD[
            ((scrambled >> np.uint64(35 - 5 * position)) & np.uint64(31)).astype(np.int64)
        ]
    return out


def _tickets(plan: Plan, offer: Catalogue, people: Buyers, sold: Sales) -> Tuples:
    tickets: Tickets = sold.tickets
    at_door = tickets.checked_in != NONE
    scanner: Ints = np.where(at_door, offer.events.organizer[tickets.event], -1)
    complimentary: Bools = tickets.complimentary == 1
    return tuples(
        "tickets.tickets",
        {
            "id": c.uuid(tickets.ids),
            "ticket_type_id": c.reference(offer.types.ids, tickets.type),
            "event_id": c.reference(offer.events.ids, tickets.event),
            "user_id": c.reference(people.ids, tickets.holder),
            "payment_id": c.reference(sold.payments.ids, tickets.payment),
            "ticket_number": c.fixed_text(ticket_numbers(sold.block, len(tickets.event))),
            "status": c.choice(tickets.status, TICKET_STATUSES),
            "is_complimentary": c.boolean(complimentary),
            "transferred_from": c.reference(tickets.ids, tickets.origin),
            "purchased_at": c.timestamp(tickets.purchased),
            "checked_in_at": c.timestamp(tickets.checked_in),
            "checked_in_by": c.reference(offer.organizers.ids, scanner),
            "cancelled_at": c.timestamp(tickets.cancelled),
            "created_at": c.timestamp(tickets.purchased),
            "updated_at": c.timestamp(
                latest(tickets.purchased, tickets.checked_in, tickets.cancelled, tickets.released)
            ),
        },
    )


def _items(plan: Plan, offer: Catalogue, sold: Sales) -> Tuples:
    items, payments = sold.items, sold.payments
    event = payments.event[items.payment]
    return tuples(
        "payments.payment_items",
        {
            "id": c.uuid(uuids(plan.stream("item ids", sold.block), len(items.payment))),
            "payment_id": c.reference(payments.ids, items.payment),
            "ticket_id": c.reference(sold.tickets.ids, items.ticket),
            "item_type": c.choice(items.kind, ITEM_TYPES),
            "amount": c.numeric(items.amount * offer.events.minor[event]),
            "description": c.choice(items.note, [name for name, _ in words.ADDONS]),
            "created_at": c.timestamp(payments.created[items.payment]),
            "updated_at": c.timestamp(payments.created[items.payment]),
        },
    )


def _refunds(offer: Catalogue, sold: Sales, refunds: Refunds) -> Tuples:
    minor = offer.events.minor[sold.payments.event[refunds.payment]]
    return tuples(
        "payments.refunds",
        {
            "id": c.uuid(refunds.ids),
            "payment_id": c.reference(sold.payments.ids, refunds.payment),
            "ticket_id": c.reference(sold.tickets.ids, refunds.ticket),
            "amount": c.numeric(refunds.amount * minor),
            "fee_amount": c.numeric(refunds.fee * minor),
            "tax_amount": c.numeric(refunds.tax * minor),
            "status": c.choice(refunds.status, REFUND_STATUSES),
            "reason": c.choice(refunds.reason, REASONS),
            "refunded_at": c.timestamp(refunds.refunded),
            "reversed_at": c.timestamp(refunds.reversed),
            "created_at": c.timestamp(refunds.created),
            "updated_at": c.timestamp(latest(refunds.created, refunds.refunded, refunds.reversed)),
        },
    )


def _chargebacks(offer: Catalogue, sold: Sales, chargebacks: Chargebacks) -> Tuples:
    minor = offer.events.minor[sold.payments.event[chargebacks.payment]]
    return tuples(
        "payments.chargebacks",
        {
            "id": c.uuid(chargebacks.ids),
            "payment_id": c.reference(sold.payments.ids, chargebacks.payment),
            "amount": c.numeric(chargebacks.amount * minor),
            "dispute_fee": c.numeric(chargebacks.dispute_fee * minor),
            "status": c.choice(chargebacks.status, CHARGEBACK_STATUSES),
            "reason": c.choice(chargebacks.reason, DISPUTE_REASONS),
            "charged_back_at": c.timestamp(chargebacks.charged_back),
            "reversed_at": c.timestamp(chargebacks.reversed),
            "created_at": c.timestamp(chargebacks.charged_back),
            "updated_at": c.timestamp(latest(chargebacks.charged_back, chargebacks.reversed)),
        },
    )
