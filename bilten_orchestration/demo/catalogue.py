"""What is offered: organizations, their organizers, venues, events and ticket types.

Held in memory whole (30,000 events at scale 20); what depends on sales (sold, quantity) is not here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bilten_orchestration.demo import words
from bilten_orchestration.demo.localtime import MONTHS_NORTH, by_zone
from bilten_orchestration.demo.plan import (
    DAY,
    HOUR,
    MINUTE,
    NONE,
    Bools,
    Bytes,
    Floats,
    Ints,
    Plan,
    instant,
    pick,
    ranks,
    starts_of,
    uuids,
)

CITY_ZONES = [city.timezone for city in words.CITIES]
UTC_CODE = len(CITY_ZONES)
ZONES = [*CITY_ZONES, "UTC"]
"""Zone codes are city numbers; UTC_CODE where there is no organization."""
CATEGORY_NAMES = list(words.CATEGORIES)
VENUES_PER_CITY = len(words.HALLS)

NORMAL, CANCELLED, POSTPONED, DRAFT, UNSOLD, DELETED, FREE = range(7)
_SHARES = (0.0, 0.04, 0.03, 0.04, 0.03, 0.015, 0.06)
"""Share of events of each kind; the rest is normal. Each kind has two events at least."""


@dataclass(frozen=True, slots=True)
class Organizations:
    ids: Bytes
    city: Ints
    names: list[str]
    currency: Ints
    created: Ints


@dataclass(frozen=True, slots=True)
class Organizers:
    """`organization` is -1 for those who work alone."""

    ids: Bytes
    organization: Ints
    created: Ints


@dataclass(frozen=True, slots=True)
class Venues:
    ids: Bytes
    city: Ints
    capacity: Ints
    names: list[str]


@dataclass(frozen=True)
class Events:
    """One value per event; times in microseconds UTC, NONE where there is none.

    `zone` is the organization's (owns the metric days), `city` where it takes place (its own zone differs
    on tour). `fee_rate` and `tax` in hundredths of a percent, `fee_fixed` per ticket in minor units.
    """

    ids: Bytes
    organizer: Ints
    organization: Ints
    zone: Ints
    city: Ints
    venue: Ints
    category: Ints
    currency: Ints
    kind: Ints
    start: Ints
    end: Ints
    first_start: Ints
    postponed_at: Ints
    cancelled_at: Ints
    created: Ints
    opens: Ints
    closes: Ints
    payments: Ints
    fee_rate: Ints
    fee_fixed: Ints
    fee_per_ticket: Bools
    sells_out: Bools
    attendance: Floats
    titles: list[str]

    @cached_property
    def minor(self) -> Ints:
        """Thousandths in one minor unit of the event's currency."""
        return _THOUSANDTHS[self.currency]


@dataclass(frozen=True, slots=True)
class TicketTypes:
    """Laid out event by event: those of event e begin at first[e] and are count[e]. Prices in minor units."""

    ids: Bytes
    event: Ints
    kind: Ints
    price: Ints
    share: Floats
    closes: Ints
    first: Ints
    count: Ints


@dataclass(frozen=True, slots=True)
class Catalogue:
    organizations: Organizations
    organizers: Organizers
    venues: Venues
    events: Events
    types: TicketTypes


_THOUSANDTHS = np.array([10 ** (3 - words.MINOR_UNITS[code]) for code in words.CODES], dtype=np.int64)
_RATES = np.array([words.CURRENCIES[code][0] for code in words.CODES])
_STEPS = np.array([words.CURRENCIES[code][1] for code in words.CODES], dtype=np.int64)


def minor_units(dollars: Floats, currency: Ints) -> Ints:
    """Prices in dollars as round prices in minor units of each currency, at least one step."""
    exact = dollars * _RATES[currency] * 1000 / _THOUSANDTHS[currency]
    prices: Ints = np.maximum(np.round(exact / _STEPS[currency]).astype(np.int64), 1) * _STEPS[currency]
    return prices


def catalogue(plan: Plan) -> Catalogue:
    """The whole offer; equal for equal plans."""
    organizations = _organizations(plan)
    organizers = _organizers(plan, organizations)
    venues = _venues(plan)
    events = _events(plan, organizations, organizers, venues)
    return Catalogue(organizations, organizers, venues, events, _ticket_types(plan, events))


def _organizations(plan: Plan) -> Organizations:
    rng = plan.stream("organizations")
    count = plan.organizations
    city = np.arange(count) % len(words.CITIES)
    names = [
        f"{words.HOUSES[int(rng.integers(len(words.HOUSES)))]} {words.CITIES[c].name}"
        f" {words.TRADES[int(rng.integers(len(words.TRADES)))]}"
        for c in city
    ]
    codes = {code: number for number, code in enumerate(words.CODES)}
    currency = np.array([codes[words.CITIES[c].currency] for c in city], dtype=np.int64)
    created = instant(plan.first_day) + (rng.random(count) * 30 * DAY).astype(np.int64)
    return Organizations(uuids(rng, count), city.astype(np.int64), names, currency, created)


