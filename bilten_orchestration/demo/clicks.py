"""The clickstream of a block of events: who looked, where they came from, and who went on to buy.

Drawn to match the orders of the same block (sales.py): each order has the session that led to it, and many
an earlier visit; the purchase itself is a payment and no click. The rest are visitors who did not buy,
pages that belong to no event, and bots, some of which say so and some of which only behave so. Some rows
are delivered twice, with the same click_id. Each row says when it arrived, as production would have written
it: seconds after the click, up to 72 h after it where a phone had no connection. Rows go to ClickHouse
through ingestion.clickstream alone, which truncates addresses and computes the local day.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

import numpy as np
import pyarrow as pa

from bilten_orchestration.demo import words
from bilten_orchestration.demo.catalogue import DRAFT, ZONES, Catalogue
from bilten_orchestration.demo.people import Buyers
from bilten_orchestration.demo.plan import (
    DAY,
    HOUR,
    MINUTE,
    SECOND,
    Bools,
    Bytes,
    Floats,
    Ints,
    Plan,
    pick,
    uuids,
)
from bilten_orchestration.demo.sales import Sales, sales

BLOCKS_PER_BATCH = 2
"""Blocks sorted by time together, so that an insert meets few monthly partitions: 400,000 rows."""
LATE_SESSIONS = 0.015
LATEST = 72 * HOUR - MINUTE
"""The writer refuses what comes later than 72 h."""
SITE = "https://tickets.example.com"

# utm_source, utm_medium, utm_campaign, referrer; share of sessions
SOURCES = (
    (("", "", "", ""), 0.36),
    (("", "", "", "https://search.example.net/results"), 0.22),
    (("newsletter", "email", "weekly", ""), 0.12),
    (("social", "paid_social", "summer", "https://social.example.org/feed"), 0.10),
    (("search", "cpc", "brand", "https://search.example.net/results"), 0.08),
    (("partner", "affiliate", "city-guide", "https://guide.example.org/tonight"), 0.06),
    (("social", "social", "", "https://social.example.org/post"), 0.06),
)
DIRECT = 0
VIEW, CHECKOUT, SEARCH, SHARE, CLICK = range(5)
TYPES = ("page_view", "checkout_started", "search", "share", "click")
NAMES = ("event page", "checkout", "search", "share link", "seat map")
_COUNTRIES = sorted({city.country for city in words.CITIES})
_AGENTS = (*words.AGENTS, *words.BOTS)


@dataclass(slots=True)
class _Sessions:
    """One value per session; `last` is the moment of its last row, `pace` the mean gap between rows."""

    event: Ints
    visitor: Bytes
    user: Ints
    login: Ints
    source: Ints
    agent: Ints
    country: Ints
    rows: Ints
    checkout: Ints
    last: Ints
    pace: Floats


def zones(offer: Catalogue) -> dict[UUID, str]:
    """The zone of each event that has an organization."""
    return {
        UUID(bytes=offer.events.ids[number].tobytes()): ZONES[int(offer.events.zone[number])]
        for number in np.flatnonzero(offer.events.organization >= 0)
    }


def batch_count(plan: Plan) -> int:
    return -(-len(plan.blocks) // BLOCKS_PER_BATCH)


def batches(plan: Plan, offer: Catalogue, people: Buyers, after: int = 0) -> Iterator[tuple[int, pa.Table]]:
    """(number of the batch, its rows in order of time), from batch `after` on."""
    blocks = list(enumerate(plan.blocks))
    for number, start in enumerate(range(0, len(blocks), BLOCKS_PER_BATCH)):
        if number >= after:
            tables = [
                clicks(plan, offer, people, sales(plan, offer, people, block, low, high), low, high)
                for block, (low, high) in blocks[start : start + BLOCKS_PER_BATCH]
            ]
            yield number, pa.concat_tables(tables).unify_dictionaries().sort_by("timestamp").combine_chunks()


def clicks(plan: Plan, offer: Catalogue, people: Buyers, sold: Sales, low: int, high: int) -> pa.Table:
    """All rows around the events low..high, in no order."""
    rng = plan.stream("clicks", sold.block)
    buying = _buying(offer, people, rng, sold)
    wanted = plan.clicks * (high - low) / plan.events
    bots = _bots(plan, offer, rng, low, high, wanted * 0.03)
    looking = _looking(plan, offer, people, rng, low, high, wanted - _count(buying) - _count(bots))
    parts = [buying, looking, bots]
    sessions = _Sessions(*(np.concatenate([getattr(p, name) for p in parts]) for name in _Sessions.__slots__))
    return _rows(plan, offer, people, rng, sessions, sold, low)


def _count(sessions: _Sessions) -> int:
    return int(sessions.rows.sum())


def _buying(offer: Catalogue, people: Buyers, rng: np.random.Generator, sold: Sales) -> _Sessions:
    """The session before each order, and for a third of them the one that made them curious."""
    payments = sold.payments
    early = np.flatnonzero(rng.random(len(payments.event)) < 0.34)
    order = np.concatenate([np.arange(len(payments.event)), early])
    final = np.arange(len(order)) < len(payments.event)
    n = len(order)
    ahead = np.where(
        final, rng.integers(20, 480, n) * SECOND, (rng.exponential(4, n) * DAY).astype(np.int64) + HOUR
    )
    own = rng.random(n) < 0.87
    source = pick(rng, [share for _, share in SOURCES], n)
    # who was made curious by a campaign comes back by typing the address
    returning = final & np.isin(order, early) & (rng.random(n) < 0.7)
    rows = 2 + rng.geometric(0.5, n)
    return _Sessions(
        event=payments.event[order],
        visitor=np.where(own[:, None], people.visitor[payments.buyer[order]], uuids(rng, n)),
        user=np.where(final | (rng.random(n) < 0.4), payments.buyer[order], -1),
        login=np.where(rng.random(n) < 0.6, 0, rows - 1),
        source=np.where(returning, DIRECT, source),
        agent=rng.integers(0, len(words.AGENTS), n),
        country=_country(people.city[payments.buyer[order]]),
        rows=rows,
        checkout=np.where(final, order, -1),
        last=payments.created[order] - ahead,
        pace=np.full(n, 48.0),
    )


def _looking(
    plan: Plan, offer: Catalogue, people: Buyers, rng: np.random.Generator, low: int, high: int, wanted: float
) -> _Sessions:
    """Visitors who did not buy; one in sixteen looks at no event, one in twenty leaves from the checkout."""
    per_session = 2.45
    n = max(int(wanted / per_session), 10)
    events = offer.events
    weight = (
        (events.payments[low:high] + 8.0)
        * (events.kind[low:high] != DRAFT)
        * (events.opens[low:high] < plan.cutoff)
    )
    event = low + pick(rng, weight, n) if weight.sum() else np.full(n, -1)
    event = np.where(rng.random(n) < 0.06, -1, event)
    number = np.maximum(event, 0)
    ends = np.minimum(events.closes, plan.cutoff)[number]
    begins = np.minimum(events.opens[number] - DAY, ends - DAY)
    last = begins + (rng.beta(1.1, 1.0, n) * (ends - begins)).astype(np.int64)
    known = rng.random(n) < 0.25
    buyer = rng.integers(0, len(people.ids), n)
    pool = uuids(rng, max(n * 6 // 10, 1))
    rows = rng.geometric(0.41, n).clip(1, 40)
    logged_in = known & (rng.random(n) < 0.4) & (people.created[buyer] < last)
    leaves = (rng.random(n) < 0.05) & (event >= 0) & (rows > 1)
    return _Sessions(
        event=event,
        visitor=np.where(known[:, None], people.visitor[buyer], pool[rng.integers(0, len(pool), n)]),
        user=np.where(logged_in, buyer, -1),
        login=np.zeros(n, dtype=np.int64),
        source=pick(rng, [share for _, share in SOURCES], n),
        agent=rng.integers(0, len(words.AGENTS), n),
        country=_country(
            np.where(rng.random(n) < 0.9, events.city[number], rng.integers(0, len(words.CITIES), n))
        ),
        rows=rows,
        checkout=np.where(leaves, ABANDONED, -1),
        last=last,
        pace=np.full(n, 55.0),
    )


ABANDONED = 1 << 40
"""A checkout that no order came of."""


def _bots(
    plan: Plan, offer: Catalogue, rng: np.random.Generator, low: int, high: int, wanted: float
) -> _Sessions:
    """Long runs of page views without a pause; a third of them pass for a browser."""
    n = max(int(wanted / 90), 2)
    disguised = rng.random(n) < 0.33
    event = rng.integers(low, high, n)
    ends = np.minimum(offer.events.closes[event], plan.cutoff)
    return _Sessions(
        event=event,
        visitor=uuids(rng, n),
        user=np.full(n, -1),
        login=np.zeros(n, dtype=np.int64),
        source=np.zeros(n, dtype=np.int64),
        agent=np.where(
            disguised,
            rng.integers(0, len(words.AGENTS), n),
            len(words.AGENTS) + rng.integers(0, len(words.BOTS), n),
        ),
        country=rng.integers(0, len(_COUNTRIES), n),
        rows=rng.integers(40, 140, n),
        checkout=np.full(n, -1),
        last=ends - HOUR - (rng.random(n) * 20 * DAY).astype(np.int64),
        pace=np.full(n, 0.6),
    )


_COUNTRY_OF_CITY = np.array([_COUNTRIES.index(city.country) for city in words.CITIES], dtype=np.int64)


def _country(city: Ints) -> Ints:
    return _COUNTRY_OF_CITY[city]


def _rows(
    plan: Plan,
    offer: Catalogue,
    people: Buyers,
    rng: np.random.Generator,
    sessions: _Sessions,
    sold: Sales,
    low: int,
) -> pa.Table:
    session_ids = uuids(rng, len(sessions.rows))
    of = np.repeat(np.arange(len(sessions.rows)), sessions.rows)
    end = np.cumsum(sessions.rows)[of] - 1
    rank = np.arange(len(of)) - (end + 1 - sessions.rows[of])
    passed = np.cumsum((rng.exponential(1.0, len(of)) * sessions.pace[of] * SECOND).astype(np.int64))
    at = sessions.last[of] - (passed[end] - passed)

    landing, final = rank == 0, np.arange(len(of)) == end
    draw = rng.random(len(of))
    human = sessions.pace[of] > 5
    kind = np.where((draw < 0.10) & human & ~landing, 2 + (draw * 30).astype(np.int64), VIEW)
    checkout = sessions.checkout[of]
    kind = np.where(final & (checkout >= 0), CHECKOUT, kind)
    kind = np.where((sessions.event[of] < 0) & (kind == VIEW) & ~landing, SEARCH, kind)
    user = np.where(rank >= sessions.login[of], sessions.user[of], -1)

    ids = uuids(rng, len(of))
    kept = np.flatnonzero((at < plan.cutoff - MINUTE) & (at > plan.cutoff - 1000 * DAY))
    again = kept[rng.random(len(kept)) < 0.012]
    arrived = _arrivals(rng, at, sessions.last[of], of)
    chosen = np.concatenate([kept, again])
    arrived = np.concatenate([arrived[kept], _again(rng, at[again], arrived[again])])
    in_time = arrived < plan.cutoff  # the others are still on their way
    chosen, arrived = chosen[in_time], arrived[in_time]
    source = np.where(landing, sessions.source[of], -1)
    bought = np.where((kind == CHECKOUT) & (checkout < ABANDONED), checkout, -1)

    of, at, kind, user, source, bought = (column[chosen] for column in (of, at, kind, user, source, bought))
    event = sessions.event[of]
    return pa.table(
        {
            "click_id": _ids(ids[chosen]),
            "event_id": _numbered(offer.events.ids, event),
            "session_id": _ids(session_ids[of]),
            "user_id": _numbered(people.ids, user),
            "visitor_id": _ids(sessions.visitor[of]),
            "organizer_id": _numbered(
                offer.organizers.ids, np.where(event >= 0, offer.events.organizer[np.maximum(event, 0)], -1)
            ),
            "event_type": _texts(kind, TYPES),
            "event_name": _texts(kind, NAMES),
            "timestamp": pa.array(at // 1000 * 1000, pa.timestamp("us", "UTC")),
            "ingested_at": pa.array(arrived // 1000 * 1000, pa.timestamp("us", "UTC")),
            "properties": _properties(offer, sold, sessions.agent[of], sessions.country[of], source, bought),
            "user_agent": _texts(sessions.agent[of], _AGENTS),
            "ip_address": _texts((of * 2654435761) % len(_ADDRESSES), _ADDRESSES),
            "referrer": _referrers(source, event, low),
            "page_url": _addresses(source, event, low, int(plan.blocks[sold.block][1])),
        }
    )


def _arrivals(rng: np.random.Generator, at: Ints, last: Ints, of: Ints) -> Ints:
    """When each click is written: within seconds, or with its whole session once a phone is online again."""
    sessions = int(of[-1]) + 1 if len(of) else 0
    offline = rng.random(sessions) < LATE_SESSIONS
    # ten hours in the mean; a few as late as is accepted
    away = np.minimum((rng.exponential(10, sessions) * HOUR).astype(np.int64) + 5 * MINUTE, LATEST)
    soon = at + (rng.gamma(2.0, 0.9, len(of)) * SECOND).astype(np.int64) + SECOND // 5
    late = np.minimum(last + away[of], at + LATEST)
    return np.where(offline[of], np.maximum(late, soon), soon)


def _again(rng: np.random.Generator, at: Ints, arrived: Ints) -> Ints:
    """A second delivery: a retry after seconds, or a queue that is replayed hours later."""
    replayed = rng.random(len(at)) < 0.1
    pause = np.where(replayed, rng.exponential(6, len(at)) * HOUR, rng.exponential(20, len(at)) * SECOND)
    second = np.minimum(arrived + pause.astype(np.int64) + SECOND, at + LATEST)
    return np.maximum(second, arrived)


# RFC 2544 gives 198.18.0.0/15 to measurements: nobody's address
_ADDRESSES = tuple(f"198.{18 + number // 256}.{number % 256}.{number % 200 + 1}" for number in range(512))


def _ids(values: Bytes) -> pa.Array:
    packed = np.ascontiguousarray(values)
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(packed), [None, pa.py_buffer(packed)])


def _numbered(ids: Bytes, numbers: Ints) -> pa.Array:
    """The id of each number; the zero UUID for none."""
    there: Bools = numbers >= 0
    return _ids(np.where(there[:, None], ids[np.maximum(numbers, 0)], 0).astype(np.uint8))


def _texts(codes: Ints, values: tuple[str, ...] | list[str]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(values, pa.string()))


def _query(source: int) -> str:
    (name, medium, campaign, _), _ = SOURCES[source]
    pairs = [("utm_source", name), ("utm_medium", medium), ("utm_campaign", campaign)]
    text = "&".join(f"{key}={value}" for key, value in pairs if value)
    return f"?{text}" if text else ""


def _addresses(source: Ints, event: Ints, low: int, high: int) -> pa.Array:
    """Landing pages carry the campaign; the first pages of the dictionary are those of no event."""
    variants = len(SOURCES) + 1
    pages = [f"{SITE}/discover", *(f"{SITE}/events/{number + 1}" for number in range(low, high))]
    values = [
        page + (_query(variant - 1) if variant else "") for page in pages for variant in range(variants)
    ]
    return _texts(np.where(event >= 0, event - low + 1, 0) * variants + source + 1, values)


def _referrers(source: Ints, event: Ints, low: int) -> pa.Array:
    values = [*(referrer for (_, _, _, referrer), _ in SOURCES), f"{SITE}/discover"]
    return _texts(np.where(source >= 0, source, len(SOURCES)), values)


def _properties(
    offer: Catalogue, sold: Sales, agent: Ints, country: Ints, source: Ints, bought: Ints
) -> pa.Array:
    """Each distinct set of properties is made once."""
    safe = np.minimum(np.maximum(bought, 0), max(len(sold.payments.first) - 1, 0))
    has = bought >= 0
    kind = (
        np.where(has, sold.tickets.type[sold.payments.first[safe]], -1)
        if has.any()
        else np.full(len(bought), -1)
    )
    quantity = (
        np.where(has, sold.payments.tickets[safe], 0) if has.any() else np.zeros(len(bought), dtype=np.int64)
    )
    mobile = np.array([device == "mobile" for device in words.DEVICES] + [False] * len(words.BOTS))[agent]
    keys = np.stack([mobile.astype(np.int64), country, source, kind, quantity], axis=1)
    packed = (
        ((keys[:, 0] * 64 + keys[:, 1]) * 16 + keys[:, 2] + 1) * (1 << 32)
        + (keys[:, 3] + 1) * 64
        + keys[:, 4]
    )
    _, first, position = np.unique(packed, return_index=True, return_inverse=True)
    sets = []
    for is_mobile, nation, origin, ticket_type, number in keys[first].tolist():
        pairs = [("device", "mobile" if is_mobile else "desktop"), ("country", _COUNTRIES[nation])]
        if origin >= 0:
            (name, medium, campaign, _), _ = SOURCES[origin]
            pairs += [("utm_source", name), ("utm_medium", medium), ("utm_campaign", campaign)]
        if ticket_type >= 0:
            pairs += [
                ("ticket_type_id", str(UUID(bytes=offer.types.ids[ticket_type].tobytes()))),
                ("quantity", str(number)),
            ]
        sets.append([(key, value) for key, value in pairs if value])
    return pa.array(sets, pa.map_(pa.string(), pa.string())).take(pa.array(position.astype(np.int32)))
