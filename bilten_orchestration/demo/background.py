"""Rows around the sales: people, places, rates, payouts, brands, preferences, sessions, behaviour."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bilten_orchestration.demo import copying as c
from bilten_orchestration.demo import words
from bilten_orchestration.demo.catalogue import ZONES, Catalogue
from bilten_orchestration.demo.copying import Tuples, tuples
from bilten_orchestration.demo.people import Buyers
from bilten_orchestration.demo.plan import DAY, HOUR, MINUTE, NONE, SECOND, Bytes, Ints, Plan, instant, uuids
from bilten_orchestration.demo.rows import hexadecimal, latest

PEOPLE_PER_BLOCK = 20_000
_ROLES = ("user", "attendee", "organizer", "staff", "admin")
_USER_STATUSES = ("active", "inactive", "suspended", "deleted")
_FONTS = ("Inter", "Source Serif 4", "Work Sans", "Fraunces", "IBM Plex Sans")
_PREFERENCES = (
    ("language", ("en", "de", "fr", "ja", "pt")),
    ("newsletter", ("yes", "no")),
    ("theme", ("light", "dark")),
)
_ACTIONS = ("event.view", "event.save", "search", "ticket.download", "profile.update", "event.share")
_MEASURES = ("view", "share", "save", "waiting_list")


def foundation(plan: Plan, offer: Catalogue, people: Buyers) -> Iterator[Tuples]:
    """Organizations, users and venues: what events and payments refer to."""
    yield _organizations(plan, offer)
    yield _organizers(plan, offer)
    for low in range(0, len(people.ids), PEOPLE_PER_BLOCK):
        yield _buyers(plan, people, low, min(low + PEOPLE_PER_BLOCK, len(people.ids)))
    yield _venues(plan, offer)


def surroundings(plan: Plan, offer: Catalogue, people: Buyers, revenue: Ints) -> Iterator[Tuples]:
    """What hangs on people and events. `revenue` is (organizations, months) in minor units of their currency."""
    yield _exchange_rates(plan)
    yield _payouts(plan, offer, revenue)
    yield _brand_settings(plan, offer)
    for low in range(0, len(people.ids), PEOPLE_PER_BLOCK):
        high = min(low + PEOPLE_PER_BLOCK, len(people.ids))
        yield _preferences(plan, people, low, high)
        yield _sessions(plan, people, low, high)
        yield _login_attempts(plan, people, low, high)
        yield _behaviour(plan, offer, people, low, high)
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


def _password_hashes(rng: np.random.Generator, count: int) -> Bytes:
    """Of nobody's password: random bytes in the form of a scrypt hash."""
    prefix = np.frombuffer(b"$scrypt$ln=15,r=8,p=1$", dtype=np.uint8)
    out = np.empty((count, len(prefix) + 64), dtype=np.uint8)
    out[:, : len(prefix)] = prefix
    out[:, len(prefix) :] = hexadecimal(
        np.frombuffer(rng.bytes(32 * count), dtype=np.uint8).reshape(count, 32)
    )
    return out


def _organizers(plan: Plan, offer: Catalogue) -> Tuples:
    rng = plan.stream("organizer rows")
    organizers = offer.organizers
    n = len(organizers.ids)
    return tuples(
        "users.users",
        {
            "id": c.uuid(organizers.ids),
            "email": c.text([f"organizer{number + 1}@example.com" for number in range(n)]),
            "password_hash": c.fixed_text(_password_hashes(rng, n)),
            "first_name": c.choice(rng.integers(0, len(words.FIRST_NAMES), n), words.FIRST_NAMES),
            "last_name": c.choice(rng.integers(0, len(words.LAST_NAMES), n), words.LAST_NAMES),
            "role": c.choice(np.where(np.arange(n) == 0, 4, np.where(rng.random(n) < 0.1, 3, 2)), _ROLES),
            "status": c.choice(np.zeros(n, dtype=np.int64), _USER_STATUSES),
            "email_verified": c.boolean(np.ones(n, dtype=np.bool_)),
            "organization_id": c.reference(offer.organizations.ids, organizers.organization),
            "created_at": c.timestamp(organizers.created),
            "updated_at": c.timestamp(organizers.created),
        },
    )