def _organizers(plan: Plan, organizations: Organizations) -> Organizers:
    rng = plan.stream("organizers")
    per_organization = rng.integers(1, 4, plan.organizations)
    alone = max(1, plan.organizations // 30)
    organization = np.concatenate(
        [np.repeat(np.arange(plan.organizations), per_organization), np.full(alone, -1)]
    )
    count = len(organization)
    founded = np.where(organization >= 0, organizations.created[organization], instant(plan.first_day))
    return Organizers(
        uuids(rng, count),
        organization.astype(np.int64),
        founded + (rng.random(count) * 5 * DAY).astype(np.int64),
    )


def _venues(plan: Plan) -> Venues:
    rng = plan.stream("venues")
    city = np.repeat(np.arange(len(words.CITIES)), VENUES_PER_CITY)
    size = np.tile(np.arange(VENUES_PER_CITY), len(words.CITIES))
    capacity = (np.array([h[0] for h in words.HALLS])[size] * rng.uniform(0.8, 1.3, len(city))).astype(
        np.int64
    )
    names = [f"{words.HOUSES[int(rng.integers(len(words.HOUSES)))]} {words.HALLS[s][1]}" for s in size]
    return Venues(uuids(rng, len(city)), city.astype(np.int64), capacity, names)


def _kinds(plan: Plan, rng: np.random.Generator) -> Ints:
    kinds = np.zeros(plan.events, dtype=np.int64)
    order = rng.permutation(plan.events)
    at = 0
    for kind, share in enumerate(_SHARES):
        if kind != NORMAL:
            count = max(2, round(share * plan.events))
            kinds[order[at : at + count]] = kind
            at += count
    return kinds


def _starts(plan: Plan, rng: np.random.Generator, zone: Ints, city: Ints, kind: Ints) -> Ints:
    """Local evenings and afternoons, more in summer, most at the end of the week."""
    first, last = instant(plan.first_event_day) // DAY, plan.cutoff // DAY + 183
    days = np.arange(first, last)
    month = ((days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)) % 12).astype(np.int64)
    weekday_weight = np.array((0.5, 0.55, 0.7, 1.0, 1.8, 2.3, 1.2))[(days + 3) % 7]
    north = np.array(MONTHS_NORTH)
    south = np.roll(north, 6)
    is_south = np.array([c.latitude < 0 for c in words.CITIES])[city]
    day = np.where(
        is_south,
        days[pick(rng, south[month] * weekday_weight, plan.events)],
        days[pick(rng, north[month] * weekday_weight, plan.events)],
    )
    # cancelled and postponed ones need a past to be told: sales before, refunds after
    near = plan.cutoff // DAY - rng.integers(30, 400, plan.events)
    day = np.where((kind == CANCELLED) | (kind == POSTPONED), near, day)
    day = np.where(kind == DRAFT, plan.cutoff // DAY + rng.integers(20, 170, plan.events), day)
    hour = np.array((10, 14, 18, 19, 20, 20, 21, 23))[
        pick(rng, (1.5, 1.5, 1.5, 3, 3, 2, 1, 0.4), plan.events)
    ]
    half = rng.integers(0, 2, plan.events) * 30 * MINUTE
    return by_zone(ZONES, zone, day * DAY + hour * HOUR + half, to_utc=True)


def _events(plan: Plan, organizations: Organizations, organizers: Organizers, venues: Venues) -> Events:
    rng = plan.stream("events")
    n = plan.events
    organizer = rng.integers(0, len(organizers.ids), n)
    # every organizer has an event, and so every organization and zone, whatever the scale
    covered = min(n, len(organizers.ids))
    organizer[:covered] = np.arange(covered)
    organizer = rng.permutation(organizer)
    organization = organizers.organization[organizer]
    alone = organization < 0
    on_tour = (rng.random(n) < 0.12) & ~alone
    home = np.where(alone, 5, organizations.city[organization])
    city = np.where(on_tour, rng.integers(0, len(words.CITIES), n), home)
    zone = np.where(alone, UTC_CODE, home)
    codes = {code: number for number, code in enumerate(words.CODES)}
    currency = np.array([codes[words.CITIES[c].currency] for c in city], dtype=np.int64)
    kind = _kinds(plan, rng)
    first_start = _starts(plan, rng, city, city, kind)
    category = rng.integers(0, len(CATEGORY_NAMES), n)
    hours = np.array([words.CATEGORIES[name][3] for name in CATEGORY_NAMES])[category]
    length = (np.round(hours * rng.uniform(0.7, 1.5, n) * 2) * 30 * MINUTE).astype(np.int64)
    multi_day = (category == CATEGORY_NAMES.index("conference")) & (rng.random(n) < 0.5)
    length += np.where(multi_day, rng.integers(1, 3, n) * DAY, 0)

    postponed = kind == POSTPONED
    told = first_start - rng.integers(4, 25, n) * DAY + rng.integers(0, 8, n) * HOUR
    postponed_at = np.where(postponed, told, NONE)
    start = np.where(postponed, first_start + rng.integers(14, 90, n) * DAY, first_start)
    cancelled_at = np.where(
        kind == CANCELLED, first_start - rng.integers(2, 20, n) * DAY - rng.integers(0, 9, n) * HOUR, NONE
    )

    lead = rng.integers(28, 150, n)
    # on sale at ten in the morning, local time
    local_day = by_zone(ZONES, city, first_start, to_utc=False) // DAY - lead
    opens = by_zone(ZONES, city, local_day * DAY + 10 * HOUR, to_utc=True)
    closes = np.where(cancelled_at != NONE, cancelled_at, start)
    created = opens - (rng.uniform(3, 25, n) * DAY).astype(np.int64)
    never_open = np.isin(kind, (DRAFT, UNSOLD, DELETED))
    created = np.minimum(created, plan.cutoff - (rng.uniform(1, 20, n) * DAY).astype(np.int64))
    created = np.maximum(created, organizers.created[organizer] + HOUR)
    opens = np.maximum(opens, created + HOUR)

    sells_out = (rng.random(n) < 0.14) & (kind == NORMAL)
    weight = rng.lognormal(0.0, 0.95, n) * np.where(sells_out, 2.2, 1.0)
    elapsed = np.clip((plan.cutoff - opens) / np.maximum(closes - opens, 1), 0, 1)
    weight *= elapsed * ~never_open * (kind != FREE)
    payments = rng.multinomial(plan.payments, weight / weight.sum()).astype(np.int64)
    expected = payments * 2.6 / np.maximum(elapsed, 0.2)
    halls = np.searchsorted(np.array([h[0] for h in words.HALLS]) * 0.85, expected).clip(
        0, VENUES_PER_CITY - 1
    )
    online = rng.random(n) < 0.05
    venue = np.where(online, -1, city * VENUES_PER_CITY + halls)

    absorbed = rng.random(n) < 0.10
    fee_rate = np.where(absorbed, 0, np.array((350, 500, 650, 800))[rng.integers(0, 4, n)])
    step = np.maximum(_STEPS[currency] // 5, 1)
    fee_fixed = np.where(absorbed, 0, step * rng.integers(1, 12, n))
    attendance = np.where(kind == FREE, rng.uniform(0.4, 0.7, n), rng.beta(18, 2.5, n))
    return Events(
        ids=uuids(rng, n),
        organizer=organizer,
        organization=organization,
        zone=zone,
        city=city,
        venue=venue,
        category=category,
        currency=currency,
        kind=kind,
        start=start,
        end=start + length,
        first_start=first_start,
        postponed_at=postponed_at,
        cancelled_at=cancelled_at,
        created=created,
        opens=opens,
        closes=closes,
        payments=payments,
        fee_rate=fee_rate,
        fee_fixed=fee_fixed,
        fee_per_ticket=rng.random(n) < 0.22,
        sells_out=sells_out,
        attendance=attendance,
        titles=[_title(rng, CATEGORY_NAMES[c]) for c in category],
    )


def _title(rng: np.random.Generator, category: str) -> str:
    adjectives, subjects, forms, _, _ = words.CATEGORIES[category]
    parts = (
        adjectives[int(rng.integers(len(adjectives)))],
        subjects[int(rng.integers(len(subjects)))],
        forms[int(rng.integers(len(forms)))],
    )
    return " ".join(part for part in parts if part)


def _ticket_types(plan: Plan, events: Events) -> TicketTypes:
    rng = plan.stream("ticket types")
    lineup = pick(rng, (2.0, 3.0, 2.0, 3.0, 1.0, 1.5, 1.2, 1.0, 1.0, 0.8), plan.events)
    lineup = np.where(events.kind == FREE, 0, lineup)
    sizes = np.array([len(members) for members in words.LINEUPS])
    count = sizes[lineup].astype(np.int64)
    event = np.repeat(np.arange(plan.events), count)
    members = np.zeros((len(words.LINEUPS), sizes.max()), dtype=np.int64)
    for number, lineup_members in enumerate(words.LINEUPS):
        members[number, : len(lineup_members)] = lineup_members
    kind = members[lineup[event], ranks(count)]
    usual = np.array([words.CATEGORIES[name][4] for name in CATEGORY_NAMES])[events.category]
    level = usual * rng.lognormal(0.0, 0.35, plan.events)
    factor = np.array([t[1] for t in words.TYPES])[kind]
    price = minor_units(level[event] * factor, events.currency[event])
    # 9.99 rather than 10.00, where the currency has the coin for it
    charm = (rng.random(plan.events) < 0.3)[event] & (events.minor[event] < 1000)
    price = np.where(charm & (price > 10), price - 1, price)
    price = np.where((factor == 0) | (events.kind[event] == FREE), 0, price)
    window = np.array([t[3] for t in words.TYPES])[kind]
    closes = events.opens + np.maximum(events.closes - events.opens, DAY)
    span = closes - events.opens
    return TicketTypes(
        ids=uuids(rng, len(event)),
        event=event,
        kind=kind,
        price=price,
        share=np.array([t[2] for t in words.TYPES])[kind] * rng.uniform(0.7, 1.3, len(event)),
        closes=events.opens[event] + (span[event] * window).astype(np.int64),
        first=starts_of(count),
        count=count,
    )
