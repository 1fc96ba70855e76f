"""Page views of the living traffic: rows for the clickstream writer, counters in Redis.

Rows are collected and sent once a second by the caller. Some come late (a phone that was offline, up to
72 h), some are delivered again a second later with the same click_id, a few are
malformed and must be refused.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from bilten_orchestration.demo import words
from bilten_orchestration.demo.buying import Offer
from bilten_orchestration.demo.cache import DETAILS_SECONDS, LIVE_SECONDS, SESSION_SECONDS
from bilten_orchestration.ingestion.clickstream import ClickstreamReport, write

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client
    from redis import Redis

Row = dict[str, object]
HELD_AT_MOST = 200_000
"""Rows kept while ClickHouse does not answer; the oldest are then lost."""
_SOURCES: tuple[dict[str, str], ...] = (
    {},
    {},
    {"utm_source": "newsletter", "utm_medium": "email"},
    {"utm_source": "social", "utm_medium": "paid_social"},
)
_SITE = "https://tickets.example.com"


class Clicks:
    """What was clicked and not yet written. Safe to use from several threads."""

    def __init__(self) -> None:
        self._rows: deque[Row] = deque()
        self._again: list[Row] = []
        self._lock = threading.Lock()
        self.made = 0
        """Rows to be delivered, repeats among them."""

    def visit(
        self, rng: random.Random, offer: Offer, visitor: UUID, user: UUID | None, *, checkout: bool
    ) -> int:
        """A session on one event: some views, then perhaps the checkout. Returns the rows it made."""
        now = datetime.now(UTC)
        if rng.random() < 0.03:
            now -= timedelta(seconds=rng.uniform(600, 70 * 3600))
        session, source = uuid4(), rng.choice(_SOURCES)
        agent = rng.choice(words.BOTS if rng.random() < 0.03 else words.AGENTS)
        kinds = ["page_view"] * rng.randint(1, 4) + (["checkout_started"] if checkout else [])
        rows: list[Row] = [
            {
                "click_id": uuid4(),
                "event_id": offer.event,
                "session_id": session,
                "user_id": user,
                "visitor_id": visitor,
                "organizer_id": offer.organizer,
                "event_type": kind,
                "event_name": "checkout" if kind == "checkout_started" else "event page",
                "timestamp": now - timedelta(seconds=20 * (len(kinds) - position)),
                "properties": {"device": "mobile", **(source if position == 0 else {})},
                "user_agent": agent,
                "ip_address": f"198.18.{rng.randrange(256)}.{rng.randrange(1, 255)}",
                "referrer": "",
                "page_url": f"{_SITE}/events/{offer.event}",
            }
            for position, kind in enumerate(kinds)
        ]
        if rng.random() < 0.003:
            rows[0]["event_type"] = "unknown"
        with self._lock:
            self._rows.extend(rows)
            self.made += len(rows)
            if rng.random() < 0.02:
                self._again.append(rows[0])
                self.made += 1
        return len(rows)

    def send(self, client: Client) -> ClickstreamReport | None:
        """Write what was collected; on an error everything is kept for the next call."""
        with self._lock:
            batch = list(self._rows)
            self._rows.clear()
            repeated, self._again = self._again, []
        if not batch:
            return None
        try:
            report = write(client, batch)
        except BaseException:
            with self._lock:
                self._rows.extendleft(reversed(batch))
                self._again = repeated + self._again
                while len(self._rows) > HELD_AT_MOST:
                    self._rows.popleft()
            raise
        with self._lock:
            self._rows.extend(repeated)
        return report


def count_views(client: Redis, offer: Offer, user: UUID | None, views: int) -> None:
    """What the application does to its cache at a page view."""
    pipeline = client.pipeline(transaction=False)
    pipeline.incrby(f"event:{offer.event}:views", views)
    pipeline.incrby(f"analytics:live:{offer.event}:views", views)
    pipeline.expire(f"analytics:live:{offer.event}:views", LIVE_SECONDS)
    pipeline.set(f"event:details:{offer.event}", f'{{"id": "{offer.event}"}}', ex=DETAILS_SECONDS)
    if user is not None:
        pipeline.set(f"session:{user}:{uuid4()}", f'{{"user_id": "{user}"}}', ex=SESSION_SECONDS)
    pipeline.execute()
