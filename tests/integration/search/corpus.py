"""A few events as documents, made by hand: what a query must find in them is known without another query."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from opensearchpy import OpenSearch

from bilten_orchestration.search import definition

LISBON, PORTO, MADRID = (38.7223, -9.1393), (41.1579, -8.6291), (40.4168, -3.7038)
ORGANIZER, OTHER = str(UUID(int=100)), str(UUID(int=200))


def key(number: int) -> str:
    return str(UUID(int=number))


def event(number: int, title: str, **other: Any) -> dict[str, Any]:
    """A document as a load writes it."""
    latitude, longitude = other.pop("at", LISBON)
    return {
        "id": key(number),
        "title": title,
        "description": "Doors half an hour before.",
        "category": "music",
        "tags": [],
        "status": "published",
        "organizer_id": ORGANIZER,
        "organization_id": None,
        "organization_name": None,
        "venue_id": None,
        "venue_name": "Orchard Hall",
        "location": {
            "coordinates": {"lat": latitude, "lon": longitude},
            "city": "Lisbon",
            "country": "PT",
        },
        "start_date": f"2026-05-{number:02d}T18:00:00.000Z",
        "end_date": f"2026-05-{number:02d}T22:00:00.000Z",
        "price_range": [{"min": 10.0, "max": 40.0, "currency": "EUR"}],
        "availability": "available",
        "popularity": 0,
        "content_hash": "0",
        "indexed_at": "2026-01-01T00:00:00.000Z",
    } | other


EVENTS = (
    event(1, "Midnight Jazz Sessions", popularity=5),
    event(2, "Electric Synth Tour", tags=["outdoor", "standing"], organizer_id=OTHER),
    event(
        3,
        "Alpine Marathon",
        category="sport",
        at=MADRID,
        location={"coordinates": {"lat": MADRID[0], "lon": MADRID[1]}, "city": "Madrid", "country": "ES"},
    ),
    event(
        4,
        "Jazz <script>alert('x')</script> & Choir",
        description="Choirs of the north sing jazz < & >.",
        tags=["outdoor"],
        popularity=9,
    ),
    event(
        5,
        "Winter Garden",
        category="theatre",
        location={"coordinates": {"lat": PORTO[0], "lon": PORTO[1]}, "city": "Porto", "country": "PT"},
        # cheap in dollars alone: a flat price would find it as cheap in euro
        price_range=[
            {"min": 90.0, "max": 120.0, "currency": "EUR"},
            {"min": 5.0, "max": 8.0, "currency": "USD"},
        ],
        venue_name="Lighthouse Theatre",
    ),
    event(6, "Open Data Summit", category="conference", availability="sold_out", price_range=[]),
)


def fill(client: OpenSearch, index: str, events: tuple[dict[str, Any], ...] = EVENTS) -> None:
    client.indices.create(index=index, body=definition.index_body(0))
    for document in events:
        client.index(
            index=index, id=document["id"], body=document, params={"version": 1, "version_type": "external"}
        )
    client.indices.refresh(index=index)
