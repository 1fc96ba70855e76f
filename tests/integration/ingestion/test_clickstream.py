"""The one writer of analytics.events against a real server."""

from __future__ import annotations

import multiprocessing
import re
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

import pyarrow as pa
import pytest

from bilten_orchestration.demo.words import CITIES
from bilten_orchestration.errors import Refused, UsageError
from bilten_orchestration.ingestion import clickstream
from bilten_orchestration.ingestion import clickstream_columns as columns
from bilten_orchestration.ingestion.clickstream_rows import as_columns
from bilten_orchestration.settings import ClickHouseSettings, Settings
from bilten_orchestration.stores.clickhouse import connect
from bilten_orchestration.timezones import changes
from bilten_orchestration.timezones import zone as ZoneInfo
from tests.waiting import until

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

    from tests.stack import ClickHouseServer

SPACE = UUID("c11c5000-0000-4000-8000-000000000000")
ZERO = UUID(int=0)
WAIT_SECONDS = 60
ALL_ZONES = sorted({city.timezone for city in CITIES})


def name(kind: str, number: int) -> UUID:
    return uuid5(SPACE, f"{kind} {number}")


def click(number: int, **change: object) -> dict[str, object]:
    now = datetime.now(UTC)
    row: dict[str, object] = {
        "click_id": name("click", number),
        "event_id": name("event", number % 5),
        "session_id": name("session", number // 3),
        "visitor_id": name("visitor", number // 6),
        "organizer_id": name("organizer", number % 5),
        "event_type": "page_view",
        "timestamp": now - timedelta(minutes=1),
        "properties": {"utm_source": "newsletter"},
        "ip_address": "203.0.113.77",
        "page_url": f"https://tickets.example/events/{number % 5}",
    }
    return row | change


def clicks(numbers: Iterable[int], at: datetime) -> Iterator[dict[str, object]]:
    return (click(number, timestamp=at) for number in numbers)


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    opened = connect(settings.clickhouse)
    yield opened
    opened.close()


def one(client: Client, query: str) -> tuple[Any, ...]:
    (row,) = client.query(query).result_rows
    return tuple(row)


def totals(client: Client) -> tuple[Any, ...]:
    """Rows, distinct clicks; clicks, visitors, sessions and deliveries as the per-minute view has them."""
    return one(client, "select count(), uniqExact(click_id) from analytics.events") + one(
        client,
        "select sum(event_count), sum(visitors), sum(sessions), sum(delivered_rows)"
        " from analytics.realtime_minutes",
    )


def give_zone(
    client: Client, event: UUID, zone: str, *, version: int = 1, organization: UUID | None = None
) -> None:
    """What the sync writes about an event and its organization."""
    now = datetime.now(UTC)
    organization = organization or uuid5(event, "organization")
    client.insert(
        "bilten_raw.users_organizations",
        [(organization, "An organization", zone, "EUR", now, now, version, 0)],
        column_names=[
            "id",
            "name",
            "timezone",
            "default_currency",
            "created_at",
            "updated_at",
            "version",
            "is_deleted",
        ],
    )
    client.insert(
        "bilten_raw.events_events",
        [(event, organization, organization, "An event", now, now, now, now, version, 0)],
        column_names=[
            "id",
            "organizer_id",
            "organization_id",
            "title",
            "start_date",
            "end_date",
            "created_at",
            "updated_at",
            "version",
            "is_deleted",
        ],
    )


def stored_days(client: Client) -> dict[UUID, date]:
    return dict(client.query("select click_id, local_date from analytics.events").result_rows)


def test_a_malformed_row_is_set_aside_and_the_rest_goes_in(client: Client) -> None:
    rows = [click(0), click(1, timestamp="yesterday"), click(2), click(3, visitor_id="me"), {}, click(4)]
    report = clickstream.write(client, rows)
    assert (report.rows_read, report.rows_written, report.rows_rejected) == (6, 3, 3)
    assert report.rejected_by_reason == {"missing": 1, "not a UUID": 1, "wrong type": 1}
    assert set(stored_days(client)) == {name("click", number) for number in (0, 2, 4)}
    refused = client.query(
        "select reason, fields from analytics.events_rejected order by reason, length(fields)"
    ).result_rows
    assert [(reason, sorted(fields)) for reason, fields in refused] == [
        ("missing", ["click_id", "event_type", "session_id", "timestamp", "visitor_id"]),
        ("not a UUID", ["visitor_id"]),
        ("wrong type", ["timestamp"]),
    ]


def test_a_stored_row_holds_what_the_rules_leave(client: Client) -> None:
    clickstream.write(client, [click(0, user_id=None, event_id=None, referrer="https://a.example/?q=1")])
    row = one(
        client,
        "select event_id, user_id, ip_address, referrer, properties, local_date = toDate32(timestamp),"
        " created_date = toDate(timestamp), abs(dateDiff('second', ingested_at, now())) < 60"
        " from analytics.events",
    )
    assert row == (
        ZERO,
        ZERO,
        "203.0.113.0",
        "https://a.example/",
        {"utm_source": "newsletter"},
        True,
        True,
        True,
    )


def test_a_repeated_delivery_counts_once(client: Client) -> None:
    at = datetime.now(UTC).replace(microsecond=0)
    rows = [*clicks(range(300), at), click(1, visitor_id="me")]
    clickstream.write(client, rows, chunk_rows=100)
    once = totals(client)
    assert once[:3] == (300, 300, 300)
    assert once[5] == 300
    again = clickstream.write(client, rows, chunk_rows=100)
    assert again.rows_written == 300
    assert totals(client) == once
    assert one(client, "select count() from analytics.events_rejected") == (1,)
    clickstream.write(client, rows[250:], chunk_rows=100)  # the refused one in another block
    assert one(client, "select count() from analytics.events_rejected final") == (1,)


def test_rows_repeated_in_another_block_do_not_count_in_the_minutes(client: Client) -> None:
    at = datetime.now(UTC).replace(microsecond=0)
    clickstream.write(client, clicks(range(300), at))
    once = totals(client)
    clickstream.write(client, clicks(range(150, 300), at))
    clickstream.write(client, [click(299, timestamp=at)] * 10)
    rows, distinct, counted, visitors, sessions, delivered = totals(client)
    assert (distinct, counted, visitors, sessions) == once[1:5]
    assert (rows, delivered) == (460, 460)
    client.command("optimize table analytics.metrics_realtime final")
    assert totals(client)[2:] == (counted, visitors, sessions, delivered)


def _deliver(clickhouse: ClickHouseSettings, numbers: range, at: datetime, halt_after: int | None) -> None:
    """In a process of its own: write in chunks of 1,000; stand still for ever after so many rows."""

    def rows() -> Iterator[dict[str, object]]:
        for sent, row in enumerate(clicks(numbers, at)):
            if sent == halt_after:
                time.sleep(10 * WAIT_SECONDS)  # until killed
            yield row

    clickstream.write(connect(clickhouse), rows(), chunk_rows=1_000)


def start_delivery(*arguments: Any) -> multiprocessing.process.BaseProcess:
    process = multiprocessing.get_context("spawn").Process(target=_deliver, args=arguments, daemon=True)
    process.start()
    return process


def test_a_writer_killed_between_chunks_loses_and_doubles_nothing(settings: Settings, client: Client) -> None:
    at = datetime.now(UTC).replace(microsecond=0)
    process = start_delivery(settings.clickhouse, range(5_000), at, 3_500)
    until(lambda: one(client, "select count() from analytics.events")[0] >= 2_000, "two chunks", WAIT_SECONDS)
    process.kill()
    process.join()
    assert 2_000 <= totals(client)[0] < 5_000
    clickstream.write(client, clicks(range(5_000), at), chunk_rows=1_000)
    rows, distinct, _, _, _, delivered = totals(client)
    assert (rows, distinct, delivered) == (5_000, 5_000, 5_000)


def _has_clicks(client: Client, number: int) -> bool:
    return int(one(client, "select count() from analytics.events")[0]) >= number


def make_clickstream_tables(settings: Settings, server: ClickHouseServer) -> None:
    from bilten_orchestration.migrations import runner

    runner.up(settings.model_copy(update={"clickhouse": server.settings}), store="clickhouse")


@pytest.mark.faults
def test_a_server_killed_while_it_is_written_to_is_caught_up(
    empty_settings: Settings, own_clickhouse: ClickHouseServer
) -> None:
    make_clickstream_tables(empty_settings, own_clickhouse)
    at = datetime.now(UTC).replace(microsecond=0)
    client = connect(own_clickhouse.settings)
    for turn in range(1, 4):
        process = start_delivery(own_clickhouse.settings, range(30_000), at, None)
        until(partial(_has_clicks, client, 6_000 * turn), "clicks of this turn", WAIT_SECONDS)
        own_clickhouse.kill()
        process.join(WAIT_SECONDS)
        assert process.exitcode not in (None, 0), "the writer must have failed"
        own_clickhouse.start()
        client = connect(own_clickhouse.settings)
        assert totals(client)[0] < 30_000
    clickstream.write(client, clicks(range(30_000), at), chunk_rows=1_000)
    rows, distinct, _, _, _, delivered = totals(client)
    assert (rows, distinct, delivered) == (30_000, 30_000, 30_000)


FIELDS = (*columns.IDS, *columns.OPTIONAL_IDS, *columns.TEXTS, "timestamp", "no_such_field")
PLANTED = "planted.person"


def planted_rows(number: int) -> Iterator[dict[str, object]]:
    for at in ("@", "%40", "%2540", "＠", "&#64;"):
        address = f"{PLANTED}{at}mail.example.com"
        for text in (
            address,
            f"https://{address}/",
            f"https://x.example/u/{address}?utm_source={address}&next=/{address}#{address}",
            f"https://x.example/{'p' * 1000}/{address}",
            f"https://x.example/?utm_campaign={address}",
            f"x{'u' * 500}{address}",
        ):
            for field in FIELDS:
                number += 1
                yield click(number, **{field: text})
            for key in ("utm_source", "utm_campaign", "device", "country", "email", address):
                number += 1
                yield click(number, properties={key: text})


def test_no_address_of_a_person_is_stored_anywhere(settings: Settings, client: Client) -> None:
    clickstream.write(client, planted_rows(0))
    # the other way in; as_columns says by itself which values are of the wrong kind, a table cannot
    chunks = [
        chunk.select([*FIELDS[:-1], "properties"]) for chunk, _ in as_columns(planted_rows(10_000), 10_000)
    ]
    report = clickstream.write_table(client, chunks)
    assert report.rows_written > 200
    assert one(client, "select count() > 200 from analytics.events_rejected")[0]

    client.command("system flush logs")
    searched = 0
    searchable = client.query(
        "select c.database, c.table, c.name, c.type from system.columns as c"
        " inner join system.tables as t on t.database = c.database and t.name = c.table"
        " where c.type like '%String%' and (t.has_own_data or t.engine like '%View')"
        " and t.database not in ('information_schema', 'INFORMATION_SCHEMA')"
    ).result_rows
    for database, table, column, kind in searchable:
        # written in two halves, so that the log of queries does not hold it through this very query
        found = f"positionCaseInsensitive(toString(`{column}`), concat('planted', '.person')) > 0"
        hits = one(client, f"select countIf({found}) from `{database}`.`{table}`")[0]
        assert hits == 0, f"{database}.{table}.{column} ({kind})"
        searched += 1
    assert {"analytics.events", "analytics.events_rejected"} <= {f"{row[0]}.{row[1]}" for row in searchable}
    assert any(kind.startswith("Map(") for *_, kind in searchable)
    assert any(kind.startswith("Array(") for *_, kind in searchable)
    assert searched > 30
    for text in ("page_url", "referrer", "user_agent", "event_name", "toString(properties)"):
        assert one(
            client, f"select countIf(match({text}, '[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+')) from analytics.events"
        ) == (0,)


EVENTS = {
    name("event", number): zone
    for number, zone in enumerate(
        (
            "Pacific/Honolulu",
            "Pacific/Tongatapu",
            "Asia/Kathmandu",
            "America/New_York",
            "Australia/Lord_Howe",
            "Europe/Istanbul",
        )
    )
}


def test_local_days_of_every_zone_with_their_clock_changes(client: Client) -> None:
    for event, zone in EVENTS.items():
        give_zone(client, event, zone)
    days = [
        (2026, 3, 8),
        (2025, 11, 2),
        (2026, 4, 5),
        (2025, 10, 5),
        (2026, 6, 1),
    ]  # changes in New York and Lord Howe
    moments = [
        datetime(*day, tzinfo=UTC) + timedelta(minutes=15 * step, milliseconds=-1)
        for day in days
        for step in range(-96, 192)
    ]
    rows = [
        click(number, event_id=event, timestamp=moment)
        for number, (event, moment) in enumerate((event, moment) for event in EVENTS for moment in moments)
    ]
    report = clickstream.write(client, rows, history=True, now=datetime(2026, 7, 1, tzinfo=UTC))
    assert report.rows_written == len(rows)
    assert report.rows_without_zone == 0
    found = stored_days(client)
    expected = {
        row["click_id"]: row["timestamp"].astimezone(ZoneInfo(EVENTS[row["event_id"]])).date()  # type: ignore[attr-defined, index]
        for row in rows
    }
    assert found == expected
    assert set(report.local_days) == set(expected.values())
    for event, zone in EVENTS.items():  # the server agrees
        wrong = f"countIf(local_date <> toDate32(toDate(formatDateTime(timestamp, '%F', '{zone}'))))"
        assert one(client, f"select {wrong} from analytics.events where event_id = '{event}'") == (0,)


def test_history_says_when_it_arrived_and_the_living_stream_does_not(client: Client) -> None:
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=80)
    delays = [timedelta(seconds=1), timedelta(hours=71), timedelta(hours=73), timedelta(hours=-1)]
    table = pa.table(
        {
            **{
                key: [str(name(key, number)) for number in range(4)]
                for key in ("click", "session", "visitor")
            },
            "event_type": ["page_view"] * 4,
            "timestamp": pa.array([at] * 4, pa.timestamp("us", "UTC")),
            "ingested_at": pa.array([at + delay for delay in delays], pa.timestamp("us", "UTC")),
        }
    ).rename_columns(["click_id", "session_id", "visitor_id", "event_type", "timestamp", "ingested_at"])
    report = clickstream.write_table(client, table, history=True)
    assert report.rejected_by_reason == {"not a time of arrival": 2}
    stored = client.query(
        "select dateDiff('second', timestamp, ingested_at) from analytics.events order by ingested_at"
    )
    assert stored.result_rows == [(1,), (71 * 3600,)]

    now = datetime.now(UTC).replace(microsecond=0)
    arrived = pa.array([now - timedelta(hours=1)] * 4, pa.timestamp("us", "UTC"))
    living = table.set_column(4, "timestamp", arrived).set_column(5, "ingested_at", arrived)
    assert clickstream.write_table(client, living).rows_written == 4
    clock = "countIf(ingested_at > now() - interval 1 minute)"
    assert one(client, f"select {clock} from analytics.events") == (4,)


NIGHT = datetime(2026, 3, 10, 20, 30, tzinfo=UTC)  # already the 11th in Istanbul from 21:00 on


def night_rows(event: UUID) -> list[dict[str, object]]:
    return [
        click(number, event_id=event, timestamp=NIGHT + timedelta(minutes=number)) for number in range(60)
    ]


def write_night(client: Client, event: UUID, **arguments: Any) -> clickstream.ClickstreamReport:
    return clickstream.write(client, night_rows(event), now=NIGHT + timedelta(hours=2), **arguments)


def test_clicks_before_their_event_was_synced_move_when_it_comes(client: Client) -> None:
    event, other = name("event", 1), name("event", 2)
    report = write_night(client, event)
    assert report.rows_without_zone == 60
    assert report.local_days == (date(2026, 3, 10),)
    give_zone(client, event, "Europe/Istanbul")
    moved = clickstream.relocate(client, {event: "Europe/Istanbul", other: "Asia/Kathmandu"})
    assert moved.clicks_moved == 30
    assert moved.days == (date(2026, 3, 10), date(2026, 3, 11))
    assert one(client, "select countIf(local_date = '2026-03-11'), count() from analytics.events") == (30, 60)
    repeated = write_night(client, event)  # the same block, whatever zones are known by now
    assert repeated.rows_without_zone == 0
    assert totals(client)[:2] == (60, 60)
    assert totals(client)[5] == 60


def test_many_zones_move_at_once_by_the_pinned_rules(client: Client) -> None:
    """Around every change of the clocks within two years; what moved is what Python says of each click."""
    zones = {name("event", number): zone for number, zone in enumerate(ALL_ZONES)}
    first, last = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (2024, 2026))
    rows = []
    for event, zone in zones.items():
        at = [moment for moment in changes(zone)[0] if first <= moment < last] or [first]
        for moment in at:
            rows += [
                click(
                    len(rows) + step,
                    event_id=event,
                    timestamp=datetime.fromtimestamp(moment, UTC) + timedelta(minutes=7 * step, seconds=-1),
                )
                for step in range(-230, 230)  # a day and more to both sides
            ]
    clickstream.write(client, rows, history=True, now=datetime(2026, 7, 1, tzinfo=UTC))
    assert one(client, "select countIf(local_date <> created_date) from analytics.events") == (0,)
    expected = {
        row["click_id"]: row["timestamp"].astimezone(ZoneInfo(zones[row["event_id"]])).date()  # type: ignore[attr-defined, index]
        for row in rows
    }
    others = {name("event", number): ALL_ZONES[number % len(ALL_ZONES)] for number in range(30_000)}
    report = clickstream.relocate(client, others | zones)  # as many as a first load at scale 20 has
    assert stored_days(client) == expected
    moved = sum(row["timestamp"].date() != expected[row["click_id"]] for row in rows)  # type: ignore[attr-defined, index]
    assert report.clicks_moved == moved > 1_000
    assert set(report.days) > {date(2024, 3, 10), date(2025, 10, 26)}
    assert clickstream.relocate(client, zones).clicks_moved == 0


