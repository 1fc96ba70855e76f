"""Keys in Redis as the application would leave them, with its patterns and times to live.

session:{userId}:{sessionId}         24 h    sessions of the last day
user:profile:{userId}                 6 h    profiles of who was seen in it
event:details:{eventId}               1 h    events on sale
analytics:live:{eventId}:{metric}    15 min  their live numbers
branding:settings:{organizerId}       6 h
event:{eventId}:views                never   counter, raised by every view
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np

from bilten_orchestration.demo import words
from bilten_orchestration.demo.accounts import PEOPLE_PER_BLOCK, recent_sessions
from bilten_orchestration.demo.catalogue import Catalogue
from bilten_orchestration.demo.people import Buyers
from bilten_orchestration.demo.plan import DAY, Bytes, Plan

if TYPE_CHECKING:
    from redis import Redis

SESSION_SECONDS = 86_400
PROFILE_SECONDS = 21_600
DETAILS_SECONDS = 3_600
LIVE_SECONDS = 900
BRANDING_SECONDS = 21_600
LIVE_METRICS = ("views", "visitors", "carts")
_AT_ONCE = 2_000


def keys(plan: Plan, offer: Catalogue, people: Buyers) -> Iterator[tuple[str, str, int | None]]:
    """(key, value, seconds to live or None), equal for equal plans."""
    rng = plan.stream("cache")
    for low in range(0, len(people.ids), PEOPLE_PER_BLOCK):
        high = min(low + PEOPLE_PER_BLOCK, len(people.ids))
        ids, buyer, login = recent_sessions(plan, people, low, high)
        for row in np.flatnonzero(login > plan.cutoff - DAY):
            user = _text(people.ids, buyer[row])
            seen = _json(user_id=user, login=int(login[row]) // 1_000_000)
            yield f"session:{user}:{_text(ids, row)}", seen, SESSION_SECONDS
            city = words.CITIES[int(people.city[buyer[row]])]
            yield (
                f"user:profile:{user}",
                _json(id=user, city=city.name, country=city.country),
                PROFILE_SECONDS,
            )
    events = offer.events
    on_sale = np.flatnonzero(
        (events.opens < plan.cutoff) & (events.closes > plan.cutoff) & (events.payments > 0)
    )
    for number in on_sale:
        event = _text(events.ids, number)
        details = _json(id=event, title=events.titles[number], start=int(events.start[number]) // 1_000_000)
        yield f"event:details:{event}", details, DETAILS_SECONDS
        for metric in LIVE_METRICS:
            yield f"analytics:live:{event}:{metric}", str(int(rng.integers(0, 200))), LIVE_SECONDS
    for organizer_number in range(len(offer.organizers.ids)):
        organizer = _text(offer.organizers.ids, organizer_number)
        colour = f"#{int(rng.integers(0, 1 << 24)):06x}"
        yield (
            f"branding:settings:{organizer}",
            _json(organizer_id=organizer, primary_color=colour),
            BRANDING_SECONDS,
        )
    for number in np.flatnonzero(events.payments > 0):
        yield f"event:{_text(events.ids, number)}:views", str(int(events.payments[number]) * 17), None


def fill(client: Redis, plan: Plan, offer: Catalogue, people: Buyers) -> int:
    """Set them all; how many. Raises redis' errors; what was set stays and is set again by a repeat."""
    count = 0
    pipeline = client.pipeline(transaction=False)
    for key, value, seconds in keys(plan, offer, people):
        pipeline.set(key, value, ex=seconds)
        count += 1
        if count % _AT_ONCE == 0:
            pipeline.execute()
    pipeline.execute()
    return count


def _text(ids: Bytes, number: Any) -> str:
    return str(UUID(bytes=ids[int(number)].tobytes()))


def _json(**values: Any) -> str:
    return json.dumps(values, ensure_ascii=False, sort_keys=True)
