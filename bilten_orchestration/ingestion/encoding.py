"""How a PostgreSQL value becomes a ClickHouse value, and how both are written for comparison.

Transport is COPY's text format into ClickHouse's TabSeparated, byte by byte: both write NULL as \\N
and escape control characters alike, so that Python only moves bytes. What differs is settled in SQL:
moments lose their offset (all are UTC), arrays become ClickHouse literals, and moments and dates
outside 1900-01-02 .. 2299-12-30 (infinity among them), which ClickHouse cannot hold, become the
nearest bound; one day short of its range, so that a local date still fits.

Comparison needs one canonical text on both sides, since ClickHouse prints 1.10 as 1.1 and both have
their own ways with moments and booleans. Strings carry their length in bytes and nulls a sign of
their own, so that no two different rows read alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

EARLIEST, LATEST = "1900-01-02", "2299-12-30"

_CLAMPED_DATE = (
    f"case when {{0}} < date '{EARLIEST}' then date '{EARLIEST}' "
    f"when {{0}} > date '{LATEST}' then date '{LATEST}' else {{0}} end"
)
_CLAMPED_MOMENT = (
    f"case when {{0}} < timestamptz '{EARLIEST} 00:00+00' then timestamptz '{EARLIEST} 00:00+00' "
    f"when {{0}} > timestamptz '{LATEST} 00:00+00' then timestamptz '{LATEST} 00:00+00' else {{0}} end"
)
# COPY doubles the backslashes and ClickHouse undoes it: only the quote needs care here
_ARRAY = (
    "case when {0} is not null then '[' || coalesce((select string_agg('''' || replace(coalesce(item, ''), "
    "'''', '''''') "
    "|| '''', ',' order by place) from unnest({0}) with ordinality as a (item, place)), '') || ']' end"
)


@dataclass(frozen=True, slots=True)
class Encoding:
    """Of one type: the ClickHouse type without Nullable, and SQL templates over a column expression {0}."""

    clickhouse_type: str
    transport: str
    postgres_text: str
    clickhouse_text: str
    variable_length: bool = False
    """The text may hold anything: it is preceded by its length."""


def _plain(clickhouse_type: str) -> Encoding:
    return Encoding(clickhouse_type, "{0}", "({0})::text", "toString({0})")


_TEXT = Encoding("String", "{0}", "({0})::text", "{0}", variable_length=True)
_PADDED_TEXT = Encoding("String", "({0})::text", "({0})::text", "{0}", variable_length=True)
_BYTES = Encoding("String", "encode({0}, 'hex')", "encode({0}, 'hex')", "{0}")
_UUID = _plain("UUID")
_BOOLEAN = Encoding("Bool", "{0}", "({0})::int::text", "toString(toUInt8({0}))")
_DATE = Encoding("Date32", _CLAMPED_DATE, f"({_CLAMPED_DATE})::text", "toString({0})")
_MOMENT = Encoding(
    "DateTime64(6, 'UTC')",
    f"({_CLAMPED_MOMENT}) at time zone 'UTC'",
    f"(extract(epoch from {_CLAMPED_MOMENT}) * 1000000)::bigint::text",
    "toString(toUnixTimestamp64Micro({0}))",
)
_TEXTS = Encoding(
    "Array(String)",
    _ARRAY,
    "(select count(*) || ':' || coalesce(string_agg(octet_length(coalesce(item, '')) || ':' || "
    "coalesce(item, ''), '' "
    "order by place), '') from unnest({0}) with ordinality as a (item, place))",
    "concat(toString(length({0})), ':', arrayStringConcat(arrayMap(item -> concat(toString(length(item)), "
    "':', item), {0})))",
    variable_length=True,
)
_DOUBLE = Encoding(
    "Float64",
    "{0}",
    "encode(float8send({0}), 'hex')",
    "lower(leftPad(hex(reinterpretAsUInt64({0})), 16, '0'))",
)

_BY_TYPE: dict[str, Encoding] = {
    "uuid": _UUID,
    "smallint": _plain("Int16"),
    "integer": _plain("Int32"),
    "bigint": _plain("Int64"),
    "boolean": _BOOLEAN,
    "date": _DATE,
    "timestamp with time zone": _MOMENT,
    "double precision": _DOUBLE,
    "text": _TEXT,
    "json": _TEXT,
    "jsonb": _TEXT,
    "inet": _TEXT,
    "bytea": _BYTES,
    "text[]": _TEXTS,
    "character varying[]": _TEXTS,
}
_PATTERNS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], Encoding]], ...] = (
    (re.compile(r"numeric\((\d+),(\d+)\)"), lambda m: _decimal(int(m[1]), int(m[2]))),
    (re.compile(r"character varying(\(\d+\))?"), lambda _: _TEXT),
    (re.compile(r"character\(\d+\)"), lambda _: _PADDED_TEXT),
    (re.compile(r"character varying\(\d+\)\[\]"), lambda _: _TEXTS),
)


def _decimal(precision: int, scale: int) -> Encoding:
    return Encoding(
        f"Decimal({precision}, {scale})", "{0}", "({0})::text", f"toDecimalString({{0}}, {scale})"
    )


def encoding_of(postgres_type: str, *, is_enum: bool) -> Encoding | None:
    """Of a type as format_type() prints it; None where there is no exact counterpart."""
    if is_enum:
        return _TEXT
    if found := _BY_TYPE.get(postgres_type):
        return found
    for pattern, build in _PATTERNS:
        if matched := pattern.fullmatch(postgres_type):
            return build(matched)
    return None


def local_date(moment: str, zone: str) -> str:
    """PostgreSQL's date of a moment in a zone; null stays null."""
    return f"(({_CLAMPED_MOMENT.format(moment)}) at time zone {zone})::date"


LOCAL_DATE = Encoding("Date32", "{0}", "({0})::text", "toString({0})")


def base_type(clickhouse_type: str) -> tuple[str, bool]:
    """A ClickHouse type without LowCardinality and Nullable, and whether it was Nullable."""
    nullable = False
    while matched := re.fullmatch(r"(LowCardinality|Nullable)\((.*)\)", clickhouse_type):
        nullable |= matched[1] == "Nullable"
        clickhouse_type = matched[2]
    return clickhouse_type, nullable
