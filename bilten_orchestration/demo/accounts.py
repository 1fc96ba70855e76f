"""People's rows: organizers and buyers, their preferences, sessions, logins and behaviour."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bilten_orchestration.demo import copying as c
from bilten_orchestration.demo import words
from bilten_orchestration.demo.catalogue import Catalogue
from bilten_orchestration.demo.copying import Tuples, tuples
from bilten_orchestration.demo.people import Buyers
from bilten_orchestration.demo.plan import DAY, HOUR, MINUTE, NONE, SECOND, Bytes, Ints, Plan, uuids
from bilten_orchestration.demo.rows import hexadecimal, latest

PEOPLE_PER_BLOCK = 20_000
_ROLES = ("user", "attendee", "organizer", "staff", "admin")
_ORGANIZER, _STAFF, _ADMIN = 2, 3, 4
_USER_STATUSES = ("active", "inactive", "suspended", "deleted")
_PREFERENCES = (
    ("language", ("en", "de", "fr", "ja", "pt")),
    ("newsletter", ("yes", "no")),
    ("theme", ("light", "dark")),
)
_ACTIONS = ("event.view", "event.save", "search", "ticket.download", "profile.update", "event.share")


def users(plan: Plan, offer: Catalogue, people: Buyers) -> Iterator[Tuples]:
    """users.users: organizers first, then buyers."""
    yield _organizers(plan, offer)
    for low, high in _blocks(people):
        yield _buyers(plan, people, low, high)


def traces(plan: Plan, offer: Catalogue, people: Buyers) -> Iterator[Tuples]:
    """What hangs on buyers."""
    for low, high in _blocks(people):
        yield _preferences(plan, people, low, high)
        yield _sessions(plan, people, low, high)
        yield _login_attempts(plan, people, low, high)
        yield _behaviour(plan, offer, people, low, high)


def _blocks(people: Buyers) -> Iterator[tuple[int, int]]:
    for low in range(0, len(people.ids), PEOPLE_PER_BLOCK):
        yield low, min(low + PEOPLE_PER_BLOCK, len(people.ids))


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
    # some help others, but the first of an organization is its organizer
    further = (np.diff(organizers.organization, prepend=-1) == 0) & (organizers.organization >= 0)
    role = np.where(further & (rng.random(n) < 0.15), _STAFF, _ORGANIZER)
    role[np.flatnonzero(further)[:1]] = _ADMIN
    return tuples(
        "users.users",
        {
            "id": c.uuid(organizers.ids),
            "email": c.text([f"organizer{number + 1}@example.com" for number in range(n)]),
            "password_hash": c.fixed_text(_password_hashes(rng, n)),
            "first_name": c.choice(rng.integers(0, len(words.FIRST_NAMES), n), words.FIRST_NAMES),
            "last_name": c.choice(rng.integers(0, len(words.LAST_NAMES), n), words.LAST_NAMES),
            "role": c.choice(role, _ROLES),
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
