"""The search that the application uses: a request becomes one call, and its answer typed hits.

The text goes into a multi_match and nowhere else, filters into term and range: no value of a request is
parsed by the server. What is asked costs little however it is asked: pages go on by search_after, which is as
fast at any depth, words that are nearly right are few, totals are counted up to a bound, and an answer that
takes too long is none.

Pages of one search are asked of the same copies of the index (preference), and the id ends every order. An
event that changes between two pages may be seen twice or not at all, as on any page of a shop; `walk` reads
one state of the index from end to end, and pays with a context held open on the server.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from bilten_orchestration.errors import StoreUnavailable
from bilten_orchestration.search.definition import ALIAS
from bilten_orchestration.search.request import (
    MAX_HITS,
    MAX_PAGE,
    Hit,
    Position,
    Price,
    PriceRange,
    SearchRequest,
    SearchResponse,
    Sort,
    checked,
    cursor,
    position,
)
from bilten_orchestration.settings import OpenSearchSettings
from bilten_orchestration.stores import opensearch

if TYPE_CHECKING:
    from opensearchpy import OpenSearch

FIELDS: Final = ("title^2", "description", "category", "venue_name")
SERVER_SECONDS: Final = 2.0  # people do not wait longer; whoever does says so
NETWORK_SECONDS: Final = 3.0
WALK_SECONDS: Final = 30.0  # of one step
KEEP_OPEN: Final = "1m"
# Each word becomes up to EXPANSIONS terms in each field, and a server takes 1,024 in a query.
FUZZY_WORDS: Final = 10
EXPANSIONS: Final = 20
FRAGMENT: Final = 150
_WORD: Final = re.compile(r"\w+")

_SOURCE: Final = (
    "id",
    "title",
    "start_date",
    "category",
    "venue_name",
    "location",
    "organizer_id",
    "availability",
    "price_range",
)


def search(
    settings: OpenSearchSettings,
    client: OpenSearch,
    request: SearchRequest,
    *,
    index: str = ALIAS,
    seconds: float = SERVER_SECONDS,
) -> SearchResponse:
    """One page, within `seconds` on the server.

    Raises UsageError (the request), StoreUnavailable (no answer in time, or a part of one).
    """
    request = checked(request)
    with opensearch.translated(settings, "a search"):
        answer = client.search(
            index=index,
            body=body(request, seconds),
            params={
                "preference": request.fingerprint,  # may not begin with an underscore, and does not
                "allow_partial_search_results": "false",
                "request_timeout": seconds + NETWORK_SECONDS,
            },
        )
    return _response(request, answer)


def walk(
    settings: OpenSearchSettings, client: OpenSearch, request: SearchRequest, *, index: str = ALIAS
) -> Iterator[Hit]:
    """Every hit, of one state of the index, however it changes meanwhile. Raises as `search` does.

    By scroll: a point in time, which could do the same, is opened by another call in Elasticsearch.
    """
    request = checked(replace(request, after=None, page_size=MAX_PAGE))
    context = None
    with opensearch.translated(settings, "a walk through a search"):
        try:
            answer = client.search(
                index=index,
                body=body(request, WALK_SECONDS) | {"track_total_hits": True},
                params={
                    "scroll": KEEP_OPEN,
                    "allow_partial_search_results": "false",
                    "request_timeout": WALK_SECONDS + NETWORK_SECONDS,
                },
            )
            while answer["hits"]["hits"]:
                context = answer["_scroll_id"]
                yield from _response(request, answer).hits
                answer = client.scroll(
                    body={"scroll_id": context, "scroll": KEEP_OPEN},
                    params={"request_timeout": WALK_SECONDS + NETWORK_SECONDS},
                )
            context = answer["_scroll_id"]
        finally:
            if context is not None:
                client.clear_scroll(body={"scroll_id": [context]}, params={"ignore": 404})


def body(request: SearchRequest, seconds: float = SERVER_SECONDS) -> dict[str, Any]:
    """The call for a request that is checked."""
    at = position(request)
    asked: dict[str, Any] = {
        "query": query(request),
        "sort": _order(request),
        "size": request.page_size,
        "track_scores": True,
        "track_total_hits": MAX_HITS,
        "_source": list(_SOURCE),
        "timeout": f"{seconds * 1000:.0f}ms",
    }
    if at is not None:
        asked["search_after"] = list(at.values)
    if request.highlight and request.text:
        asked["highlight"] = {
            "encoder": "html",
            "pre_tags": ["<em>"],
            "post_tags": ["</em>"],
            "fields": {
                "title": {"number_of_fragments": 0},
                "description": {"number_of_fragments": 2, "fragment_size": FRAGMENT},
            },
        }
    return asked


def query(request: SearchRequest) -> dict[str, Any]:
    """What is asked for, whatever the page and the order."""
    filters: list[dict[str, Any]] = [
        {"terms": {name: list(values)}}
        for name, values in (
            ("category", request.categories),
            ("location.city", request.cities),
            ("location.country", request.countries),
            ("organizer_id", request.organizers),
            ("venue_id", request.venues),
            ("availability", request.availability),
        )
        if values
    ]
    filters += [{"term": {"tags": tag}} for tag in request.tags]
    times = {"gte": request.starts_from, "lt": request.starts_before}
    if span := {bound: _instant(at) for bound, at in times.items() if at is not None}:
        filters.append({"range": {"start_date": span}})
    if request.near is not None:
        filters.append(
            {
                "geo_distance": {
                    "distance": f"{request.near.radius_km * 1000:.3f}m",
                    "location.coordinates": _point(request),
                }
            }
        )
    if request.price is not None:
        filters.append(_priced(request.price))
    return {"bool": {"must": _text(request), "filter": filters}}


def _text(request: SearchRequest) -> list[dict[str, Any]]:
    if not request.text:
        return []
    match: dict[str, Any] = {"query": request.words, "fields": list(FIELDS)}
    if request.is_phrase:
        match |= {"type": "phrase"}
    else:
        match |= {"type": "best_fields", "minimum_should_match": "2<75%"}
        # as the analyzer parts it, or into more: nearly all that is no letter and no digit parts words
        if request.fuzzy and len(_WORD.findall(request.words)) <= FUZZY_WORDS:
            match |= {"fuzziness": "AUTO", "prefix_length": 1, "max_expansions": EXPANSIONS}
    return [{"multi_match": match}]


def _priced(price: Price) -> dict[str, Any]:
    """The range of an event's prices in that currency meets the one that is asked for."""
    inside: list[dict[str, Any]] = [{"term": {"price_range.currency": price.currency}}]
    if price.minimum is not None:
        inside.append({"range": {"price_range.max": {"gte": float(price.minimum)}}})
    if price.maximum is not None:
        inside.append({"range": {"price_range.min": {"lte": float(price.maximum)}}})
    return {"nested": {"path": "price_range", "query": {"bool": {"filter": inside}}}}


