"""The questions of golden.py: drawn from the events themselves, each with what PostgreSQL is asked for it.

What PostgreSQL is asked is written here and not shared with documents.py: a document that is wrong would be
wrong in the same way on both sides. What is left out: events with dates that no calendar knows.
"""

from __future__ import annotations

import random
import re
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from bilten_orchestration.search.request import MAX_VALUE, Near, Price, SearchRequest

EDGE: Final = 0.002  # of a radius
EDGE_METERS: Final = 1.0
EARTH_METERS: Final = 6_371_008.7714  # the mean radius, as the index uses it

# of three letters and more, as the analyzer leaves them out
_STOP: Final = frozenset(
    {
        *("and", "are", "but", "for", "into", "not", "such", "that", "the", "their", "then", "there"),
        *("these", "they", "this", "was", "will", "with"),
    }
)
_NUMBER = r"^-?[0-9]{1,3}(\.[0-9]+)?$"

# With: what is searchable, as it is to be found.
SHOWN: Final = f"""
    shown as (
        select e.id, e.title, e.category, e.tags, e.organizer_id,
               date_trunc('milliseconds', e.start_date) as starts,
               coalesce(v.city, e.location ->> 'city') as city,
               coalesce(v.country, e.location ->> 'country') as country,
               coalesce(v.latitude::float8, case when own.has_place then (e.location ->> 'lat')::float8 end)
                   as latitude,
               coalesce(v.longitude::float8, case when own.has_place then (e.location ->> 'lon')::float8 end)
                   as longitude
        from events.events e
        left join events.venues v on v.id = e.venue_id and v.deleted_at is null
        cross join lateral (
            select coalesce(e.location ->> 'lat' ~ '{_NUMBER}' and e.location ->> 'lon' ~ '{_NUMBER}', false)
                       as has_place
        ) own
        where e.status = 'published' and e.visibility = 'public' and e.deleted_at is null
          and e.id <> all(%(without)s::uuid[])
    )
"""
SAMPLED: Final = f"""
    with {SHOWN}
    select s.id::text, s.title, s.category, s.tags, s.organizer_id::text, s.starts, s.city, s.country,
           s.latitude, s.longitude, t.currency::text, t.price
    from (
        select * from shown where starts between '1900-01-01' and '9000-01-01'
        order by md5(id::text || %(seed)s) limit %(size)s
    ) s
    left join lateral (
        select currency, price from tickets.ticket_types
        where event_id = s.id and is_active and deleted_at is null order by id limit 1
    ) t on true
"""
METERS: Final = """
    2 * %(earth)s * asin(sqrt(least(1,
        sin(radians(s.latitude - %(latitude)s) / 2) ^ 2
        + cos(radians(%(latitude)s)) * cos(radians(s.latitude))
          * sin(radians(s.longitude - %(longitude)s) / 2) ^ 2)))
"""
_PRICED = """
    s.id in (select t.event_id from tickets.ticket_types t
             where t.is_active and t.deleted_at is null and t.currency = %(currency)s group by t.event_id
             having max(t.price) >= %(minimum)s and min(t.price) <= %(maximum)s)
"""
# a double tells two prices apart up to here, with three digits after the point
_LARGEST_PRICE = Decimal(10) ** 11


@dataclass(frozen=True, slots=True)
class Known:
    """An event that questions are drawn from."""

    id: str
    title: str
    category: str | None
    tags: list[str]
    organizer_id: str
    starts: datetime
    city: str | None
    country: str | None
    latitude: float | None
    longitude: float | None
    currency: str | None
    price: Decimal | None


@dataclass(frozen=True, slots=True)
class Exact:
    """A question with one right answer: as the application asks it, and as a condition over shown s."""

    request: SearchRequest
    condition: str
    values: dict[str, Any]
    distance: bool = False


# -- exact -----------------------------------------------------------------------------------


def _drawn(choice: random.Random, known: Sequence[Known], fits: Callable[[Known], object]) -> Known | None:
    fitting = [each for each in known if fits(each)]
    return choice.choice(fitting) if fitting else None


def _asked_for(value: str | None) -> bool:
    return value is not None and 0 < len(value) <= MAX_VALUE


def _category(choice: random.Random, known: Sequence[Known]) -> Exact | None:
    drawn = _drawn(choice, known, lambda each: _asked_for(each.category))
    if drawn is None or drawn.category is None:
        return None
    return Exact(
        SearchRequest(categories=(drawn.category,)),
        "s.category = %(category)s",
        {"category": drawn.category},
    )


def _tag(choice: random.Random, known: Sequence[Known]) -> Exact | None:
    drawn = _drawn(choice, known, lambda each: each.tags and all(map(_asked_for, each.tags)))
    if drawn is None:
        return None
    tags = tuple(choice.sample(drawn.tags, min(2, len(drawn.tags))))
    return Exact(SearchRequest(tags=tags), "s.tags @> %(tags)s::text[]", {"tags": list(tags)})


def _place(choice: random.Random, known: Sequence[Known]) -> Exact | None:
    drawn = _drawn(choice, known, lambda each: _asked_for(each.city) and _asked_for(each.country))
    if drawn is None or drawn.city is None or drawn.country is None:
        return None
    return Exact(
        SearchRequest(cities=(drawn.city,), countries=(drawn.country,)),
        "s.city = %(city)s and s.country = %(country)s",
        {"city": drawn.city, "country": drawn.country},
    )


