"""What becomes of orders: carts abandoned, refunds and their reversals, disputes, transfers, the door.

Works on one block of sales in place, in the order in which such things happen; capacity.py then counts the
seats. Every moment lies before the plan's cutoff; what would come later has not happened yet.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bilten_orchestration.demo.catalogue import CANCELLED, Catalogue, minor_units
from bilten_orchestration.demo.people import Buyers, choose
from bilten_orchestration.demo.plan import DAY, HOUR, MINUTE, NONE, SECOND, Bools, Bytes, Ints, Plan, uuids
from bilten_orchestration.demo.sales import (
    ACTIVE,
    CAPTURED,
    CHECKED_IN,
    DISPUTED,
    PARTIALLY_REFUNDED,
    REFUNDED,
    TICKET_CANCELLED,
    TICKET_REFUNDED,
    TRANSFERRED,
    Sales,
    Tickets,
    join,
)

REFUND_PENDING, SUCCEEDED, REFUND_FAILED, REVERSED = range(4)
REFUND_STATUSES = ("pending", "succeeded", "failed", "reversed")
REASONS = (
    "event cancelled",
    "requested by buyer",
    "one ticket returned",
    "goodwill",
    "event postponed",
    "sent again",
)
BY_CANCELLATION, REQUESTED, ONE_TICKET, GOODWILL, BY_POSTPONEMENT, AGAIN = range(6)
OPEN, WON, LOST = range(3)
CHARGEBACK_STATUSES = ("open", "won", "lost")
DISPUTE_REASONS = ("fraudulent", "product_not_received", "duplicate", "unrecognized")


@dataclass(slots=True)
class Refunds:
    """Amounts in minor units of the payment's currency; `ticket` is -1 for the order as a whole."""

    ids: Bytes
    payment: Ints
    ticket: Ints
    amount: Ints
    fee: Ints
    tax: Ints
    status: Ints
    reason: Ints
    created: Ints
    refunded: Ints
    reversed: Ints


@dataclass(slots=True)
class Chargebacks:
    ids: Bytes
    payment: Ints
    amount: Ints
    dispute_fee: Ints
    status: Ints
    reason: Ints
    charged_back: Ints
    reversed: Ints


def aftermath(plan: Plan, offer: Catalogue, people: Buyers, sold: Sales) -> tuple[Refunds, Chargebacks]:
    """Change payments and tickets of the block as time would, and return what was given or taken back."""
    rng = plan.stream("aftermath", sold.block)
    _abandoned(plan, rng, sold)
    drafts = _Drafts(plan, rng, sold)
    _cancelled_events(plan, offer, rng, sold, drafts)
    disputed = _requests(plan, offer, rng, sold, drafts)
    refunds = drafts.finish()
    _settle(sold, refunds)
    chargebacks = _chargebacks(plan, offer, rng, sold, disputed, refunds)
    _returned_without_money(plan, offer, rng, sold)
    _transfers(plan, offer, people, rng, sold)
    _door(plan, offer, rng, sold)
    return refunds, chargebacks


def _of_payments(sold: Sales, payments: Bools) -> Bools:
    """Which tickets belong to the marked payments."""
    paid = sold.tickets.payment >= 0
    return paid & payments[np.where(paid, sold.tickets.payment, 0)]


def _release(tickets: Tickets, rows: Bools, status: int, at: Ints) -> None:
    tickets.status[rows] = status
    tickets.released[rows] = at[rows]


def _abandoned(plan: Plan, rng: np.random.Generator, sold: Sales) -> None:
    payments, tickets = sold.payments, sold.tickets
    if not len(payments.event):
        return
    left = payments.created + rng.integers(12, 50, len(payments.event)) * MINUTE
    left = np.where(payments.deleted != NONE, payments.deleted, left)
    gone = (payments.status != CAPTURED) | (payments.deleted != NONE)
    rows = _of_payments(sold, gone)
    at = np.minimum(left[np.maximum(tickets.payment, 0)], plan.cutoff - SECOND)
    _release(tickets, rows, TICKET_CANCELLED, at)
    tickets.cancelled[rows] = at[rows]


