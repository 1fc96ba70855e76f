"""Clicks as the clickstream writer leaves them, beside the orders of scenario.py."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

from clickhouse_connect.driver.client import Client

from tests.integration.dbt.scenario import ZERO, at, uid

BROWSER = "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/140.0"
#: Long before any build: what the gates count exactly.
SETTLED = datetime(2025, 12, 1, tzinfo=UTC)
COLUMNS = [
    "click_id", "event_id", "session_id", "user_id", "visitor_id", "organizer_id", "event_type", "event_name",
    "timestamp", "local_date", "properties", "user_agent", "ingested_at",
]  # fmt: skip


@dataclass(frozen=True)
class Click:
    """One click at `moment` (UTC) with the local day of its event; one session per browser and day.

    `event` is None on a page of no event; `name` tells apart what is else the same.
    """

    visitor: str
    event: str | None
    moment: str | datetime
    kind: str = "page_view"
    user: str | None = None
    local_date: date | None = None
    properties: dict[str, str] = field(default_factory=dict)
    name: str = ""
    session: str | None = None
    agent: str = BROWSER
    ingested: datetime = SETTLED

    def row(self) -> list[object]:
        when = at(self.moment) if isinstance(self.moment, str) else self.moment
        day = self.local_date or when.date()
        return [
            uid(f"{self.visitor} {self.event} {when} {self.kind} {self.name}"),
            uid(self.event) if self.event else ZERO,
            uid(self.session or f"session {self.visitor} {day}"),
            uid(self.user) if self.user else ZERO,
            uid(self.visitor),
            ZERO,
            self.kind,
            self.kind,
            when,
            day,
            self.properties,
            self.agent,
            self.ingested,
        ]


def write(client: Client, clicks: Iterable[Click]) -> None:
    client.insert("analytics.events", [click.row() for click in clicks], column_names=COLUMNS)
