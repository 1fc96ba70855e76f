"""Operational rows that search shows, changed as the application changes them, and compared one by one.

What must be in the index is worked out here by a statement of its own, not by that of the engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.search import definition, gates
from bilten_orchestration.search import rebuild as engine
from bilten_orchestration.search.gates import Gate
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import opensearch, postgres
from bilten_orchestration.stores.postgres import Connection

EXACT = [gate for gate in gates.GATES if gate is not gates.golden]

_FILL = (
    "insert into users.organizations (id, name) "
    "select md5('org' || n)::uuid, 'Org \"' || n || E'\" \\\\ back' from generate_series(0, 2) n",
    "insert into users.users (id, email, password_hash) "
    "select md5('user' || n)::uuid, n || '@example.org', 'x' from generate_series(0, 6) n",
    "insert into events.venues (id, name, address, city, country, latitude, longitude) "
    "select md5('venue' || n)::uuid, 'Hall ' || n, 'Street', 'City ' || n % 5, 'PT', 38.5 + n * 0.01, "
    "n * 0.00001 from generate_series(0, 19) n",
    # the check of its time zone takes 15 ms for each event
    "alter table events.events disable trigger require_timezone",
    """
    insert into events.events (id, organizer_id, organization_id, venue_id, title, description, category,
                               tags, start_date, end_date, status)
    select md5('event' || n)::uuid, md5('user' || n % 7)::uuid, md5('org' || n % 3)::uuid,
           md5('venue' || n % 20)::uuid, 'Concert é "quoted" ' || n,
           case when n % 3 > 0 then E'tab\\t, line\\n, \\\\ and \\x01 of ' || n end,
           'music', array['a', 'b"' || n % 4],
           timestamptz '2027-01-01 18:00+00' + n * interval '1 hour 700 us',
           timestamptz '2027-01-01 21:00+00' + n * interval '1 hour',
           (case when n % 15 = 0 then 'draft' else 'published' end)::events.event_status
    from generate_series(1, EVENTS) n
    """,
    "alter table events.events enable trigger require_timezone",
    """
    insert into tickets.ticket_types (event_id, name, price, currency, quantity)
    select md5('event' || n)::uuid, 'GA', (n % 97 + 0.25)::numeric(18, 2), 'EUR', 100
    from generate_series(1, EVENTS) n where n % 10 > 0
    """,
)

_EXPECTED = """
    select e.id::text, e.title, e.description, o.name, v.name, v.city,
           (select min(price)::float8 from tickets.ticket_types t
            where t.event_id = e.id and t.is_active and t.deleted_at is null and t.currency = 'EUR')
    from events.events e left join users.organizations o on o.id = e.organization_id
    left join events.venues v on v.id = e.venue_id
    where e.status = 'published' and e.visibility = 'public' and e.deleted_at is null
"""


def rebuild(
    settings: Settings, *, judges: Sequence[Gate] = EXACT, progress: Progress = silent
) -> engine.RebuildReport:
    """Without the golden queries, which take longer than all the rest on so few events."""
    return engine.rebuild(settings, judges=judges, progress=progress)


def owner(settings: Settings) -> Connection:
    """A session of the owner, in autocommit."""
    return postgres.connect(settings.postgres, "owner", application_name="shopfront", autocommit=True)


@dataclass
class Shopfront:
    connection: Connection
    settings: Settings

    def open(self, events: int) -> Shopfront:
        with self.connection.transaction():
            for statement in _FILL:
                self.connection.execute(statement.replace("EVENTS", str(events)).encode())
        return self

    def open_more(self, events: int) -> None:
        """Up to so many events, where `open` made fewer."""
        with self.connection.transaction():
            for statement in _FILL[3:]:
                beyond = statement.replace("generate_series(1, EVENTS)", f"generate_series(301, {events})")
                self.connection.execute(beyond.encode())

    def run(self, statement: str, *values: object) -> None:
        self.connection.execute(statement.encode(), values or None)

    def edit(self, first: int, last: int) -> None:
        """Every kind of change, among the events of these numbers."""
        numbers = f"generate_series({first}, {last}) n where n %% 5 = %s"
        these = f"id in (select md5('event' || n)::uuid from {numbers})"
        self.run(f"update events.events set title = title || ' moved' where {these}", 0)
        self.run(f"update events.events set status = 'cancelled' where {these} and status = 'published'", 1)
        self.run(f"update events.events set visibility = 'private' where {these}", 2)
        self.run(f"update tickets.ticket_types set price = price + 1 where event_{these}", 3)
        self.run(f"delete from tickets.ticket_types where event_{these}", 4)
        self.run(f"delete from events.events where {these}", 4)

    def expected(self) -> dict[str, tuple[Any, ...]]:
        return {row[0]: row[1:] for row in self.connection.execute(_EXPECTED).fetchall()}

    def found(self, index: str = definition.ALIAS) -> dict[str, tuple[Any, ...]]:
        """What the index holds, of the same fields."""
        client = opensearch.connect(self.settings.opensearch, timeout_seconds=60)
        client.indices.refresh(index=index)
        rows: dict[str, tuple[Any, ...]] = {}
        after: dict[str, Any] = {}
        while True:
            body = {"size": 5000, "sort": [{"id": "asc"}], "query": {"match_all": {}}} | after
            hits = client.search(index=index, body=body)["hits"]["hits"]
            for hit in hits:
                rows[hit["_id"]] = _fields(hit["_source"])
            if len(hits) < 5000:
                client.close()
                return rows
            after = {"search_after": hits[-1]["sort"]}

    def differing(self, index: str = definition.ALIAS) -> set[str]:
        """Ids of the documents that are stale, missing or too many."""
        expected, found = self.expected(), self.found(index)
        return {key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key)}


def _fields(source: dict[str, Any]) -> tuple[Any, ...]:
    prices = [each["min"] for each in source.get("price_range", ()) if each["currency"] == "EUR"]
    return (
        source["title"],
        source.get("description"),
        source.get("organization_name"),
        source.get("venue_name"),
        source["location"].get("city"),
        prices[0] if prices else None,
    )