class _Drafts:
    """Refunds collected group by group, with what each does to the tickets."""

    def __init__(self, plan: Plan, rng: np.random.Generator, sold: Sales) -> None:
        self._plan, self._rng, self._sold = plan, rng, sold
        self._groups: list[tuple[Ints, ...]] = []

    def add(
        self, payment: Ints, ticket: Ints, amount: Ints, fee: Ints, tax: Ints, reason: Ints, at: Ints
    ) -> Bools:
        """Refunds due at `at`; those not due yet are pending or left out. Returns which were posted."""
        cutoff, rng = self._plan.cutoff, self._rng
        captured = self._sold.payments.captured[payment]
        posted = at < cutoff
        waiting = ~posted & (rng.random(len(at)) < 0.2) & (captured < cutoff - 7 * DAY)
        status = np.where(posted, SUCCEEDED, REFUND_PENDING)
        failed = (reason == GOODWILL) & (rng.random(len(at)) < 0.15)
        status = np.where(failed, REFUND_FAILED, status)
        posted &= ~failed
        created = np.where(
            posted | failed,
            at - rng.integers(1, 30, len(at)) * HOUR,
            cutoff - rng.integers(1, 120, len(at)) * HOUR,
        )
        created = np.minimum(np.maximum(created, captured + MINUTE), cutoff - SECOND)
        refunded = np.where(posted, np.maximum(at, created), NONE)
        kept = posted | waiting | (failed & (at < cutoff))
        nothing = np.full(len(at), NONE, dtype=np.int64)
        columns = (payment, ticket, amount, fee, tax, status, reason, created, refunded, nothing)
        self._groups.append(tuple(column[kept] for column in columns))
        return posted

    def finish(self) -> Refunds:
        """All of them, some come back, and half of those sent again."""
        plan, rng = self._plan, self._rng
        columns = [np.concatenate(parts) for parts in zip(*self._groups, strict=True)]
        status, refunded = columns[5], columns[8]
        back = refunded + (rng.uniform(2, 9, len(status)) * DAY).astype(np.int64)
        came_back = (status == SUCCEEDED) & (rng.random(len(status)) < 0.05) & (back < plan.cutoff)
        columns[5] = np.where(came_back, REVERSED, status)
        columns[9] = np.where(came_back, back, NONE)
        again_at = back + (rng.uniform(0.5, 4, len(status)) * DAY).astype(np.int64)
        again = came_back & (rng.random(len(status)) < 0.5) & (again_at < plan.cutoff)
        repeated = [column[again] for column in columns]
        repeated[5][:] = SUCCEEDED
        repeated[6][:] = AGAIN
        repeated[7] = back[again] + HOUR
        repeated[8] = again_at[again]
        repeated[9][:] = NONE
        joined = [np.concatenate([one, other]) for one, other in zip(columns, repeated, strict=True)]
        return Refunds(uuids(rng, len(joined[0])), *joined)


def _cancelled_events(
    plan: Plan, offer: Catalogue, rng: np.random.Generator, sold: Sales, drafts: _Drafts
) -> None:
    events, payments, tickets = offer.events, sold.payments, sold.tickets
    off = events.kind == CANCELLED
    ended = off[tickets.event] & (tickets.status == ACTIVE)
    at = events.cancelled_at[tickets.event]
    at = np.maximum(at, tickets.purchased + SECOND)
    _release(tickets, ended, TICKET_CANCELLED, at)
    tickets.cancelled[ended] = at[ended]

    due = off[payments.event] & (payments.status == CAPTURED) & (payments.deleted == NONE)
    # three in a hundred cards are closed, and nobody has called yet
    number = np.flatnonzero(due & (rng.random(len(due)) < 0.97))
    with_fees = (payments.event[number] % 2 == 0).astype(np.int64)
    fee = payments.fee[number] * with_fees
    announced = np.maximum(events.cancelled_at[payments.event[number]], payments.captured[number])
    posted = drafts.add(
        number,
        np.full(len(number), -1),
        payments.amount[number] - payments.fee[number] + fee,
        fee,
        payments.tax[number],
        np.full(len(number), BY_CANCELLATION),
        announced + (rng.uniform(0.4, 12, len(number)) * DAY).astype(np.int64),
    )
    refunded = np.zeros(len(payments.event), dtype=np.bool_)
    refunded[number[posted]] = True
    tickets.status[_of_payments(sold, refunded) & ended] = TICKET_REFUNDED


