"""Rows around the sales: organizations, venues, rates, payouts, brands, counters of events."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bilten_orchestration.demo import accounts, words
from bilten_orchestration.demo import copying as c
from bilten_orchestration.demo.catalogue import ZONES, Catalogue
from bilten_orchestration.demo.copying import Tuples, tuples
from bilten_orchestration.demo.people import Buyers
from bilten_orchestration.demo.plan import DAY, HOUR, NONE, SECOND, Ints, Plan, instant, uuids
from bilten_orchestration.demo.rows import latest

_FONTS = ("Inter", "Source Serif 4", "Work Sans", "Fraunces", "IBM Plex Sans")
_MEASURES = ("view", "share", "save", "waiting_list")


def foundation(plan: Plan, offer: Catalogue, people: Buyers) -> Iterator[Tuples]:
    """Organizations, users and venues: what events and payments refer to."""
    yield _organizations(plan, offer)
    yield from accounts.users(plan, offer, people)
    yield _venues(plan, offer)


def surroundings(plan: Plan, offer: Catalogue, people: Buyers, revenue: Ints) -> Iterator[Tuples]:
    """What hangs on people and events. `revenue`: (organizations, months), minor units of their currency."""
    yield _exchange_rates(plan)
    yield _payouts(plan, offer, revenue)
    yield _brand_settings(plan, offer)
    yield from accounts.traces(plan, offer, people)
    yield from _event_analytics(plan, offer)


def month_numbers(plan: Plan, instants: Ints) -> Ints:
    """Months since the plan's first day."""
    months = instants.astype("datetime64[us]").astype("datetime64[M]").astype(np.int64)
    return months - (plan.first_day.year - 1970) * 12 - (plan.first_day.month - 1)


def _organizations(plan: Plan, offer: Catalogue) -> Tuples:
    organizations = offer.organizations
    n = len(organizations.ids)
    slugs = [f"org-{number + 1}" for number in range(n)]
    return tuples(
        "users.organizations",
        {
            "id": c.uuid(organizations.ids),
            "name": c.text(organizations.names),
            "description": c.text([f"{name}: events since 2019." for name in organizations.names]),
            "website": c.text([f"https://{slug}.example.org" for slug in slugs]),
            "logo_url": c.text([f"https://assets.example.org/{slug}/logo.png" for slug in slugs]),
            "timezone": c.choice(organizations.city, ZONES),
            "default_currency": c.choice(organizations.currency, words.CODES),
            "created_at": c.timestamp(organizations.created),
            "updated_at": c.timestamp(organizations.created),
        },
    )


def _venues(plan: Plan, offer: Catalogue) -> Tuples:
    rng = plan.stream("venue rows")
    venues = offer.venues
    n = len(venues.ids)
    cities = [words.CITIES[city] for city in venues.city]
    streets = rng.integers(0, len(words.STREETS), n)
    used = np.unique(offer.events.venue)
    created = np.full(n, instant(plan.first_day)) + rng.integers(0, 20 * 24, n) * HOUR
    # closed places; only such that no event was ever at
    closed = ~np.isin(np.arange(n), used) & (rng.random(n) < 0.5)
    closed[np.setdiff1d(np.arange(n), used)[:1]] = True
    deleted = np.where(closed, created + 90 * DAY, NONE)
    spread = rng.normal(0, 0.03, (2, n))
    latitude = (np.array([city.latitude for city in cities]) + spread[0]) * 1e6
    longitude = np.clip((np.array([city.longitude for city in cities]) + spread[1]) * 1e6, -180e6, 180e6)
    return tuples(
        "events.venues",
        {
            "id": c.uuid(venues.ids),
            "name": c.text(venues.names),
            "address": c.text(
                [
                    f"{int(number)} {words.STREETS[s]}"
                    for number, s in zip(rng.integers(1, 200, n), streets, strict=True)
                ]
            ),
            "city": c.text([city.name for city in cities]),
            "country": c.text([city.country for city in cities]),
            "postal_code": c.text([city.postal_code for city in cities]),
            "latitude": c.numeric(latitude.astype(np.int64), 6),
            "longitude": c.numeric(longitude.astype(np.int64), 6),
            "capacity": c.int4(venues.capacity),
            "amenities": c.text_array(
                [
                    sorted({words.AMENITIES[int(a)] for a in rng.integers(0, len(words.AMENITIES), 4)})
                    for _ in cities
                ]
            ),
            "created_at": c.timestamp(created),
            "updated_at": c.timestamp(latest(created, deleted)),
            "deleted_at": c.timestamp(deleted),
        },
    )


