"""What PostgreSQL says a document is: the statements that write the bulk requests of OpenSearch.

A document joins five tables: events, venues, organizations, ticket types, popularity. PostgreSQL writes
action line and source as text and Python only moves bytes, as in the sync. Rows of COPY have no newline in
them: action and source are parted by a byte that JSON escapes, and become two lines in `lines`.

`content` is what rows say; its hash is compared with that of what OpenSearch returns, so it is built as
jsonb, whose text has one order of keys and one form of numbers, and is sent verbatim (hashes.py). Outside
are availability and popularity, which change all day, and what is said about the document itself.

Who is searchable is decided here alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from psycopg import sql

from bilten_orchestration.ingestion.source import Since
from bilten_orchestration.search import definition
from bilten_orchestration.stores.postgres import Connection

#: Coarse, so that a sale rarely changes it. Without ticket types nothing is sold: none.
AVAILABILITY: Final = ("none", "sold_out", "few", "available")

#: Of every document, at the top.
FIELDS: Final = frozenset(
    {
        *("id", "title", "description", "category", "tags", "status", "organizer_id"),
        *("organization_id", "organization_name", "venue_id", "venue_name", "location"),
        *("start_date", "end_date", "price_range"),
        *("availability", "popularity", "content_hash", "indexed_at"),
    }
)

_LINE: Final = "\x01"

_SEARCHABLE: Final = (
    f"e.status = '{definition.SEARCHABLE_STATUS}' and e.visibility = '{definition.SEARCHABLE_VISIBILITY}' "
    "and e.deleted_at is null"
)

# the text of an instant as a date of the index holds it: to the millisecond
_INSTANT: Final = "to_char({} at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')"

# A text is found however its letters are composed: those of a query are composed (request.py), and what was
# pasted on some systems is not. Whether it is takes a fraction of composing it.
_COMPOSED: Final = "case when {0} is nfc normalized then {0} else normalize({0}, nfc) end"

# What an event is where its venue is not known or was given up is in its own location.
_JOINS: Final = """
    left join events.venues v on v.id = e.venue_id and v.deleted_at is null
    left join users.organizations o on o.id = e.organization_id
    left join system.event_popularity p on p.event_id = e.id
    left join lateral (
        select jsonb_agg(jsonb_build_object('currency', c.currency, 'min', c.low, 'max', c.high)
                         order by c.currency) as prices,
               sum(c.seats) as seats, sum(c.free) as free
        from (
            select t.currency::text, min(t.price)::float8 as low, max(t.price)::float8 as high,
                   sum(t.quantity) as seats, sum(t.quantity - t.sold - t.reserved) as free
            from tickets.ticket_types t
            where t.event_id = e.id and t.is_active and t.deleted_at is null
            group by t.currency
        ) c
    ) t on true
"""

_CONTENT: Final = f"""
    jsonb_strip_nulls(jsonb_build_object(
        'id', e.id, 'title', {_COMPOSED.format("e.title")},
        'description', {_COMPOSED.format("e.description")}, 'category', e.category, 'tags', e.tags,
        'status', e.status, 'organizer_id', e.organizer_id,
        'organization_id', e.organization_id, 'organization_name', {_COMPOSED.format("o.name")},
        'venue_id', e.venue_id, 'venue_name', {_COMPOSED.format("coalesce(v.name, e.location ->> 'venue')")},
        'location', jsonb_build_object(
            'coordinates', coalesce(v.latitude || ',' || v.longitude,
                                    (e.location ->> 'lat') || ',' || (e.location ->> 'lon')),
            'city', coalesce(v.city, e.location ->> 'city'),
            'country', coalesce(v.country, e.location ->> 'country')),
        'start_date', {_INSTANT.format("e.start_date")}, 'end_date', {_INSTANT.format("e.end_date")},
        'price_range', t.prices
    ))
"""

_OUTSIDE: Final = """
    jsonb_build_object(
        'availability', case when t.seats is null then 'none' when t.free <= 0 then 'sold_out'
                             when t.free * 10 <= t.seats then 'few' else 'available' end,
        'popularity', coalesce(p.tickets_sold, 0)
    )
