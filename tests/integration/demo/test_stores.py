"""Clickstream, cache and objects of one load, in their stores."""

# ruff: noqa: E501 (statements and their bounds side by side)

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, date
from typing import TYPE_CHECKING

import pytest

from bilten_orchestration.demo.load import load
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse, object_store, postgres, redis

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

ZERO = "toUUID('00000000-0000-0000-0000-000000000000')"

CLICKS = {
    "every type of click": (5, "uniqExact(event_type)", "1"),
    "duplicate deliveries": (500, "count() - uniqExact(click_id)", "1"),
    "pages that belong to no event": (500, "count()", f"event_id = {ZERO} and organizer_id = {ZERO}"),
    "guests": (5_000, "count()", f"user_id = {ZERO}"),
    "logged-in users": (2_000, "count()", f"user_id <> {ZERO}"),
    "direct visits": (1_000, "count()", "referrer = '' and mapContains(properties, 'utm_source') = 0"),
    "sources that name themselves": (
        4,
        "uniqExact(properties['utm_source'])",
        "properties['utm_source'] <> ''",
    ),
    "campaigns": (500, "count()", "properties['utm_campaign'] <> ''"),
    "campaigns, each by its name": (
        4,
        "uniqExact(properties['utm_campaign'])",
        "properties['utm_campaign'] <> ''",
    ),
    "referrers of other sites": (500, "count()", "referrer like 'https://search%'"),
    "bots that say so": (300, "count()", "user_agent ilike '%bot%' or user_agent ilike '%crawler%'"),
    "checkouts with type and quantity": (1_000, "count()", "properties['quantity'] <> ''"),
    "truncated addresses only": (20, "uniqExact(ip_address)", "ip_address like '%.0'"),
    "months": (12, "uniqExact(toYYYYMM(timestamp))", "1"),
    "97 % written within seconds": (
        970,
        "toUInt32(1000 * countIf(ingested_at < timestamp + interval 20 second) / count())",
        "1",
    ),
    "late by hours": (300, "count()", "ingested_at > timestamp + interval 1 hour"),
    "late by two days": (3, "count()", "ingested_at > timestamp + interval 48 hour"),
    "late onto a later local day": (
        100,
        "count()",
        "toDate(ingested_at) > toDate(timestamp) and ingested_at > timestamp + interval 5 minute",
    ),
    "second deliveries, hours later": (
        20,
        "count()",
        """click_id in (select click_id from analytics.events
        group by click_id having max(ingested_at) > min(ingested_at) + interval 1 hour)""",
    ),
}


@pytest.fixture(scope="module")
def filled(servers: object, today: date) -> Iterator[tuple[Settings, Client]]:
    """All parts at scale 0.03, in a database of its own and an emptied ClickHouse and Redis."""
    from tests.conftest import empty_clickhouse
    from tests.integration.demo.conftest import database

    with database(servers) as settings:
        empty_clickhouse(servers.client(settings.clickhouse), servers.template)  # type: ignore[attr-defined]
        cache = redis.connect(settings.redis)
        cache.flushall()
        cache.close()
        load(settings, scale=0.03, today=today)
        client = clickhouse.connect(settings.clickhouse)
        yield settings, client
        client.close()


@pytest.mark.parametrize("trait", CLICKS)
def test_clickstream_trait(filled: tuple[Settings, Client], trait: str) -> None:
    bound, measure, where = CLICKS[trait]
    found = filled[1].query(f"select {measure} from analytics.events where {where}").result_rows[0][0]
    assert found >= bound, f"{trait}: {found}, wanted at least {bound}"


def test_clicks_are_as_many_as_the_scale_asks(filled: tuple[Settings, Client]) -> None:
    """Of 3 million."""
    assert filled[1].query("select count() from analytics.events").result_rows[0][0] == pytest.approx(
        90_000, rel=0.05
    )