def test_days_are_told_until_they_are_settled(client: Client) -> None:
    event = name("event", 1)
    write_night(client, event)
    first = clickstream.relocate(client, {event: "Europe/Istanbul"})
    # as after a kill between the mutation and the caller's commit: nothing is left to move
    second = clickstream.relocate(client, {event: "Europe/Istanbul"})
    assert second.clicks_moved == 0
    assert second.days == first.days == (date(2026, 3, 10), date(2026, 3, 11))
    clickstream.settle(client, second)
    assert clickstream.relocate(client, {event: "Europe/Istanbul"}).days == ()
    clickstream.settle(client, clickstream.relocate(client, {}))
    back = clickstream.relocate(client, {event: "UTC"})
    assert (back.clicks_moved, back.days) == (30, first.days)


def test_settling_leaves_what_came_later(client: Client) -> None:
    event = name("event", 1)
    write_night(client, event)
    first = clickstream.relocate(client, {event: "Europe/Istanbul"})
    later = clickstream.relocate(client, {event: "Pacific/Kiritimati"})
    clickstream.settle(client, first)
    assert clickstream.relocate(client, {}).journal == tuple(set(later.journal) - set(first.journal))


def test_a_mutation_outlives_its_server(empty_settings: Settings, own_clickhouse: ClickHouseServer) -> None:
    make_clickstream_tables(empty_settings, own_clickhouse)
    event = name("event", 1)
    client = connect(own_clickhouse.settings)
    write_night(client, event)
    client.command("system stop merges analytics.events")  # the mutation is accepted and stands still
    process = multiprocessing.get_context("spawn").Process(
        target=_relocate, args=(own_clickhouse.settings, {event: "Europe/Istanbul"}), daemon=True
    )
    process.start()
    under_way = "select count() from system.mutations where table = 'events' and not is_done"
    until(lambda: one(client, under_way)[0] == 1, "the mutation to be under way", WAIT_SECONDS)
    own_clickhouse.kill()
    process.join(WAIT_SECONDS)
    own_clickhouse.start()
    client = connect(own_clickhouse.settings)
    report = clickstream.relocate(client, {event: "Europe/Istanbul"})
    assert report.days == (date(2026, 3, 10), date(2026, 3, 11))
    assert one(client, "select countIf(local_date = '2026-03-11'), count() from analytics.events") == (30, 60)


