"""Some hundred events in PostgreSQL, with everything that a document joins, made by its own numbers.

Not all of them are searchable, not all have a venue or a price, and some prices are in two currencies.
"""

from __future__ import annotations

from bilten_orchestration.stores.postgres import Connection

EVENTS = 600

_ROWS = """
    insert into users.users (id, email, password_hash, role)
    select md5('organizer' || n)::uuid, n || '@example.org', 'x', 'organizer' from generate_series(0, 9) n;

    insert into events.venues (id, name, address, city, country, latitude, longitude)
    select md5('venue' || n)::uuid, 'Hall ' || n, 'Street',
           (array['Lisbon', 'Porto', 'Madrid', 'Turku'])[n % 4 + 1],
           (array['PT', 'PT', 'ES', 'FI'])[n % 4 + 1],
           (array[38.72, 41.15, 40.41, 60.45])[n % 4 + 1] + (n * 7 % 11) / 10.0,
           (array[-9.13, -8.62, -3.70, 22.26])[n % 4 + 1] + (n * 5 % 13) / 10.0
    from generate_series(0, 39) n;

    insert into events.events (id, organizer_id, venue_id, title, description, category, tags, start_date,
                               end_date, location, status, visibility, deleted_at)
    select md5('event' || n)::uuid, md5('organizer' || n * 7 % 10)::uuid,
           case when n % 9 > 0 then md5('venue' || n % 40)::uuid end,
           concat_ws(' ', (array['Midnight', 'Golden', 'Northern', 'Velvet', 'The Winter'])[n % 5 + 1],
                     (array['Marathon', 'Garden', 'Kingdom', 'Printmaking', 'Pottery', 'Lighthouse',
                            'Dinosaur'])[n % 7 + 1],
                     (array['Summit', 'Market', 'Session', 'Weekend'])[n % 4 + 1]),
           case when n % 3 > 0 then 'Doors half an hour before.' end,
           (array['music', 'sport', 'theatre', 'food'])[n % 4 + 1],
           array_remove(array[case when n % 2 = 0 then 'outdoor' end, case when n % 3 = 0 then 'seated' end],
                        null),
           timestamptz '2026-05-01 18:00+00' + n * 37 % 400 * interval '3 hours' + n % 7 * interval '700 us',
           timestamptz '2027-05-01 18:00+00',
           case when n % 9 = 0
                then '{"city": "Ghent", "country": "BE", "lat": 51.05, "lon": 3.71}'::jsonb end,
           (case when n % 11 = 0 then 'draft' else 'published' end)::events.event_status,
           (case when n % 13 = 0 then 'unlisted' else 'public' end)::events.event_visibility,
           case when n % 17 = 0 then now() end
    from generate_series(1, %d) n;

    insert into tickets.ticket_types (event_id, name, price, currency, quantity, is_active)
    select md5('event' || n)::uuid, 'Type ' || kind, (5 + n * 3 % 90 + kind * 12.5)::numeric(18, 1),
           case when kind = 3 then 'USD' else 'EUR' end, 100, kind <> 2 or n % 5 > 0
    from generate_series(1, %d) n, generate_series(1, 3) kind
    where n % 19 > 0 and (kind < 3 or n % 2 = 0);
"""


def fill(owner: Connection, events: int = EVENTS) -> None:
    """`owner` in autocommit."""
    with owner.transaction():
        owner.execute((_ROWS.replace("%d", str(events))).encode())