def test_history_looks_as_if_it_had_arrived_by_itself(filled: tuple[Settings, Client], today: date) -> None:
    found = filled[1].query(
        "select countIf(ingested_at < timestamp), countIf(ingested_at > timestamp + interval 72 hour),"
        " countIf(ingested_at >= toDateTime({today:String}, 'UTC')) from analytics.events",
        parameters={"today": f"{today} 00:00:00"},
    )
    assert found.result_rows == [(0, 0, 0)]


def test_bots_also_show_by_their_pace(filled: tuple[Settings, Client]) -> None:
    fast = filled[1].query(
        "select count() from (select session_id, count() as n, any(user_agent) as agent,"
        " date_diff('second', min(timestamp), max(timestamp)) as took from analytics.events group by session_id)"
        " where n >= 35 and took < 2 * n and agent not ilike '%bot%' and agent like '%Safari%'"
    )
    assert fast.result_rows[0][0] >= 2


def test_each_purchase_follows_a_view_and_a_checkout_of_its_buyer(filled: tuple[Settings, Client]) -> None:
    settings, client = filled
    with postgres.connect(settings.postgres) as connection:
        bought = connection.execute(
            "select user_id, event_id, captured_at from payments.payments p where captured_at is not null"
            " and captured_at < created_at + interval '2 minutes' order by id limit 100"
        ).fetchall()
    assert len(bought) == 100
    for user, event, at in bought:
        found = client.query(
            "with (select any(session_id) from analytics.events where user_id = {user:UUID} and event_id = {event:UUID}"
            " and event_type = 'checkout_started' and timestamp between {at:DateTime64(3, 'UTC')} - interval 24 hour"
            " and {at:DateTime64(3, 'UTC')}) as session"
            " select uniqExact(event_type) from analytics.events where session_id = session"
            " and event_type in ('page_view', 'checkout_started')",
            parameters={"user": str(user), "event": str(event), "at": f"{at:%Y-%m-%d %H:%M:%S.%f}"[:-3]},
        ).result_rows
        assert found == [(2,)], (user, event, at)


def test_local_days_are_those_of_the_organization(filled: tuple[Settings, Client]) -> None:
    settings, client = filled
    clicks = client.query(
        f"select toString(event_id), timestamp, toString(local_date) from analytics.events where event_id <> {ZERO}"
        " and local_date <> toDate(timestamp) order by click_id limit 200"
    ).result_rows
    assert len(clicks) == 200
    with postgres.connect(settings.postgres) as connection:
        for event, at, day in clicks:
            row = connection.execute(
                "select (%s at time zone o.timezone)::date::text from events.events e"
                " join users.organizations o on o.id = e.organization_id where e.id = %s",
                (at.replace(tzinfo=UTC), event),
            ).fetchone()
            assert row == (day,)


def test_keys_follow_the_patterns_and_end_in_time(filled: tuple[Settings, Client]) -> None:
    client = redis.connect(filled[0].redis)
    longest = {
        "session:*:*": 86_400, "user:profile:*": 21_600, "event:details:*": 3_600,
        "analytics:live:*:*": 900, "branding:settings:*": 21_600,
    }  # fmt: skip
    for pattern, seconds in longest.items():
        keys = list(client.scan_iter(pattern))
        assert keys, pattern
        assert all(seconds - 600 < client.ttl(key) <= seconds for key in keys), pattern
    counters = list(client.scan_iter("event:*:views"))
    assert counters
    assert all(client.ttl(key) == -1 and int(client.get(key)) > 0 for key in counters)  # type: ignore[arg-type]
    client.close()


def test_objects_are_what_the_files_say(filled: tuple[Settings, Client]) -> None:
    settings = filled[0]
    client = object_store.connect(settings.object_store)
    with postgres.connect(settings.postgres) as connection:
        files = connection.execute(
            "select bucket, object_key, sha256, size, content_type from assets.files"
        ).fetchall()
    assert len(files) >= 50
    for bucket, key, digest, size, content_type in files:
        stored = client.get_object(Bucket=bucket, Key=key)
        body = stored["Body"].read()
        assert (hashlib.sha256(body).hexdigest(), len(body), stored["ContentType"]) == (
            digest,
            size,
            content_type,
        )
    client.close()