def _organizer(choice: random.Random, known: Sequence[Known]) -> Exact | None:
    drawn = choice.choice(known)
    return Exact(
        SearchRequest(organizers=(drawn.organizer_id,)),
        "s.organizer_id = %(organizer)s::uuid",
        {"organizer": drawn.organizer_id},
    )


def _dates(choice: random.Random, known: Sequence[Known]) -> Exact | None:
    first = choice.choice(known).starts
    end = first + timedelta(minutes=choice.randint(1, 60 * 24 * 30))
    return Exact(
        SearchRequest(starts_from=first, starts_before=end),
        "s.starts >= %(first)s and s.starts < %(end)s",
        {"first": first, "end": end},
    )


def _order(choice: random.Random, known: Sequence[Known]) -> Exact | None:
    first = choice.choice(known).starts
    return Exact(SearchRequest(starts_from=first), "s.starts >= %(first)s", {"first": first})


def _circle(choice: random.Random, known: Sequence[Known]) -> Exact | None:
    drawn = _drawn(choice, known, lambda each: each.latitude is not None and abs(each.latitude) < 89)
    if drawn is None or drawn.latitude is None or drawn.longitude is None:
        return None
    near = Near(
        round(drawn.latitude + choice.uniform(-0.5, 0.5), 5),
        round(max(-180.0, min(180.0, drawn.longitude + choice.uniform(-0.5, 0.5))), 5),
        round(choice.choice((5, 50, 500)) * choice.uniform(0.5, 2), 3),
    )
    meters = near.radius_km * 1000
    return Exact(
        SearchRequest(near=near),
        f"{METERS} <= %(radius)s * {1 + EDGE} + {EDGE_METERS}",
        {"latitude": near.latitude, "longitude": near.longitude, "radius": meters},
        distance=True,
    )


def _prices(choice: random.Random, known: Sequence[Known]) -> Exact | None:
    drawn = _drawn(choice, known, lambda each: each.price is not None and each.price < _LARGEST_PRICE)
    if drawn is None or drawn.price is None or drawn.currency is None:
        return None
    half = Decimal("0.0005")  # between two prices, which have three digits at most
    low = max(Decimal(0), drawn.price * Decimal("0.9")).quantize(Decimal("0.001")) + half
    high = low + (drawn.price / 4).quantize(Decimal("0.001"))
    return Exact(
        SearchRequest(price=Price(drawn.currency, low, high)),
        _PRICED,
        {"currency": drawn.currency, "minimum": low, "maximum": high},
    )


def _several(choice: random.Random, known: Sequence[Known]) -> Exact | None:
    category, prices, dates = _category(choice, known), _prices(choice, known), _order(choice, known)
    if category is None or prices is None or dates is None:
        return None
    return Exact(
        SearchRequest(
            categories=category.request.categories,
            price=prices.request.price,
            starts_from=dates.request.starts_from,
        ),
        f"{category.condition} and {prices.condition} and {dates.condition}",
        category.values | prices.values | dates.values,
    )


EXACT_KINDS: Final[dict[str, Callable[[random.Random, Sequence[Known]], Exact | None]]] = {
    "category": _category,
    "tags": _tag,
    "place": _place,
    "organizer": _organizer,
    "dates": _dates,
    "order": _order,
    "radius": _circle,
    "price": _prices,
    "several": _several,
}


# -- texts ----------------------------------------------------------------------------------------


def phrase(_: random.Random, title: str) -> str | None:
    """The whole title, quoted; of whatever letters, but for one of words that no search keeps."""
    plain = title.replace('"', " ").strip()
    kept = set(re.findall(r"[^\W_]{3,}", title.lower())) - _STOP
    return f'"{plain}"' if kept else None


def stemmed(choice: random.Random, title: str) -> str | None:
    """A word of it in the plural; only words whose plural is regular."""
    words = [word for word in _words(title, 4) if word[-1] in "bdfgklmnprt" and set(word) & set("aeiou")]
    return choice.choice(words) + "s" if words else None


def misspelt(choice: random.Random, title: str) -> str | None:
    """A word of it with two letters exchanged: behind the first one, and before the four of an ending.

    A stemmer takes no ending off "eveinng", and leaves it too far from the stem of "evening".
    """
    words = [
        (word, place)
        for word in _words(title, 7)
        for place in range(1, len(word) - 5)
        if word[place] != word[place + 1]
    ]
    if not words:
        return None
    word, place = choice.choice(words)
    return word[:place] + word[place + 1] + word[place] + word[place + 2 :]


TEXT_KINDS: Final[dict[str, Callable[[random.Random, str], str | None]]] = {
    "phrase": phrase,
    "stemmed": stemmed,
    "misspelt": misspelt,
}


def _words(title: str, letters: int) -> list[str]:
    """Words of plain letters that a search keeps."""
    found = re.findall(r"[^\W_]+", title.lower())
    return [
        word
        for word in found
        if len(word) >= letters and set(word) <= set(string.ascii_lowercase) and word not in _STOP
    ]