def _order(request: SearchRequest) -> list[dict[str, Any]]:
    start, score = {"start_date": {"order": "asc"}}, {"_score": {"order": "desc"}}
    first: dict[Sort, list[dict[str, Any]]] = {
        Sort.START: [start, score],
        Sort.RELEVANCE: [score, start],
        Sort.POPULARITY: [{"popularity": {"order": "desc", "missing": 0}}, start],
        Sort.DISTANCE: [
            {"_geo_distance": {"location.coordinates": _point(request), "order": "asc", "unit": "m"}},
            start,
        ]
        if request.near
        else [],
    }
    return [*first[request.sort], {"id": {"order": "asc"}}]


def _point(request: SearchRequest) -> dict[str, float]:
    assert request.near is not None  # noqa: S101
    return {"lat": request.near.latitude, "lon": request.near.longitude}


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _response(request: SearchRequest, answer: Mapping[str, Any]) -> SearchResponse:
    if answer["timed_out"]:
        raise StoreUnavailable(
            "a search took too long",
            expected="an answer in time",
            found="a part of one",
            next="try again; bilten search status",
        )
    found = answer["hits"]
    hits = found["hits"]
    before = position(request)
    seen = (before.seen if before else 0) + len(hits)
    more = len(hits) == request.page_size and seen + request.page_size <= MAX_HITS
    return SearchResponse(
        total=found["total"]["value"],
        total_is_exact=found["total"]["relation"] == "eq",
        hits=tuple(_hit(request, hit) for hit in hits),
        next_cursor=cursor(request, Position(tuple(hits[-1]["sort"]), seen)) if more else None,
        server_milliseconds=answer["took"],
    )


def _hit(request: SearchRequest, hit: Mapping[str, Any]) -> Hit:
    source = hit["_source"]
    place = source.get("location") or {}
    return Hit(
        id=source["id"],
        title=source["title"],
        score=float(hit["_score"] or 0),
        start_date=source["start_date"],
        category=source.get("category"),
        venue_name=source.get("venue_name"),
        city=place.get("city"),
        country=place.get("country"),
        organizer_id=source["organizer_id"],
        availability=source.get("availability"),
        prices=tuple(
            PriceRange(price["currency"], price["min"], price["max"])
            for price in source.get("price_range") or ()
        ),
        distance_km=round(hit["sort"][0] / 1000, 3) if request.sort is Sort.DISTANCE else None,
        highlights={name: tuple(parts) for name, parts in hit.get("highlight", {}).items()},
    )
