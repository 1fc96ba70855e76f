"""Orders of a block of events: payments with their tickets and items, free registrations, and comps.

A block is generated from its own random stream, so the clickstream can be drawn to match it later. What
happens to an order afterwards is in aftermath.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bilten_orchestration.demo import words
from bilten_orchestration.demo.catalogue import (
    CANCELLED,
    FREE,
    NORMAL,
    POSTPONED,
    ZONES,
    Catalogue,
    minor_units,
)
from bilten_orchestration.demo.localtime import by_zone, order_times, zone
from bilten_orchestration.demo.people import Buyers, choose
from bilten_orchestration.demo.plan import (
    DAY,
    HOUR,
    MINUTE,
    NONE,
    SECOND,
    Bools,
    Bytes,
    Floats,
    Ints,
    Plan,
    pick,
    starts_of,
    uuids,
)

CARD, WALLET, BANK_TRANSFER, CASH, INVOICE, VOUCHER = range(6)
METHODS = ("card", "wallet", "bank_transfer", "cash", "invoice", "voucher")
PENDING, CAPTURED, FAILED, REFUNDED, PARTIALLY_REFUNDED, DISPUTED = range(6)
PAYMENT_STATUSES = ("pending", "captured", "failed", "refunded", "partially_refunded", "disputed")
ACTIVE, CHECKED_IN, TICKET_CANCELLED, TICKET_REFUNDED, TRANSFERRED = range(5)
TICKET_STATUSES = ("active", "checked_in", "cancelled", "refunded", "transferred")
TICKET, ADDON, FEE, TAX, DISCOUNT = range(5)
ITEM_TYPES = ("ticket", "addon", "fee", "tax", "discount")


@dataclass(slots=True)
class Payments:
    """Amounts in minor units of the event's currency; `net` is amount without fee, tax and addon.

    `first` and `tickets`: where an order's tickets begin in the block and how many they are.
    """

    ids: Bytes
    event: Ints
    buyer: Ints
    created: Ints
    captured: Ints
    status: Ints
    method: Ints
    amount: Ints
    fee: Ints
    tax: Ints
    net: Ints
    face: Ints
    deleted: Ints
    first: Ints
    tickets: Ints


@dataclass(slots=True)
class Tickets:
    """`payment` is -1 where nothing was paid; `origin` is the ticket that this one replaces, or -1."""

    ids: Bytes
    payment: Ints
    event: Ints
    type: Ints
    holder: Ints
    status: Ints
    complimentary: Ints
    origin: Ints
    purchased: Ints
    checked_in: Ints
    cancelled: Ints
    released: Ints
    face: Ints


@dataclass(slots=True)
class Items:
    """`ticket` is -1 for what belongs to the order as a whole."""

    payment: Ints
    ticket: Ints
    kind: Ints
    amount: Ints
    note: Ints


@dataclass(slots=True)
class Sales:
    block: int
    payments: Payments
    tickets: Tickets
    items: Items


def sales(plan: Plan, offer: Catalogue, people: Buyers, block: int, low: int, high: int) -> Sales:
    """Everything sold or given away for events low..high."""
    rng = plan.stream("sales", block)
    events = offer.events
    event = np.repeat(np.arange(low, high), events.payments[low:high])
    created = _moments(plan, offer, rng, event)
    order = np.lexsort((created, event))
    event, created = event[order], created[order]
    buyer = choose(rng, people, events.city[event], created)
    count = 1 + pick(rng, (38, 42, 8, 8, 2, 1.5), len(event))
    groups = rng.random(len(event)) < 0.014
    count = np.where(groups, rng.integers(8, 21, len(event)), count)
    second_count = np.where((rng.random(len(event)) < 0.13) & ~groups, rng.integers(1, 3, len(event)), 0)
    first_type, second_type = _types(offer, rng, event, created, second_count)
    second_count = np.where(second_type >= 0, second_count, 0)

    total = count + second_count
    of_payment = np.repeat(np.arange(len(event)), total)
    first = starts_of(total)
    is_second = (np.arange(int(total.sum())) - first[of_payment]) >= count[of_payment]
    ticket_type = np.where(is_second, second_type[of_payment], first_type[of_payment])
    face = offer.types.price[ticket_type]
    payments, items = _money(plan, offer, rng, event, buyer, created, total, of_payment, face)
    tickets = _tickets(
        rng, of_payment, event[of_payment], ticket_type, buyer[of_payment], created[of_payment], face
    )
    given = _given_away(plan, offer, people, rng, low, high)
    return Sales(block, payments, join(tickets, given), items)


def join(one: Tickets, other: Tickets) -> Tickets:
    """One after the other."""
    return Tickets(
        *(np.concatenate([getattr(one, name), getattr(other, name)]) for name in Tickets.__slots__)
    )


def _moments(plan: Plan, offer: Catalogue, rng: np.random.Generator, event: Ints) -> Ints:
    """When orders are placed (UTC): along the local day and week, some at midnight, some at clock changes."""
    events = offer.events
    city = events.city[event]
    closes = np.minimum(events.closes, plan.cutoff)[event]
    opens = np.minimum(events.opens[event], closes - HOUR)
    local_opens = by_zone(ZONES, city, opens, to_utc=False)
    local_closes = by_zone(ZONES, city, closes, to_utc=False)
    spike: Floats = np.where(events.sells_out, 0.45, 0.08)[event]
    local = order_times(rng, local_opens, local_closes, spike)
    midnight = rng.random(len(event)) < 0.01
    near = (local // DAY) * DAY + rng.integers(-3 * 60, 3 * 60, len(event)) * SECOND
    local = np.where(midnight, near, local)
    moments = by_zone(ZONES, city, local, to_utc=True)
    changing = rng.random(len(event)) < 0.02
    for number in np.unique(city):
        rules = zone(ZONES[int(number)])
        rows = np.flatnonzero((city == number) & changing)
        at = np.searchsorted(rules.at, opens[rows])
        inside = at < len(rules.at)
        rows, at = rows[inside], at[inside]
        # the two hours around the change: skipped, repeated, and the day of 23 or 25 hours
        change = rules.at[at] + rng.integers(-3600, 3600, len(rows)) * SECOND
        moments[rows] = np.where(rules.at[at] < closes[rows] - HOUR, change, moments[rows])
    return np.clip(moments, opens, closes - MINUTE)


def _types(
    offer: Catalogue, rng: np.random.Generator, event: Ints, created: Ints, second: Ints
) -> tuple[Ints, Ints]:
    """Two different types per order, of those on offer at the time; the first is never free, -1 is none."""
    types = offer.types
    widest = int(types.count.max())
    number = types.first[event][:, None] + np.arange(widest)
    there = np.arange(widest) < types.count[event][:, None]
    number = np.where(there, number, types.first[event][:, None])
    on_offer = there & (created[:, None] < types.closes[number])
    share = np.where(on_offer, types.share[number], 0.0)
    # General admission, the first of every lineup, is on offer to the end
    share[:, 0] = types.share[number[:, 0]]
    paid = np.where(types.price[number] > 0, share, 0.0)
    rows = np.arange(len(event))
    one = _draw(rng, paid)
    share[rows, one] = 0.0
    two = _draw(rng, share)
    has_two = (second > 0) & (share.sum(axis=1) > 0)
    return number[rows, one], np.where(has_two, number[rows, two], -1)


def _draw(rng: np.random.Generator, weights: Floats) -> Ints:
    cumulative = np.cumsum(weights, axis=1)
    threshold = rng.random(len(weights)) * cumulative[:, -1]
    drawn: Ints = np.minimum((cumulative <= threshold[:, None]).sum(axis=1), weights.shape[1] - 1)
    return drawn


def _money(
    plan: Plan,
    offer: Catalogue,
    rng: np.random.Generator,
    event: Ints,
    buyer: Ints,
    created: Ints,
    total: Ints,
    of_payment: Ints,
    ticket_face: Ints,
) -> tuple[Payments, Items]:
    """Face value, discount, addon, fee, tax: the payment is their sum, and the items are they."""
    events = offer.events
    n = len(event)
    first = starts_of(total)
    face = np.zeros(n, dtype=np.int64)
    np.add.at(face, of_payment, ticket_face)
    per_ticket = events.fee_per_ticket[event]

    percent = np.where(rng.random(n) < 0.08, np.array((10, 15, 20, 25))[rng.integers(0, 4, n)], 0)
    ticket_discount = ticket_face * percent[of_payment] // 100 * per_ticket[of_payment]
    discount = np.zeros(n, dtype=np.int64)
    np.add.at(discount, of_payment, ticket_discount)
    discount = np.where(per_ticket, discount, face * percent // 100)

    addon_kind = np.where(rng.random(n) < 0.07, rng.integers(0, len(words.ADDONS), n), -1)
    addon_price = np.array([price for _, price in words.ADDONS])
    addon = np.where(addon_kind >= 0, minor_units(addon_price[addon_kind], events.currency[event]), 0)

    net = face - discount
    fee = (net * events.fee_rate[event] + 5_000) // 10_000 + events.fee_fixed[event] * total
    tax_rate = np.array([city.tax for city in words.CITIES])[events.city[event]]
    tax = ((net + addon + fee) * tax_rate + 5_000) // 10_000
    amount = net + addon + fee + tax

    method = pick(rng, (70, 16, 6, 2, 3, 3), n)
    status, captured = _capture(plan, rng, events.closes[event], created, method)
    deleted = np.where(rng.random(n) < 0.0015, created + rng.integers(2, 80, n) * HOUR, NONE)
    deleted = np.where((deleted < plan.cutoff) & (status == CAPTURED) & (deleted > captured), deleted, NONE)
    payments = Payments(
        uuids(rng, n),
        event,
        buyer,
        created,
        captured,
        status,
        method,
        amount,
        fee,
        tax,
        net,
        face,
        deleted,
        first,
        total,
    )

    numbers, tickets = np.arange(n), np.arange(len(of_payment))
    rank = tickets - first[of_payment]
    fee_parts = _shared(fee, total, of_payment, rank)
    tax_parts = _shared(tax, total, of_payment, rank)
    split = per_ticket[of_payment]
    to_ticket = addon_kind % 2 == 0
    whole = ~per_ticket
    rows = [
        _rows(of_payment, tickets, TICKET, ticket_face, np.ones(len(tickets), dtype=np.bool_)),
        _rows(of_payment, tickets, DISCOUNT, -ticket_discount, split & (ticket_discount > 0)),
        _rows(of_payment, tickets, FEE, fee_parts, split & (fee_parts > 0)),
        _rows(of_payment, tickets, TAX, tax_parts, split & (tax_parts > 0)),
        _rows(numbers, np.full(n, -1), DISCOUNT, -discount, whole & (discount > 0)),
        _rows(numbers, np.where(to_ticket, first, -1), ADDON, addon, addon > 0, addon_kind),
        _rows(numbers, np.full(n, -1), FEE, fee, whole & (fee > 0)),
        _rows(numbers, np.full(n, -1), TAX, tax, whole & (tax > 0)),
    ]
    columns = [np.concatenate(parts) for parts in zip(*rows, strict=True)]
    order = np.argsort(columns[0], kind="stable")
    return payments, Items(*(column[order] for column in columns))


def _rows(
    payment: Ints, ticket: Ints, kind: int, amount: Ints, wanted: Bools, note: Ints | None = None
) -> tuple[Ints, ...]:
    chosen = np.flatnonzero(wanted)
    notes = np.full(len(chosen), -1, dtype=np.int64) if note is None else note[chosen]
    return payment[chosen], ticket[chosen], np.full(len(chosen), kind, dtype=np.int64), amount[chosen], notes


def _shared(amount: Ints, parts: Ints, of_payment: Ints, rank: Ints) -> Ints:
    """An amount in equal parts, what is left over on the first."""
    part = amount // parts
    return part[of_payment] + np.where(rank == 0, (amount - part * parts)[of_payment], 0)


def _capture(
    plan: Plan, rng: np.random.Generator, closes: Ints, created: Ints, method: Ints
) -> tuple[Ints, Ints]:
    n = len(created)
    delay = rng.integers(2, 90, n) * SECOND + rng.integers(0, 1_000_000, n)
    slow = (method == BANK_TRANSFER) | (method == INVOICE)
    delay = np.where(slow, delay + (rng.uniform(0.3, 4, n) * DAY).astype(np.int64), delay)
    captured = created + delay
    draw = rng.random(n)
    status = np.where(draw < 0.03, FAILED, np.where(draw < 0.042, PENDING, CAPTURED))
    # a transfer that comes too late is not taken; one still under way is pending
    status = np.where((status == CAPTURED) & (captured >= closes), FAILED, status)
    status = np.where((status == CAPTURED) & (captured >= plan.cutoff), PENDING, status)
    return status, np.where(status == CAPTURED, captured, NONE)


def _tickets(
    rng: np.random.Generator,
    payment: Ints,
    event: Ints,
    kind: Ints,
    holder: Ints,
    purchased: Ints,
    face: Ints,
) -> Tickets:
    n = len(event)
    nothing = np.full(n, NONE, dtype=np.int64)
    return Tickets(
        ids=uuids(rng, n),
        payment=payment,
        event=event,
        type=kind,
        holder=holder,
        status=np.full(n, ACTIVE, dtype=np.int64),
        complimentary=np.zeros(n, dtype=np.int64),
        origin=np.full(n, -1, dtype=np.int64),
        purchased=purchased,
        checked_in=nothing.copy(),
        cancelled=nothing.copy(),
        released=nothing.copy(),
        face=face,
    )


def _given_away(
    plan: Plan, offer: Catalogue, people: Buyers, rng: np.random.Generator, low: int, high: int
) -> Tickets:
    """Registrations for free events, and comps: no payment, purchased_at alone tells the day."""
    events = offer.events
    number = np.arange(low, high)
    open_for = np.minimum(events.closes, plan.cutoff)[low:high] - events.opens[low:high]
    possible = np.isin(events.kind[low:high], (NORMAL, CANCELLED, POSTPONED, FREE)) & (open_for > 2 * DAY)
    typical = plan.payments / plan.events
    registered = (
        rng.gamma(1.6, typical * 0.9, len(number)) * (events.kind[low:high] == FREE) * possible
    ).astype(np.int64)
    parties = np.repeat(number, registered)
    size = 1 + pick(rng, (60, 28, 8, 4), len(parties))
    comps = (
        rng.gamma(1.2, 0.025, len(number)) * (events.payments[low:high] * 2.2 + registered) * possible
    ).astype(np.int64)
    guests = np.repeat(number, comps)

    party_at = _moments(plan, offer, rng, parties)
    party_of = choose(rng, people, events.city[parties], party_at)
    of_party = np.repeat(np.arange(len(parties)), size)
    guest_at = _moments(plan, offer, rng, guests)
    guest = choose(rng, people, events.city[guests], guest_at)
    guest = np.where(rng.random(len(guests)) < 0.3, -1, guest)  # a name at the door, no account

    event = np.concatenate([parties[of_party], guests])
    kind = offer.types.first[event]
    kind = kind + np.where(
        np.arange(len(event)) < len(of_party), 0, rng.integers(0, offer.types.count[event])
    )
    tickets = _tickets(
        rng,
        np.full(len(event), -1, dtype=np.int64),
        event,
        kind,
        np.concatenate([party_of[of_party], guest]),
        np.concatenate([party_at[of_party], guest_at]),
        np.zeros(len(event), dtype=np.int64),
    )
    tickets.complimentary[len(of_party) :] = 1
    return tickets
