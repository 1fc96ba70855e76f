"""Rules of the clickstream: one value at a time, and columns (a valid base, one change, one refusal)."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilten_orchestration.errors import UsageError
from bilten_orchestration.ingestion import clickstream_columns as columns
from bilten_orchestration.ingestion import clickstream_rules as rules
from bilten_orchestration.ingestion.clickstream_rows import as_columns
from bilten_orchestration.ingestion.clickstream_zones import local_dates
from bilten_orchestration.timezones import zone as ZoneInfo

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
ADDRESS = re.compile(r"[^\s/?&=#]+(@|＠|%(25)*40)[^\s/?&=#]+", re.IGNORECASE)


def click(**change: object) -> dict[str, object]:
    """A row without a fault; `change` replaces fields, a value of ... removes one."""
    row: dict[str, object] = {
        "click_id": UUID("11111111-1111-4111-8111-111111111111"),
        "event_id": UUID("22222222-2222-4222-8222-222222222222"),
        "session_id": UUID("33333333-3333-4333-8333-333333333333"),
        "user_id": UUID("44444444-4444-4444-8444-444444444444"),
        "visitor_id": UUID("55555555-5555-4555-8555-555555555555"),
        "organizer_id": UUID("66666666-6666-4666-8666-666666666666"),
        "event_type": "page_view",
        "event_name": "event_page",
        "timestamp": NOW - timedelta(minutes=1),
        "properties": {"utm_source": "newsletter", "device": "phone"},
        "user_agent": "Mozilla/5.0 (X11; Linux x86_64)",
        "ip_address": "203.0.113.77",
        "referrer": "https://search.example/results?q=secret",
        "page_url": "https://tickets.example/events/jazz?utm_source=newsletter&session=1#top",
    }
    return {name: value for name, value in {**row, **change}.items() if value is not ...}


def judge(*rows: Any, oldest: timedelta = rules.LATE) -> columns.Cleaned:
    ((chunk, faults),) = as_columns(rows, 1_000)
    return columns.clean(chunk, now=NOW, oldest=oldest, faults=faults)


def table(*rows: dict[str, object]) -> pa.RecordBatch:
    """The rows as columns, as `write_table` is given them."""
    ((chunk, faults),) = as_columns(rows, 1_000)
    assert not faults
    return chunk


def stored(**change: object) -> dict[str, Any]:
    """The only row of a chunk, as it would be stored; it must have been accepted."""
    cleaned = judge(click(**change))
    assert cleaned.reasons == []
    row: dict[str, Any] = cleaned.accepted.to_pylist()[0]
    return row


def test_a_valid_row_goes_in_with_its_values_cut() -> None:
    row = stored()
    assert UUID(bytes=row["click_id"]) == click()["click_id"]
    assert row["timestamp"] == NOW - timedelta(minutes=1)
    assert row["ip_address"] == "203.0.113.0"
    assert row["referrer"] == "https://search.example/results"
    assert row["page_url"] == "https://tickets.example/events/jazz?utm_source=newsletter"
    assert dict(row["properties"]) == {"utm_source": "newsletter", "device": "phone"}


REFUSALS: list[tuple[str, object, str]] = [
    *((name, ..., "missing") for name in ("click_id", "session_id", "visitor_id", "timestamp", "event_type")),
    *(
        (name, None, "missing")
        for name in ("click_id", "session_id", "visitor_id", "timestamp", "event_type")
    ),
    *((name, "", "missing") for name in ("click_id", "event_type")),
    ("click_id", UUID(int=0), "missing"),
    *((name, "17", "not a UUID") for name in (*columns.IDS, *columns.OPTIONAL_IDS)),
    ("click_id", "{11111111-1111-4111-8111-111111111111}", "not a UUID"),
    ("click_id", "11111111-1111-4111-8111-11111111111\n", "not a UUID"),
    *(
        (name, 17, "wrong type")
        for name in (*columns.IDS, *columns.OPTIONAL_IDS, *columns.TEXTS, "timestamp")
    ),
    ("timestamp", NOW.replace(tzinfo=None), "wrong type"),
    ("timestamp", "2026-03-10 11:59:00", "wrong type"),
    ("timestamp", "yesterday", "wrong type"),
    ("timestamp", NOW + timedelta(minutes=5, milliseconds=1), "in the future"),
    ("timestamp", NOW - timedelta(hours=72, milliseconds=1), "too old"),
    ("event_type", "purchase", "unknown event type"),
    ("event_type", "PAGE_VIEW", "unknown event type"),
    ("event_name", "jane@example.com", "not a name"),
    ("event_name", "x" * 81, "not a name"),
    ("event_name", "<script>", "not a name"),
    ("event_name", "two\nlines", "not a name"),
    ("ip_address", "203.0.113", "not an IP address"),
    ("ip_address", "203.0.113.256", "not an IP address"),
    ("ip_address", "somewhere", "not an IP address"),
    ("page_url", "/events/jazz", "not a web address"),
    ("page_url", "javascript:alert(1)", "not a web address"),
    ("page_url", "https://", "not a web address"),
    ("page_url", "https://ti ckets.example/", "not a web address"),
    ("properties", ["utm_source"], "wrong type"),
    ("properties", "utm_source=x", "wrong type"),
    ("user_agent", "\ud800", "wrong type"),
]


@pytest.mark.parametrize(("name", "value", "reason"), REFUSALS)
def test_one_change_one_refusal(name: str, value: object, reason: str) -> None:
    cleaned = judge(click(click_id=uuid4()), click(**{name: value}), click(click_id=uuid4()))
    assert cleaned.accepted.num_rows == 2
    (refused,) = cleaned.refused.to_pylist()
    assert (refused["reason"], refused["fields"]) == (reason, [name])
    assert set(refused) == {"reason", "fields", "row_hash"}


ACCEPTED: list[tuple[str, object]] = [
    *((name, ...) for name in (*columns.OPTIONAL_IDS, "event_name", "ip_address", "referrer", "page_url")),
    *((name, None) for name in ("properties", "user_agent", "event_id")),
    ("timestamp", NOW + timedelta(minutes=5)),
    ("timestamp", NOW - timedelta(hours=72)),
    ("timestamp", "2026-03-10T13:59:00+02:00"),
    ("timestamp", "2026-03-10T11:59:00Z"),
    ("click_id", "ABCDEF00-0000-4000-8000-ABCDEF000000"),
    ("ip_address", IPv4Address("203.0.113.77")),
    ("ip_address", IPv6Address("2001:db8::1")),
    ("referrer", "android-app://com.example"),
    ("unknown_field", "is ignored"),
    *(("event_type", name) for name in rules.EVENT_TYPES),
]


@pytest.mark.parametrize(("name", "value"), ACCEPTED)
def test_what_is_allowed_goes_in(name: str, value: object) -> None:
    stored(**{name: value})


def test_a_row_that_is_no_mapping_is_refused() -> None:
    cleaned = judge(click(), "click", None)
    assert cleaned.accepted.num_rows == 1
    assert cleaned.reasons == ["wrong type", "wrong type"]


def test_all_fields_at_fault_are_named_and_the_first_rule_gives_the_reason() -> None:
    (refused,) = judge(
        click(click_id="x", ip_address="x", timestamp=NOW + timedelta(days=1))
    ).refused.to_pylist()
    assert refused["reason"] == "not a UUID"
    assert sorted(refused["fields"]) == ["click_id", "ip_address", "timestamp"]


def test_history_is_taken_by_its_switch_alone() -> None:
    old = click(timestamp=NOW - timedelta(days=600))
    assert judge(old).reasons == ["too old"]
    assert judge(old, oldest=rules.HISTORY).reasons == []
    assert judge(click(timestamp=NOW - timedelta(days=3654)), oldest=rules.HISTORY).reasons == ["too old"]


def test_missing_optional_ids_are_the_zero_uuid() -> None:
    row = stored(event_id=..., user_id=None, organizer_id="")
    assert {row["event_id"], row["user_id"], row["organizer_id"]} == {bytes(16)}


def test_a_moment_is_never_rounded_into_the_next_day() -> None:
    assert stored(timestamp="2026-03-09T23:59:59.999999Z")["timestamp"].date() == date(2026, 3, 9)
    batch = table(click())
    moments = pa.array(
        [datetime(2026, 3, 9, 23, 59, 59, 999_999, tzinfo=UTC)], pa.timestamp("us", "Europe/Istanbul")
    )
    batch = batch.set_column(batch.schema.get_field_index("timestamp"), "timestamp", moments)
    (row,) = columns.clean(batch, now=NOW, oldest=rules.LATE).accepted.to_pylist()
    assert row["timestamp"] == datetime(2026, 3, 9, 23, 59, 59, 999_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("given_text", "kept"),
    [
        ("jane@example.com", "redacted"),
        ("to jane.o'neil+x@mail.example.com now", "to redacted now"),
        ("/u/jane%40example.com/x", "/u/redacted/x"),
        ("/u/jane%2540example.com", "/u/redacted"),
        ("jane＠example.com", "redacted"),
        ("jane%EF%BC%A0example.com", "redacted"),
        ("jane&#64;example.com", "redacted"),
        ("jane&commat;example.com", "redacted"),
        ("mailto:jane@example.com", "mailto:redacted"),
        ("a=b&mail=jane@example.com&c=d", "a=b&mail=redacted&c=d"),
        ("Björn@exämple.de", "redacted"),
        ("nothing here, 40% off", "nothing here, 40% off"),
        ("a\x00b\nc", "a b c"),
    ],
)
def test_addresses_are_screened(given_text: str, kept: str) -> None:
    assert rules.screen(given_text) == kept


@given(
    st.text(max_size=200),
    st.sampled_from(["@", "＠", "%40", "%2540", "%EF%BC%A0", "&#64;"]),
    st.text(max_size=200),
)
def test_no_address_survives_whatever_stands_around_it(before: str, at: str, after: str) -> None:
    text = f"{before}jane.doe{at}example.com{after}"
    for rule in (rules.screen, rules.user_agent, rules.property_value, rules.referrer):
        assert "doe" + at not in rule(text)
        assert not re.search(r"[\w.+-]@[\w-]", rule(text))
    for url in (
        rules.page_url(f"https://x.example/{text}"),
        rules.page_url(f"https://x.example/?utm_source={text}"),
    ):
        assert not ADDRESS.search(url or "")
    assert "jane" not in (rules.page_url(f"https://jane.doe{at}example.com/x") or "")


def test_screening_takes_time_in_proportion_to_the_text() -> None:
    started = time.monotonic()
    for text in (
        "a" * 1_000_000 + "@b",
        "@" * 1_000_000,
        "a@" * 500_000,
        "%25" * 300_000,
        "https://x.y/" + "a" * 1_000_000,
    ):
        rules.screen(text)
        rules.page_url(text)
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    ("given_text", "kept"),
    [
        ("198.51.100.255", "198.51.100.0"),
        ("2001:db8:1234:5678:9abc:def0:1234:5678", "2001:db8:1234::"),
        ("::ffff:198.51.100.7", "198.51.100.0"),
        ("fe80::1%eth0", "fe80::"),
        (" 198.51.100.7 ", "198.51.100.0"),
        ("", ""),
        ("01.2.3.4", None),
        ("1.2.3.4/24", None),
    ],
)
def test_addresses_of_computers_are_truncated(given_text: str, kept: str | None) -> None:
    assert rules.ip_address(given_text) == kept
    if kept is not None:
        assert stored(ip_address=given_text)["ip_address"] == kept  # columns take a shorter way


@pytest.mark.parametrize(
    ("given_text", "kept"),
    [
        ("HTTPS://Tickets.Example/Events", "https://tickets.example/Events"),
        ("https://jane:pw@tickets.example:8443/x", "https://tickets.example:8443/x"),
        (
            "https://x.example?utm_medium=mail&token=1&utm_source=a",
            "https://x.example?utm_medium=mail&utm_source=a",
        ),
        ("https://x.example/a?utm_source=jane@example.com", "https://x.example/a?utm_source=redacted"),
        ("https://x.example/a#jane@example.com", "https://x.example/a"),
        ("https://[2001:db8::1]/a", "https://[2001:db8::1]/a"),
    ],
)
def test_web_addresses_are_cut(given_text: str, kept: str) -> None:
    assert rules.page_url(given_text) == kept


def test_texts_are_bounded() -> None:
    row = stored(
        user_agent="u" * 10_000,
        page_url="https://x.example/" + "p" * 10_000 + "?utm_source=" + "s" * 10_000,
        referrer="https://x.example/" + "r" * 10_000,
        properties={"utm_source": "v" * 10_000},
    )
    assert len(row["user_agent"]) == rules.USER_AGENT_CHARACTERS
    assert len(row["page_url"]) < 1_300
    assert len(row["referrer"]) < 1_100
    assert len(dict(row["properties"])["utm_source"]) == rules.PROPERTY_CHARACTERS


def test_properties_by_allow_list() -> None:
    given_map = {
        "utm_source": " a ",
        "quantity": 2,
        "email": "jane@example.com",
        "country": None,
        "device": {"a": 1},
        7: "x",
    }
    cleaned = judge(click(properties=given_map), click(click_id=uuid4(), properties={"gclid": "1"}))
    first, second = cleaned.accepted.to_pylist()
    assert dict(first["properties"]) == {"utm_source": "a", "quantity": "2"}
    assert second["properties"] == []
    assert cleaned.properties_dropped == 3  # email, 7, gclid; an allowed one without a value is not counted


def test_columns_and_rows_are_judged_alike_with_the_same_hash() -> None:
    good, bad = click(), click(click_id=uuid4(), page_url="nowhere")
    by_rows = judge(good, bad)
    batch = table(good, bad)
    packed = [UUID(str(row["event_id"])).bytes for row in (good, bad)]
    at = batch.schema.get_field_index("event_id")
    by_columns = columns.clean(
        batch.set_column(at, "event_id", pa.array(packed, pa.binary(16))), now=NOW, oldest=rules.LATE
    )
    assert by_columns.accepted.equals(by_rows.accepted)
    assert by_columns.refused.equals(by_rows.refused)
    assert by_rows.refused.to_pylist()[0]["row_hash"] == rules.row_hash(bad)


def test_the_hash_tells_rows_apart() -> None:
    one = click(page_url="nowhere")
    assert rules.row_hash(one) == rules.row_hash(dict(reversed(one.items())))
    assert rules.row_hash(one) != rules.row_hash(click(page_url="elsewhere"))


def test_slices_nulls_and_dictionaries_are_read_right() -> None:
    batch = table(*(click(click_id=uuid4(), properties={"utm_source": f"s{n}", "x": "y"}) for n in range(10)))
    for name in ("user_agent", "event_type", "session_id"):
        at = batch.schema.get_field_index(name)
        batch = batch.set_column(at, name, batch.column(at).dictionary_encode())
    whole = columns.clean(batch, now=NOW, oldest=rules.LATE).accepted
    part = columns.clean(batch.slice(3, 4), now=NOW, oldest=rules.LATE).accepted
    assert part.to_pylist() == whole.slice(3, 4).to_pylist()
    assert [dict(row["properties"]) for row in part.to_pylist()] == [
        {"utm_source": f"s{n}"} for n in range(3, 7)
    ]


def test_a_schema_that_cannot_be_clicks_is_refused_with_every_problem() -> None:
    schema = pa.schema(
        {
            "click_id": pa.int64(),
            "session_id": pa.string(),
            "timestamp": pa.timestamp("ms"),
            "properties": pa.string(),
        }
    )
    with pytest.raises(UsageError) as caught:
        columns.check_schema(schema)
    told = "\n".join(problem.what for problem in caught.value.problems)
    for name in ("visitor_id", "event_type", "click_id", "timestamp", "properties"):
        assert f"column {name}" in told
    assert "session_id" not in told


ZONES = (
    "Pacific/Honolulu",  # UTC-10
    "Pacific/Tongatapu",  # UTC+13
    "Pacific/Apia",
    "Asia/Kathmandu",  # UTC+5:45
    "Asia/Kolkata",
    "Australia/Lord_Howe",  # clocks change by half an hour
    "Pacific/Chatham",
    "America/St_Johns",
    "America/New_York",
    "Europe/Istanbul",
    "Africa/Casablanca",  # clocks change around Ramadan
    "America/Santiago",  # clocks change at midnight: a local day begins at 01:00
    "UTC",
)


def moments_around(zone: str, year: int) -> Iterator[datetime]:
    """Each clock change of the year, and the midnights about it, to the millisecond."""
    moment = datetime(year, 1, 1, tzinfo=UTC)
    while moment.year == year:
        later = moment + timedelta(hours=1)
        if moment.astimezone(ZoneInfo(zone)).utcoffset() != later.astimezone(ZoneInfo(zone)).utcoffset():
            for hours in range(-30, 31):
                for edge in (-1, 0, 1):
                    yield later + timedelta(hours=hours, milliseconds=edge)
                    yield later + timedelta(hours=hours, minutes=15, milliseconds=edge)
        moment = later


@pytest.mark.parametrize("zone", ZONES)
def test_local_days_of_every_zone_as_python_has_them(zone: str) -> None:
    rng = np.random.default_rng(7)
    first = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp() * 1000)
    moments = [
        datetime.fromtimestamp(int(ms) / 1000, UTC)
        for ms in first + rng.integers(0, 3 * 366 * 86_400_000, 2_000)
    ]
    moments += [moment for year in (2024, 2026) for moment in moments_around(zone, year)]
    event = uuid4()
    found = local_dates(
        pa.array(moments, columns.TIMESTAMP),
        pa.array([event.bytes] * len(moments), pa.binary(16)),
        {event: zone},
    )
    assert found.to_pylist() == [moment.astimezone(ZoneInfo(zone)).date() for moment in moments]


def test_each_click_gets_the_zone_of_its_own_event_and_utc_without_one() -> None:
    west, east, unknown, broken = (uuid4() for _ in range(4))
    moment = datetime(2026, 3, 10, 10, 59, 59, tzinfo=UTC)
    events = [west.bytes, east.bytes, unknown.bytes, broken.bytes, bytes(16)]
    found = local_dates(
        pa.array([moment] * 5, columns.TIMESTAMP),
        pa.array(events, pa.binary(16)),
        {west: "Pacific/Pago_Pago", east: "Pacific/Kiritimati", broken: "Mars/Olympus"},
    )
    assert [day.day for day in found.to_pylist()] == [9, 11, 10, 10, 10]
