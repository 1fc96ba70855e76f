"""What may be asked of search, and what comes back.

A request is made of plain values that come from anybody. None of them is read as a language (no query
string, no script, no field name), and each has a bound; `checked` tells all that is wrong at once, before
anything is sent.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from bilten_orchestration.errors import Problem, UsageError

MAX_TEXT: Final = 260  # characters; a title has 255, and may be quoted
MAX_VALUES: Final = 20  # of one filter
MAX_VALUE: Final = 100  # characters of one of them
MAX_PAGE: Final = 100
MAX_HITS: Final = 10_000  # that one search can be paged through
MAX_RADIUS_KM: Final = 1_000.0
MAX_PRICE: Final = Decimal(10) ** 15
MAX_CURSOR: Final = 600
_LARGEST: Final = 2**53  # an integer that JSON keeps; NaN is not below it either
_CURRENCY = re.compile(r"[A-Z]{3}", re.ASCII)
_AVAILABILITY: Final = ("available", "few", "sold_out", "none")


class Sort(StrEnum):
    """Every order ends with the id, so that it is total and a page begins where the last one ended."""

    START = "start"  # the next one first, the better match first where two begin together
    RELEVANCE = "relevance"
    POPULARITY = "popularity"
    DISTANCE = "distance"


@dataclass(frozen=True, slots=True)
class Near:
    """A circle: degrees north and east, kilometres."""

    latitude: float
    longitude: float
    radius_km: float


@dataclass(frozen=True, slots=True)
class Price:
    """What a ticket costs, in one currency; a bound left out is none.

    An event meets it where the range of its prices in that currency does.
    """

    currency: str
    minimum: Decimal | None = None
    maximum: Decimal | None = None


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """One page of one search. Several values of a filter mean any of them, but `tags`, which means all.

    `text` in double quotes is searched as a phrase. Times are instants with a zone; `starts_before` is
    exclusive. `after` is the cursor of the page before, and belongs to the same search alone.
    """

    text: str = ""
    categories: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    cities: tuple[str, ...] = ()
    countries: tuple[str, ...] = ()
    organizers: tuple[str, ...] = ()
    venues: tuple[str, ...] = ()
    availability: tuple[str, ...] = ()
    starts_from: datetime | None = None
    starts_before: datetime | None = None
    near: Near | None = None
    price: Price | None = None
    sort: Sort = Sort.START
    fuzzy: bool = True
    highlight: bool = False
    page_size: int = 20
    after: str | None = None

    @property
    def is_phrase(self) -> bool:
        quoted = self.text.startswith('"') and self.text.endswith('"')
        return quoted and bool(self.text.strip('" '))

    @property
    def words(self) -> str:
        return self.text.strip('"') if self.is_phrase else self.text

    @property
    def fingerprint(self) -> str:
        """Of the search, whatever the page."""
        asked = asdict(replace(self, after=None, page_size=1, highlight=False))
        return hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class PriceRange:
    currency: str
    minimum: float
    maximum: float


@dataclass(frozen=True, slots=True)
class Hit:
    """One event. `highlights` by field: HTML in which only <em> is markup; everything else is escaped."""

    id: str
    title: str
    score: float
    start_date: str
    category: str | None
    venue_name: str | None
    city: str | None
    country: str | None
    organizer_id: str
    availability: str | None
    prices: tuple[PriceRange, ...]
    distance_km: float | None = None
    highlights: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SearchResponse:
    """`total` is a lower bound where `total_is_exact` is false; `next_cursor` is None on the last page."""

    total: int
    total_is_exact: bool
    hits: tuple[Hit, ...]
    next_cursor: str | None
    server_milliseconds: int


@dataclass(frozen=True, slots=True)
class Position:
    """Where a page ended: the sort values of its last hit, and how many hits were before the next one."""

    values: tuple[int | float | str, ...]
    seen: int


def cursor(request: SearchRequest, position: Position) -> str:
    """Opaque to the caller, and of no use for another search."""
    text = json.dumps([request.fingerprint, position.seen, *position.values], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def position(request: SearchRequest) -> Position | None:
    """Where the page of `request` begins; None at the first. UsageError: another search's cursor."""
    if request.after is None:
        return None
    found = _decoded(request.after)
    if found is None or found[0] != request.fingerprint:
        raise UsageError(_not_its_cursor())
    _, seen, *values = found
    return Position(tuple(values), seen)


def checked(request: SearchRequest) -> SearchRequest:
    """The request with its text in one spelling. Raises UsageError with everything that is wrong with it."""
    request = replace(request, text=_spelt(request.text))
    problems = list(_problems(request))
    if problems:
        raise UsageError(problems)
    return request


def _spelt(text: str) -> str:
    """Composed letters, single spaces, no control characters, no halves of a surrogate pair."""
    composed = unicodedata.normalize("NFC", text)
    return " ".join("".join(" " if _is_no_text(letter) else letter for letter in composed).split())


def _is_no_text(letter: str) -> bool:
    return unicodedata.category(letter) in ("Cc", "Cs")


