"""Seats of each ticket type: how many are held, how many there are, and how many there were."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bilten_orchestration.demo.catalogue import Catalogue
from bilten_orchestration.demo.plan import DAY, HOUR, NONE, Bytes, Ints, Plan, uuids
from bilten_orchestration.demo.sales import ACTIVE, CHECKED_IN, Sales


@dataclass(frozen=True, slots=True)
class Seats:
    """For the ticket types `first`.. of a block; the log has one row per quantity a type ever had."""

    first: int
    quantity: Ints
    sold: Ints
    reserved: Ints
    created: Ints
    changed: Ints
    log_ids: Bytes
    log_type: Ints
    log_quantity: Ints
    log_from: Ints


def seats(plan: Plan, offer: Catalogue, sold: Sales, low: int, high: int) -> Seats:
    """Quantities that the sales of the block never exceeded, at any moment."""
    rng = plan.stream("seats", sold.block)
    types, events, tickets = offer.types, offer.events, sold.tickets
    first = int(types.first[low])
    count = int(types.count[low:high].sum())
    event = types.event[first : first + count]
    own = tickets.type - first
    holding = np.isin(tickets.status, (ACTIVE, CHECKED_IN))
    held = np.bincount(own[holding], minlength=count).astype(np.int64)
    moments, kind, running = _running(tickets.purchased, tickets.released, own)
    peak = np.zeros(count, dtype=np.int64)
    np.maximum.at(peak, kind, running)

    fill = rng.uniform(0.3, 0.92, count)
    roomy = np.ceil(np.maximum(peak / fill, 20) / 10).astype(np.int64) * 10
    full = events.sells_out[event] & (peak > 0) & (events.closes[event] < plan.cutoff + 20 * DAY)
    on_sale = (events.opens[event] < plan.cutoff) & (events.closes[event] > plan.cutoff)
    reserved = np.where(on_sale & ~full, rng.integers(0, 5, count), 0)
    quantity = np.where(full, np.maximum(peak, held), roomy) + reserved

    created = events.created[event] + rng.integers(1, 50, count) * 60 * 1_000_000
    opens = events.opens[event]
    latest = np.minimum(events.closes[event], plan.cutoff) - HOUR
    changed = opens + ((latest - opens) * rng.uniform(0.2, 0.9, count)).astype(np.int64)
    changes = (rng.random(count) < 0.12) & (latest > opens + DAY) & (peak > 0)
    before = np.zeros(count, dtype=np.int64)
    early = moments < changed[kind]
    np.maximum.at(before, kind[early], running[early])
    raised = rng.random(count) < 0.6
    original = np.where(
        raised, np.maximum(before, quantity * 2 // 3), quantity + np.maximum(quantity // 5, 5)
    )
    changes &= original != quantity
    rows = np.flatnonzero(changes)
    everything = np.arange(count)
    log_type = np.concatenate([everything, rows])
    return Seats(
        first=first,
        quantity=quantity,
        sold=held,
        reserved=reserved,
        created=created,
        changed=np.where(changes, changed, NONE),
        log_ids=uuids(rng, len(log_type)),
        log_type=log_type,
        log_quantity=np.concatenate([np.where(changes, original, quantity), quantity[rows]]),
        log_from=np.concatenate([created, changed[rows]]),
    )


def _running(taken: Ints, released: Ints, kind: Ints) -> tuple[Ints, Ints, Ints]:
    """Seats held after each change, by type and time; a seat given back in the same moment is free again."""
    gone = released != NONE
    moments = np.concatenate([taken, released[gone]])
    kinds = np.concatenate([kind, kind[gone]])
    change = np.concatenate(
        [np.ones(len(taken), dtype=np.int64), np.full(int(gone.sum()), -1, dtype=np.int64)]
    )
    order = np.lexsort((change, moments, kinds))
    moments, kinds, change = moments[order], kinds[order], change[order]
    running = np.cumsum(change)
    boundary = np.flatnonzero(np.diff(kinds, prepend=-1))
    offset = np.concatenate([[0], running])[boundary]
    sizes = np.diff(np.append(boundary, len(kinds)))
    return moments, kinds, running - np.repeat(offset, sizes)