def _requests(plan: Plan, offer: Catalogue, rng: np.random.Generator, sold: Sales, drafts: _Drafts) -> Ints:
    """Refunds that buyers ask for. Returns the payments that will be disputed instead, or as well."""
    events, payments, tickets = offer.events, sold.payments, sold.tickets
    n = len(payments.event)
    open_to = (
        (payments.status == CAPTURED)
        & (payments.deleted == NONE)
        & (events.kind[payments.event] != CANCELLED)
    )
    moved_at = events.postponed_at[payments.event]
    moved = open_to & (moved_at != NONE) & (payments.captured < moved_at) & (rng.random(n) < 0.16)
    draw = rng.random(n)
    whole = open_to & (moved | (draw < 0.025))
    last = np.maximum(payments.first + payments.tickets - 1, 0)
    several = (payments.tickets >= 2) & (payments.tickets <= 8)
    last_face = tickets.face[last] if len(tickets.face) else last
    one = open_to & ~whole & (draw < 0.055) & several & (last_face > 0)
    goodwill = open_to & ~whole & ~one & (draw > 0.06) & (draw < 0.068)
    later = payments.captured + (np.clip(rng.lognormal(2.5, 0.8, n), 0.1, 100) * DAY).astype(np.int64)
    later = np.where(moved, moved_at + (rng.uniform(0.2, 15, n) * DAY).astype(np.int64), later)

    number = np.flatnonzero(whole)
    reason = np.where(moved[number], BY_POSTPONEMENT, REQUESTED)
    keeps_fee = (reason == REQUESTED) & (rng.random(len(number)) < 0.4)
    fee = np.where(keeps_fee, 0, payments.fee[number])
    amount = payments.amount[number] - payments.fee[number] + fee
    posted = drafts.add(
        number, np.full(len(number), -1), amount, fee, payments.tax[number], reason, later[number]
    )
    marked = np.zeros(n, dtype=np.bool_)
    marked[number[posted]] = True
    _refunded_tickets(rng, sold, _of_payments(sold, marked), later, named=False)

    number = np.flatnonzero(one)
    for position, rows in ((0, number), (1, number[rng.random(len(number)) < 0.25])):
        ticket = last[rows] - position
        share = tickets.face[ticket]
        net = payments.net[rows] * share // np.maximum(payments.face[rows], 1)
        tax = payments.tax[rows] * net // np.maximum(payments.amount[rows] - payments.tax[rows], 1)
        fee = np.where(rng.random(len(rows)) < 0.5, payments.fee[rows] // payments.tickets[rows], 0)
        at = later[rows] + position * rng.integers(1, 9, len(rows)) * DAY
        fine = net > 0
        rows, ticket, net, tax, fee, at = (column[fine] for column in (rows, ticket, net, tax, fee, at))
        posted = drafts.add(rows, ticket, net + tax + fee, fee, tax, np.full(len(rows), ONE_TICKET), at)
        returned = np.zeros(len(tickets.event), dtype=np.bool_)
        returned[ticket[posted]] = True
        by_payment = np.full(n, NONE, dtype=np.int64)
        by_payment[rows] = at
        _refunded_tickets(rng, sold, returned, by_payment, named=True)

    number = np.flatnonzero(goodwill)
    amount = np.maximum(payments.net[number] * rng.integers(5, 31, len(number)) // 100, 1)
    nothing = np.zeros(len(number), dtype=np.int64)
    drafts.add(
        number,
        np.full(len(number), -1),
        amount,
        nothing,
        nothing,
        np.full(len(number), GOODWILL),
        later[number],
    )
    disputed = open_to & ~whole & (((draw > 0.07) & (draw < 0.080)) | (one & (rng.random(n) < 0.05)))
    return np.flatnonzero(disputed)


def _refunded_tickets(
    rng: np.random.Generator, sold: Sales, rows: Bools, at_of_payment: Ints, *, named: bool
) -> None:
    """Some are cancelled first and refunded days after; of others the refund alone tells, if it names them.

    A refund of the whole order names no ticket and so cancels none: the application cancels them with it.
    """
    tickets = sold.tickets
    at = at_of_payment[np.maximum(tickets.payment, 0)]
    before = np.maximum(at - rng.integers(2, 60, len(rows)) * HOUR, tickets.purchased + MINUTE)
    first_cancelled = rows & (rng.random(len(rows)) < 0.3) & (before < at)
    gone_at = np.where(first_cancelled, before, at)
    cancelled = first_cancelled if named else rows
    tickets.cancelled[cancelled] = gone_at[cancelled]
    _release(tickets, rows, TICKET_REFUNDED, gone_at)


def standing(sold: Sales, refunds: Refunds) -> Ints:
    """Minor units given back for good, per payment."""
    total = np.zeros(len(sold.payments.event), dtype=np.int64)
    stands = refunds.status == SUCCEEDED
    np.add.at(total, refunds.payment[stands], refunds.amount[stands])
    return total


def _settle(sold: Sales, refunds: Refunds) -> None:
    payments = sold.payments
    back = standing(sold, refunds)
    payments.status[(back > 0) & (back < payments.amount)] = PARTIALLY_REFUNDED
    payments.status[(back > 0) & (back == payments.amount)] = REFUNDED


def _chargebacks(
    plan: Plan, offer: Catalogue, rng: np.random.Generator, sold: Sales, disputed: Ints, refunds: Refunds
) -> Chargebacks:
    payments, tickets = sold.payments, sold.tickets
    pending = np.zeros(len(payments.event), dtype=np.int64)
    waits = refunds.status == REFUND_PENDING
    np.add.at(pending, refunds.payment[waits], refunds.amount[waits])
    left = payments.amount - standing(sold, refunds) - pending
    charged = payments.captured[disputed] + (rng.uniform(8, 75, len(disputed)) * DAY).astype(np.int64)
    fine = (charged < plan.cutoff) & (left[disputed] > 0)
    disputed, charged = disputed[fine], charged[fine]
    n = len(disputed)
    in_part = rng.random(n) < 0.15
    amount = np.where(in_part, np.maximum(left[disputed] // 2, 1), left[disputed])
    resolved = charged + (rng.uniform(18, 60, n) * DAY).astype(np.int64)
    won = rng.random(n) < 0.4
    status = np.where(resolved >= plan.cutoff, OPEN, np.where(won, WON, LOST))
    refunded_in_part = standing(sold, refunds)[disputed] > 0
    payments.status[disputed] = np.where(
        status != WON, DISPUTED, np.where(refunded_in_part, PARTIALLY_REFUNDED, CAPTURED)
    )
    dispute_fee = minor_units(np.full(n, 15.0), offer.events.currency[payments.event[disputed]])

    taken = np.full(len(payments.event), NONE, dtype=np.int64)
    lost = (status == LOST) & (rng.random(n) < 0.5)
    taken[disputed[lost]] = charged[lost] + HOUR
    rows = _of_payments(sold, taken != NONE) & (tickets.status == ACTIVE)
    at = taken[np.maximum(tickets.payment, 0)]
    rows &= (at < offer.events.start[tickets.event]) & (at < plan.cutoff)
    _release(tickets, rows, TICKET_CANCELLED, at)
    tickets.cancelled[rows] = at[rows]
    return Chargebacks(
        uuids(rng, n),
        disputed,
        amount,
        dispute_fee,
        status,
        rng.integers(0, len(DISPUTE_REASONS), n),
        charged,
        np.where(status == WON, resolved, NONE),
    )


def _returned_without_money(plan: Plan, offer: Catalogue, rng: np.random.Generator, sold: Sales) -> None:
    """Cancelled by the holder, with nothing to be refunded or nothing asked for."""
    tickets = sold.tickets
    at = tickets.purchased + (rng.uniform(0.1, 12, len(tickets.event)) * DAY).astype(np.int64)
    rows = (tickets.status == ACTIVE) & (rng.random(len(at)) < 0.006)
    rows &= (at < plan.cutoff) & (at < offer.events.start[tickets.event])
    _release(tickets, rows, TICKET_CANCELLED, at)
    tickets.cancelled[rows] = at[rows]


def _transfers(plan: Plan, offer: Catalogue, people: Buyers, rng: np.random.Generator, sold: Sales) -> None:
    """The old ticket ends, a new one of another holder begins, without a payment; some go on to a third."""
    share, eligible_from = 0.022, 0
    for _ in range(2):
        tickets = sold.tickets
        latest = np.minimum(offer.events.start[tickets.event], plan.cutoff) - 2 * HOUR
        room = latest - tickets.purchased
        rows = (tickets.status == ACTIVE) & (rng.random(len(room)) < share) & (room > HOUR)
        rows[:eligible_from] = False
        old = np.flatnonzero(rows)
        at = tickets.purchased[old] + MINUTE + (rng.random(len(old)) * (room[old] - HOUR)).astype(np.int64)
        tickets.status[old] = TRANSFERRED
        tickets.released[old] = at
        nothing = np.full(len(old), NONE, dtype=np.int64)
        new = Tickets(
            ids=uuids(rng, len(old)),
            payment=np.full(len(old), -1, dtype=np.int64),
            event=tickets.event[old],
            type=tickets.type[old],
            holder=choose(rng, people, offer.events.city[tickets.event[old]], at),
            status=np.full(len(old), ACTIVE, dtype=np.int64),
            complimentary=tickets.complimentary[old],
            origin=old,
            purchased=at,
            checked_in=nothing,
            cancelled=nothing.copy(),
            released=nothing.copy(),
            face=np.zeros(len(old), dtype=np.int64),
        )
        eligible_from = len(tickets.event)
        sold.tickets = join(tickets, new)
        share = 0.15


def _door(plan: Plan, offer: Catalogue, rng: np.random.Generator, sold: Sales) -> None:
    """Scanned around the start; who is not scanned did not come."""
    events, tickets = offer.events, sold.tickets
    start = events.start[tickets.event]
    comes = rng.random(len(start)) < events.attendance[tickets.event]
    at = start + (rng.normal(-12, 28, len(start)).clip(-75, 110) * MINUTE).astype(np.int64)
    at += rng.integers(0, 60 * SECOND, len(start))
    at = np.maximum(at, tickets.purchased + 90 * SECOND)
    rows = (tickets.status == ACTIVE) & comes & (at < plan.cutoff) & (at < events.end[tickets.event])
    tickets.status[rows] = CHECKED_IN
    tickets.checked_in[rows] = at[rows]
