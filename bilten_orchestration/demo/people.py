"""Buyers: who they are, where they live, since when. They return, and buy mostly where they live.

Kept sorted by city and, within it, by the day they joined, so that whoever could have bought at a moment is
a prefix.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bilten_orchestration.demo import words
from bilten_orchestration.demo.catalogue import Catalogue
from bilten_orchestration.demo.plan import DAY, HOUR, Bytes, Ints, Plan, instant, starts_of, uuids


@dataclass(frozen=True, slots=True)
class Buyers:
    """`count[c]` from `first[c]` on live in city c, in order of `created`. `visitor` is their main cookie."""

    ids: Bytes
    visitor: Bytes
    city: Ints
    created: Ints
    first: Ints
    count: Ints


def buyers(plan: Plan, offer: Catalogue) -> Buyers:
    """Spread over cities by what is sold there, with some everywhere."""
    rng = plan.stream("buyers")
    cities = len(words.CITIES)
    demand = np.bincount(offer.events.city, weights=offer.events.payments, minlength=cities) + 1.0
    count = np.maximum(np.round(demand / demand.sum() * plan.buyers), 5).astype(np.int64)
    total = int(count.sum())
    city = np.repeat(np.arange(cities), count)
    span = plan.cutoff - instant(plan.first_day) - 2 * DAY
    # a third of a city's buyers were there from the beginning
    share = np.where(rng.random(total) < 0.33, rng.random(total) * 0.02, rng.random(total))
    created = instant(plan.first_day) + (share * span).astype(np.int64)
    order = np.lexsort((created, city))
    return Buyers(
        ids=uuids(rng, total),
        visitor=uuids(rng, total),
        city=city,
        created=created[order],
        first=starts_of(count),
        count=count,
    )


def choose(rng: np.random.Generator, people: Buyers, city: Ints, at: Ints) -> Ints:
    """One buyer for each moment `at` in `city`, who had joined by then; early ones return more often."""
    away = rng.random(len(city)) < 0.08
    city = np.where(away, rng.integers(0, len(people.first), len(city)), city)
    out = np.empty(len(city), dtype=np.int64)
    draw = rng.random(len(city)) ** 1.7
    for number in np.unique(city):
        rows = city == number
        first, count = int(people.first[number]), int(people.count[number])
        joined = np.searchsorted(people.created[first : first + count], at[rows] - HOUR, side="right")
        out[rows] = first + (draw[rows] * np.maximum(joined, 1)).astype(np.int64)
    return out