def _exchange_rates(plan: Plan) -> Tuples:
    """A random walk per currency, to dollars and to euros, one a day up to today's eve."""
    rng = plan.stream("exchange rates")
    first, last = instant(plan.first_day) // DAY, plan.cutoff // DAY
    days = np.arange(first, last)
    walks = np.exp(np.cumsum(rng.normal(0, 0.004, (len(words.CODES), len(days))), axis=1))
    per_dollar = np.array([rate for rate, _ in words.CURRENCIES.values()])[:, None] * walks
    columns: list[tuple[Ints, Ints, Ints, Ints]] = []
    for target in ("USD", "EUR"):
        to = words.CODES.index(target)
        for code in range(len(words.CODES)):
            if code != to:
                rate = np.round(per_dollar[to] / per_dollar[code] * 1e10).astype(np.int64)
                columns.append((days, np.full(len(days), code), np.full(len(days), to), rate))
    day, source, target_code, rate = (np.concatenate(parts) for parts in zip(*columns, strict=True))
    made = day * DAY + 16 * HOUR
    return tuples(
        "financial.exchange_rates",
        {
            "rate_date": c.date(day),
            "from_currency": c.choice(source, words.CODES),
            "to_currency": c.choice(target_code, words.CODES),
            "rate": c.numeric(rate, 10),
            "created_at": c.timestamp(made),
            "updated_at": c.timestamp(made),
        },
    )


def _payouts(plan: Plan, offer: Catalogue, revenue: Ints) -> Tuples:
    """Monthly: what came in, in the organization's own currency, less a tenth kept for refunds."""
    rng = plan.stream("payouts")
    organization, month = np.nonzero(revenue > 0)
    amount = revenue[organization, month] * 9 // 10
    kept = amount > 0
    organization, month, amount = organization[kept], month[kept], amount[kept]
    n = len(amount)
    base = np.datetime64(plan.first_day, "M").astype(np.int64)
    begin = (month + base).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    end = (month + base + 1).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64) - 1
    paid = (end + 1) * DAY + rng.integers(50, 150, n) * HOUR
    draw = rng.random(n)
    status = np.where(paid >= plan.cutoff, 0, np.where(draw < 0.02, 2, 1))
    made = np.minimum((end + 1) * DAY + 6 * HOUR, plan.cutoff - HOUR)
    currency = offer.organizations.currency[organization]
    thousandths = np.array([10 ** (3 - words.MINOR_UNITS[code]) for code in words.CODES])[currency]
    return tuples(
        "financial.payouts",
        {
            "id": c.uuid(uuids(rng, n)),
            "organization_id": c.reference(offer.organizations.ids, organization),
            "amount": c.numeric(amount * thousandths),
            "currency": c.choice(currency, words.CODES),
            "status": c.choice(status, ("pending", "paid", "failed")),
            "period_start": c.date(begin),
            "period_end": c.date(end),
            "paid_at": c.timestamp(np.where(status == 1, paid, NONE)),
            "created_at": c.timestamp(made),
            "updated_at": c.timestamp(np.where(status == 1, np.maximum(paid, made), made)),
        },
    )


def _brand_settings(plan: Plan, offer: Catalogue) -> Tuples:
    rng = plan.stream("brand settings")
    number = np.flatnonzero(rng.random(len(offer.organizers.ids)) < 0.8)
    n = len(number)
    colours = [[f"#{int(value):06x}" for value in rng.integers(0, 1 << 24, n)] for _ in range(2)]
    verified = rng.random(n) < 0.6
    created = offer.organizers.created[number] + HOUR
    return tuples(
        "branding.brand_settings",
        {
            "id": c.uuid(uuids(rng, n)),
            "organizer_id": c.reference(offer.organizers.ids, number),
            "primary_color": c.text(colours[0]),
            "secondary_color": c.text(colours[1]),
            "logo_url": c.text([f"https://assets.example.org/organizers/{o + 1}/logo.png" for o in number]),
            "font_family": c.choice(rng.integers(0, len(_FONTS), n), _FONTS),
            "custom_domain": c.text([f"tickets{o + 1}.example.net" for o in number]),
            "ssl_status": c.choice(verified.astype(np.int64), ("pending", "active")),
            "domain_verified": c.boolean(verified),
            "guidelines": c.jsonb_choice(rng.integers(-1, 1, n), ({"minimum_contrast": 4.5},)),
            "consistency_score": c.int4(rng.integers(40, 101, n)),
            "created_at": c.timestamp(created),
            "updated_at": c.timestamp(created),
        },
    )


def _event_analytics(plan: Plan, offer: Catalogue) -> Iterator[Tuples]:
    events = offer.events
    for number, (low, high) in enumerate(plan.blocks):
        rng = plan.stream("event analytics", number)
        event = np.repeat(np.arange(low, high), np.minimum(events.payments[low:high] // 2 + 3, 200))
        earliest = np.minimum(events.opens[event], plan.cutoff - DAY)
        latest_at = np.minimum(events.end[event], plan.cutoff)
        at = earliest + (rng.random(len(event)) * np.maximum(latest_at - earliest, HOUR)).astype(np.int64)
        measure = np.minimum(rng.geometric(0.7, len(event)) - 1, len(_MEASURES) - 1)
        yield tuples(
            "events.event_analytics",
            {
                "id": c.uuid(uuids(rng, len(event))),
                "event_id": c.reference(events.ids, event),
                "metric_name": c.choice(measure, _MEASURES),
                "metric_value": c.numeric(np.where(measure == 0, rng.integers(1, 40, len(event)), 1) * 1000),
                "created_at": c.timestamp(np.minimum(at, plan.cutoff - SECOND)),
            },
        )