def _relocate(clickhouse: ClickHouseSettings, zones: dict[UUID, str]) -> None:
    clickstream.relocate(connect(clickhouse), zones)


def test_a_zone_that_changes_while_a_chunk_is_written_is_noticed(settings: Settings, client: Client) -> None:
    event = name("event", 1)
    give_zone(client, event, "UTC")
    other = connect(settings.clickhouse)
    write_block = client.raw_insert

    def sync_comes_between(table: str, *arguments: Any, **keywords: Any) -> Any:
        if table == "analytics.events":
            give_zone(other, event, "Europe/Istanbul", version=2)
            clickstream.relocate(other, {event: "Europe/Istanbul"})  # finds no click yet
        return write_block(table, *arguments, **keywords)

    client.raw_insert = sync_comes_between  # type: ignore[method-assign]
    write_night(client, event)
    assert one(other, "select countIf(local_date = '2026-03-11'), count() from analytics.events") == (30, 60)
    assert clickstream.relocate(other, {}).days == (date(2026, 3, 10), date(2026, 3, 11))


def test_an_unknown_zone_is_refused_before_anything_moves(client: Client) -> None:
    known, unknown = name("event", 1), name("event", 2)
    write_night(client, known)
    with pytest.raises(Refused, match=re.escape("Mars/Olympus")):
        clickstream.relocate(client, {known: "Europe/Istanbul", unknown: "Mars/Olympus"})
    with pytest.raises(Refused):
        clickstream.relocate(client, {known: "UTC') or 1=1 --"})
    assert one(client, "select countIf(local_date = '2026-03-10') from analytics.events") == (60,)
    assert clickstream.relocate(client, {}).days == ()


def test_a_wrong_schema_is_refused_before_anything_is_written(client: Client) -> None:
    with pytest.raises(UsageError):
        clickstream.write_table(client, pa.table({"click_id": ["x"]}))
    assert one(client, "select count() from analytics.events_rejected") == (0,)


def test_memory_follows_the_chunk_and_not_the_rows(client: Client) -> None:
    at = datetime.now(UTC).replace(microsecond=0)

    def peak(rows: int) -> int:
        batches = (chunk for chunk, _ in as_columns(clicks(range(rows), at), 1_000))
        before = pa.total_allocated_bytes()
        highest = 0

        def watched() -> Iterator[pa.RecordBatch]:
            nonlocal highest
            for batch in batches:
                highest = max(highest, pa.total_allocated_bytes() - before)
                yield batch

        clickstream.write_table(client, watched())
        return highest

    peak(2_000)  # caches fill once
    assert peak(12_000) < 1.5 * peak(4_000)
