"""PostgreSQL computes the local days of rows, Python those of clicks: both must go by the same rules.

They carry different versions of the zone database, so zones whose law changes next year differ already.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from bilten_orchestration.demo.words import CITIES
from bilten_orchestration.settings import PostgresSettings
from bilten_orchestration.stores.postgres import connect
from bilten_orchestration.timezones import zone

FIRST = datetime(2024, 1, 1, 12, tzinfo=UTC)
WEEKS = 156


def test_the_embedded_server_and_the_pinned_rules_agree_on_the_zones_of_the_demo(
    postgres_server: PostgresSettings,
) -> None:
    known = {city.timezone for city in CITIES}
    assert {"America/Vancouver", "Pacific/Apia", "Asia/Kathmandu"} <= known
    with connect(postgres_server) as connection:
        rows = connection.execute(
            "select zone, at, extract(epoch from (at at time zone zone) - (at at time zone 'UTC'))::int"
            " from unnest(%s::text[]) as zone, generate_series(0, %s) as week,"
            " lateral (select %s::timestamptz + week * interval '7 days') as moment (at)",
            (sorted(known), WEEKS - 1, FIRST),
        ).fetchall()
    assert len(rows) == len(known) * WEEKS
    differing = {
        name: at
        for name, at, offset in rows
        if at.astimezone(zone(name)).utcoffset() != timedelta(seconds=offset)
    }
    assert differing == {}