"""

# Everything whose change changes a document. A ticket type never changes its event (a trigger sees to it),
# and a venue or an organization that is pointed at cannot be deleted.
_CHANGED: Final = """
    select e.id from events.events e where {new_e}
    union select e.id from events.venues v join events.events e on e.venue_id = v.id where {new_v}
    union select e.id from users.organizations o join events.events e on e.organization_id = o.id
          where {new_o}
    union select t.event_id from tickets.ticket_types t where {new_t}
    union select p.event_id from system.event_popularity p where {new_p}
    union select d.row_key::uuid from system.deleted_rows d where d.table_name = 'events.events' and {new_d}
    union select (d.facts ->> 'event_id')::uuid from system.deleted_rows d
          where d.table_name = 'tickets.ticket_types' and {new_d}
"""


@dataclass(frozen=True, slots=True)
class KeyRange:
    """Events with low <= id < high; None is open. `number` is its place in the order of keys."""

    number: int
    low: UUID | None
    high: UUID | None

    def condition(self, column: str) -> sql.Composable:
        """Over a column of uuids."""
        parts = []
        if self.low is not None:
            parts.append(sql.SQL("{} >= {}").format(sql.SQL(column), sql.Literal(self.low)))
        if self.high is not None:
            parts.append(sql.SQL("{} < {}").format(sql.SQL(column), sql.Literal(self.high)))
        return sql.SQL(" and ").join(parts) if parts else sql.SQL("true")


EVERYTHING: Final = KeyRange(0, None, None)


@dataclass(frozen=True, slots=True)
class Version:
    """What every document of one batch carries. `omitted`: fields that an older mapping does not know."""

    batch: int
    as_of: datetime
    omitted: tuple[str, ...] = ()


def key_ranges(connection: Connection, documents: int) -> list[KeyRange]:
    """The keys of all events cut so that each range has about `documents` of them; covers every uuid.

    By the keys that are there: identifiers that begin with a time would all fall into one of equal parts.
    """
    bounds: list[UUID | None] = [None]
    bounds += [
        row[0]
        for row in connection.execute(
            "select id from (select id, row_number() over (order by id) as place from events.events) e "
            "where place %% %s = 0 order by id",
            (documents,),
        )
    ]
    ends = [*bounds[1:], None]
    return [KeyRange(number, low, high) for number, (low, high) in enumerate(zip(bounds, ends, strict=True))]


def searchable(version: Version, keys: KeyRange = EVERYTHING) -> sql.Composed:
    """SELECT id, source (jsonb) of every searchable event of the range."""
    return _documents(
        version,
        sql.SQL("events.events e"),
        sql.SQL("{} and {}").format(sql.SQL(_SEARCHABLE), keys.condition("e.id")),
    )


def load_statement(version: Version, keys: KeyRange = EVERYTHING) -> sql.Composed:
    """COPY of the index actions of every searchable event of the range."""
    return sql.SQL("copy (select {action} from ({documents}) d) to stdout").format(
        action=_index_action(version), documents=searchable(version, keys)
    )


def changed_among(since: Since, events: Collection[str]) -> sql.Composed:
    """SELECT of those of `events` that changed since, whether they are searchable or not."""
    return sql.SQL("select c.id::text from ({changed}) c where c.id = any({events}::uuid[])").format(
        changed=_changed(since), events=sql.Literal(list(events))
    )


def changed_statement(version: Version, since: Since, also: Collection[str] = ()) -> sql.Composed:
    """COPY of an action for each event that changed since, and for those of `also`, each once.

    Index where it is searchable, else delete. An event that never was searchable is deleted too: that leaves
    a tombstone, and nothing else.
    """
    changed = _changed(since)
    if also:
        changed += sql.SQL(" union select unnest({}::uuid[])").format(sql.Literal(list(also)))
    return sql.SQL(
        "copy (with changed (id) as materialized ({events}) select case when d.id is null then {delete} "
        "else {index} end from changed left join ({documents}) d on d.id = changed.id) to stdout"
    ).format(
        events=changed,
        delete=_action("delete", version, "changed.id"),
        index=_index_action(version),
        documents=_documents(
            version, sql.SQL("changed join events.events e on e.id = changed.id"), sql.SQL(_SEARCHABLE)
        ),
    )


def hashes(keys: KeyRange | None, omitted: Collection[str], without: Collection[str]) -> sql.Composed:
    """SELECT id, hash of the content (60 bits) of the searchable events of the range, but for `without`."""
    return sql.SQL(
        "select e.id::text as id, ('x' || left(md5(({content})::text), 15))::bit(60)::bigint as hash "
        "from events.events e {joins} where {searchable} and {keys} and e.id <> all({without}::uuid[])"
    ).format(
        content=_content(omitted),
        joins=sql.SQL(_JOINS),
        searchable=sql.SQL(_SEARCHABLE),
        keys=sql.SQL("true") if keys is None else keys.condition("e.id"),
        without=sql.Literal(list(without)),
    )


def counts(without: Collection[str]) -> sql.Composed:
    """SELECT status, organizer, number of searchable events, in this order, but for `without`."""
    return sql.SQL(
        'select e.status::text, e.organizer_id::text collate "C", count(*) from events.events e '
        "where {searchable} and e.id <> all({without}::uuid[]) group by 1, 2 order by 1, 2"
    ).format(searchable=sql.SQL(_SEARCHABLE), without=sql.Literal(list(without)))


def sample(size: int, seed: str) -> sql.Composed:
    """SELECT of the ids of `size` searchable events, as `seed` has it."""
    return sql.SQL(
        "select e.id::text from events.events e where {searchable} "
        "order by md5(e.id::text || {seed}) limit {size}"
    ).format(searchable=sql.SQL(_SEARCHABLE), seed=sql.Literal(seed), size=sql.Literal(size))


def lines(chunk: bytes) -> bytes:
    """A chunk of COPY as the body of a bulk request.

    COPY doubles backslashes and escapes nothing else that JSON can hold (it has no control characters).
    """
    return chunk.replace(b"\\\\", b"\\").replace(_LINE.encode(), b"\n")


def operations(body: bytes) -> Iterator[tuple[bytes, ...]]:
    """The operations of such a body, each with its one or two lines."""
    rows = iter(body.splitlines())
    for action in rows:
        yield (action, next(rows)) if action.startswith(b'{"index"') else (action,)


def _changed(since: Since) -> sql.Composed:
    return sql.SQL(_CHANGED).format(**{f"new_{alias}": since.new(alias) for alias in "evotpd"})


def _documents(version: Version, origin: sql.Composable, condition: sql.Composable) -> sql.Composed:
    return sql.SQL(
        "select c.id, {source} as source from (select e.id, {content} as content, {outside} as outside "
        "from {origin} {joins} where {condition} offset 0) c"
    ).format(
        source=_without(
            sql.SQL(
                "c.content || c.outside || "
                "jsonb_build_object('content_hash', md5(c.content::text), 'indexed_at', {at}::text)"
            ).format(at=sql.Literal(f"{version.as_of.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z")),
            version.omitted,
        ),
        content=_content(version.omitted),
        outside=sql.SQL(_OUTSIDE),
        origin=origin,
        joins=sql.SQL(_JOINS),
        condition=condition,
    )


def _content(omitted: Collection[str]) -> sql.Composable:
    return _without(sql.SQL(_CONTENT), omitted)


def _without(value: sql.Composable, omitted: Collection[str]) -> sql.Composable:
    if not omitted:
        return value
    return sql.SQL("(({}) - {}::text[])").format(value, sql.Literal(sorted(omitted)))


def _action(kind: str, version: Version, key: str) -> sql.Composed:
    return sql.SQL("{} || {} || {}").format(
        sql.Literal(f'{{"{kind}":{{"_id":"'),
        sql.SQL(key),
        sql.Literal(f'","version":{version.batch},"version_type":"external"}}}}'),
    )


def _index_action(version: Version) -> sql.Composed:
    return sql.SQL("{} || {} || d.source::text").format(_action("index", version, "d.id"), sql.Literal(_LINE))