def _problems(request: SearchRequest) -> Iterator[Problem]:
    if len(request.text) > MAX_TEXT:
        yield Problem(
            "the text is too long", f"at most {MAX_TEXT} characters", f"{len(request.text)}", "shorten it"
        )
    for name in ("categories", "tags", "cities", "countries", "organizers", "venues", "availability"):
        yield from _values(name, getattr(request, name))
    for name in ("organizers", "venues"):
        yield from _ids(name, getattr(request, name))
    if unknown := sorted(set(request.availability) - set(_AVAILABILITY)):
        yield Problem("availability is unknown", ", ".join(_AVAILABILITY), repr(unknown[0])[:MAX_VALUE])
    yield from _times(request)
    if request.near is not None:
        yield from _circle(request.near)
    if request.price is not None:
        yield from _price(request.price)
    if request.sort is Sort.DISTANCE and request.near is None:
        yield Problem("a sort by distance needs a place", "near", "none", "give latitude, longitude, radius")
    if not 1 <= request.page_size <= MAX_PAGE:
        yield Problem("the page size is out of bounds", f"1 to {MAX_PAGE}", str(request.page_size))
    if request.after is not None:
        yield from _page(request)


def _values(name: str, values: tuple[str, ...]) -> Iterator[Problem]:
    if len(values) > MAX_VALUES:
        yield Problem(f"too many {name}", f"at most {MAX_VALUES}", str(len(values)))
    for value in values:
        if not 0 < len(value) <= MAX_VALUE:
            yield Problem(
                f"one of {name} is empty or too long", f"1 to {MAX_VALUE} characters", str(len(value))
            )
            return
        if any(map(_is_no_text, value)):
            yield Problem(f"one of {name} is no text", "letters", repr(value)[:MAX_VALUE])


def _ids(name: str, values: tuple[str, ...]) -> Iterator[Problem]:
    for value in values:
        try:
            canonical = str(UUID(value))
        except ValueError:
            canonical = ""
        if canonical != value:
            yield Problem(f"one of {name} is no id", "a UUID in lower case, with hyphens", repr(value)[:80])


def _times(request: SearchRequest) -> Iterator[Problem]:
    times = {"starts_from": request.starts_from, "starts_before": request.starts_before}
    for name, at in times.items():
        if at is None:
            continue
        if at.tzinfo is None:
            yield Problem(f"{name} has no zone", "an instant, such as 2026-05-01T18:00:00Z", at.isoformat())
        elif _utc(at) is None:
            yield Problem(f"{name} is out of bounds", "years 1 to 9999 in UTC", at.isoformat())
    first, end = (_utc(at) if at and at.tzinfo else None for at in times.values())
    if first and end and first >= end:
        yield Problem(
            "the span of time is empty", f"starts_before after {first.isoformat()}", end.isoformat()
        )


def _utc(at: datetime) -> datetime | None:
    try:
        return at.astimezone(UTC)
    except OverflowError:  # the first and the last hours of all time, in a zone
        return None


def _circle(near: Near) -> Iterator[Problem]:
    for what, value, bound in (("latitude", near.latitude, 90.0), ("longitude", near.longitude, 180.0)):
        if not -bound <= value <= bound:  # nor is what is no number
            yield Problem(f"{what} is out of bounds", f"{-bound:.0f} to {bound:.0f} degrees", str(value))
    if not 0 < near.radius_km <= MAX_RADIUS_KM:
        yield Problem(
            "the radius is out of bounds", f"above 0, at most {MAX_RADIUS_KM:.0f} km", str(near.radius_km)
        )


def _price(price: Price) -> Iterator[Problem]:
    if not _CURRENCY.fullmatch(price.currency):
        yield Problem("the currency is no code", "three capital letters, as EUR", repr(price.currency)[:20])
    bounds = [bound for bound in (price.minimum, price.maximum) if bound is not None]
    for bound in bounds:
        if not (bound.is_finite() and 0 <= bound <= MAX_PRICE):
            yield Problem("a price is out of bounds", f"0 to {MAX_PRICE:,.0f}", str(bound)[:30])
            return
    if len(bounds) == 2 and bounds[0] > bounds[1]:
        yield Problem("the span of prices is empty", f"at least {bounds[0]}", str(bounds[1]))


def _page(request: SearchRequest) -> Iterator[Problem]:
    found = _decoded(request.after or "")
    if found is None or found[0] != request.fingerprint:
        yield _not_its_cursor()
    elif found[1] + request.page_size > MAX_HITS:
        yield Problem(
            "there is no paging this deep",
            f"at most {MAX_HITS:,} hits of one search",
            f"{found[1]:,} seen",
            "narrow the search down, for instance by starts_from",
        )


def _not_its_cursor() -> Problem:
    return Problem(
        "the cursor is not one of this search",
        "next_cursor of the page before, with the same search",
        "another value",
        "search again from the first page",
    )


def _decoded(text: str) -> list[Any] | None:
    """[fingerprint, seen, values...], or None for what `cursor` did not make."""
    if len(text) > MAX_CURSOR:
        return None
    try:
        found = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        return None
    # every order has two numbers, then the id
    match found:
        case [str(), int(seen), int() | float() as first, int() | float() as second, str() as last]:
            sound = (
                0 < seen <= MAX_HITS
                and not any(isinstance(value, bool) for value in (seen, first, second))
                and all(abs(value) < _LARGEST for value in (first, second))
            )
            return found if sound and not any(_ids("cursor", (last,))) else None
        case _:
            return None