def emails(low: int, high: int, first: Ints, last: Ints) -> list[str]:
    """Unique by the buyer's number; first and last name as codes."""
    return [
        f"{words.FIRST_NAMES[f]}.{words.LAST_NAMES[s]}.{number}@{words.DOMAINS[number % 3]}".lower()
        for number, f, s in zip(range(low, high), first, last, strict=True)
    ]


def buyer_names(plan: Plan, low: int, high: int) -> tuple[Ints, Ints]:
    rng = plan.stream("buyer names", low)
    n = high - low
    return rng.integers(0, len(words.FIRST_NAMES), n), rng.integers(0, len(words.LAST_NAMES), n)


def _buyers(plan: Plan, people: Buyers, low: int, high: int) -> Tuples:
    rng = plan.stream("buyer rows", low)
    n = high - low
    first, last = buyer_names(plan, low, high)
    created = people.created[low:high]
    draw = rng.random(n)
    status = np.where(draw < 0.02, 1, np.where(draw < 0.023, 2, np.where(draw < 0.028, 3, 0)))
    left = created + (rng.random(n) * (plan.cutoff - created - HOUR)).astype(np.int64) + HOUR
    deleted = np.where((status == 3) & (left < plan.cutoff), left, NONE)
    status = np.where((status == 3) & (deleted == NONE), 0, status)
    born = plan.cutoff // DAY - rng.integers(18 * 365, 75 * 365, n)
    return tuples(
        "users.users",
        {
            "id": c.uuid(people.ids[low:high]),
            "email": c.ascii_text(np.array(emails(low, high, first, last), dtype="S")),
            "password_hash": c.fixed_text(_password_hashes(rng, n)),
            "first_name": c.choice(first, words.FIRST_NAMES),
            "last_name": c.choice(last, words.LAST_NAMES),
            "phone": c.text([f"+1555{number:08d}" for number in range(low, high)]),
            "date_of_birth": c.date(np.where(rng.random(n) < 0.4, born, NONE)),
            "role": c.choice((rng.random(n) < 0.6).astype(np.int64), _ROLES),
            "status": c.choice(status, _USER_STATUSES),
            "email_verified": c.boolean(rng.random(n) < 0.9),
            "profile_data": c.jsonb_choice(
                np.where(rng.random(n) < 0.5, people.city[low:high], -1),
                [{"city": city.name} for city in words.CITIES],
            ),
            "preferences": c.jsonb_choice(
                rng.integers(-1, 2, n), ({"currency_display": "symbol"}, {"currency_display": "code"})
            ),
            "created_at": c.timestamp(created),
            "updated_at": c.timestamp(latest(created, deleted)),
            "deleted_at": c.timestamp(deleted),
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


def _preferences(plan: Plan, people: Buyers, low: int, high: int) -> Tuples:
    rng = plan.stream("preferences", low)
    pairs = [(key, value) for key, values in _PREFERENCES for value in values]
    starts = np.cumsum([0] + [len(values) for _, values in _PREFERENCES[:-1]])
    buyer = low + np.flatnonzero(rng.random(high - low) < 0.25)
    which = rng.integers(0, len(_PREFERENCES), len(buyer))
    sizes = np.array([len(values) for _, values in _PREFERENCES])
    pair = starts[which] + rng.integers(0, sizes[which])
    at = people.created[buyer] + MINUTE
    return tuples(
        "users.user_preferences",
        {
            "id": c.uuid(uuids(rng, len(buyer))),
            "user_id": c.reference(people.ids, buyer),
            "preference_key": c.choice(pair, [key for key, _ in pairs]),
            "preference_value": c.choice(pair, [value for _, value in pairs]),
            "created_at": c.timestamp(at),
            "updated_at": c.timestamp(at),
        },
    )


def recent_sessions(plan: Plan, people: Buyers, low: int, high: int) -> tuple[Bytes, Ints, Ints]:
    """Session ids, buyers and logins (us) of the last 30 days; Redis holds those of the last day."""
    rng = plan.stream("sessions", low)
    buyer = low + np.flatnonzero(rng.random(high - low) < 0.3)
    earliest = np.maximum(people.created[buyer] + MINUTE, plan.cutoff - 30 * DAY)
    login = earliest + (rng.random(len(buyer)) ** 0.5 * (plan.cutoff - HOUR - earliest)).astype(np.int64)
    return uuids(rng, len(buyer)), buyer, login


def _sessions(plan: Plan, people: Buyers, low: int, high: int) -> Tuples:
    ids, buyer, login = recent_sessions(plan, people, low, high)
    rng = plan.stream("session rows", low)
    n = len(buyer)
    seen = np.minimum(login + (rng.exponential(2, n) * HOUR).astype(np.int64), plan.cutoff - SECOND)
    revoked = np.where(rng.random(n) < 0.1, seen, NONE)
    return tuples(
        "authentication.sessions",
        {
            "id": c.uuid(ids),
            "user_id": c.reference(people.ids, buyer),
            "token_hash": c.fixed_text(
                hexadecimal(np.frombuffer(rng.bytes(32 * n), dtype=np.uint8).reshape(n, 32))
            ),
            "user_agent": c.choice(rng.integers(0, len(words.AGENTS), n), words.AGENTS),
            "ip_address": c.inet(_addresses(rng, n)),
            "created_at": c.timestamp(login),
            "updated_at": c.timestamp(seen),
            "last_seen_at": c.timestamp(seen),
            "expires_at": c.timestamp(login + DAY),
            "revoked_at": c.timestamp(revoked),
        },
    )


def _addresses(rng: np.random.Generator, count: int) -> Ints:
    """Out of the three documentation networks of RFC 5737."""
    networks = np.array((0xC0000200, 0xC6336400, 0xCB007100), dtype=np.int64)
    return networks[rng.integers(0, 3, count)] + rng.integers(1, 255, count)


def _login_attempts(plan: Plan, people: Buyers, low: int, high: int) -> Tuples:
    rng = plan.stream("login attempts", low)
    buyer = low + np.flatnonzero(rng.random(high - low) < 0.5)
    n = len(buyer)
    first, last = buyer_names(plan, low, high)
    addresses = np.array(emails(low, high, first, last), dtype="S")[buyer - low]
    at = people.created[buyer] + (rng.random(n) * (plan.cutoff - people.created[buyer])).astype(np.int64)
    failed = rng.random(n) < 0.12
    return tuples(
        "authentication.login_attempts",
        {
            "id": c.uuid(uuids(rng, n)),
            "user_id": c.reference(people.ids, np.where(failed & (rng.random(n) < 0.2), -1, buyer)),
            "email": c.ascii_text(addresses),
            "succeeded": c.boolean(~failed),
            "failure_reason": c.choice(
                np.where(failed, rng.integers(0, 2, n), -1), ("wrong password", "too many attempts")
            ),
            "ip_address": c.inet(_addresses(rng, n)),
            "created_at": c.timestamp(at),
            "updated_at": c.timestamp(at),
        },
    )


def _behaviour(plan: Plan, offer: Catalogue, people: Buyers, low: int, high: int) -> Tuples:
    """The last twelve months: what is kept of it."""
    rng = plan.stream("behaviour", low)
    n = round((high - low) * 1.5)
    buyer = low + rng.integers(0, high - low, n)
    earliest = np.maximum(people.created[buyer], plan.cutoff - 365 * DAY)
    at = earliest + (rng.random(n) * (plan.cutoff - earliest)).astype(np.int64)
    action = rng.integers(0, len(_ACTIONS), n)
    on_event = np.isin(action, (0, 1, 3, 5))
    return tuples(
        "users.user_behavior",
        {
            "id": c.uuid(uuids(rng, n)),
            "user_id": c.reference(people.ids, np.where(rng.random(n) < 0.1, -1, buyer)),
            "action": c.choice(action, _ACTIONS),
            "resource_type": c.choice(np.where(on_event, 0, -1), ("event",)),
            "resource_id": c.reference(
                offer.events.ids, np.where(on_event, rng.integers(0, len(offer.events.ids), n), -1)
            ),
            "metadata": c.jsonb_choice(rng.integers(-1, 2, n), ({"device": "mobile"}, {"device": "desktop"})),
            "created_at": c.timestamp(at),
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
