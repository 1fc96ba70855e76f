"""Columns of a table as an archive holds them: exact types of Arrow where there are any, else the text that
PostgreSQL prints.

Exact is what comes back the same: whole numbers, floats, booleans, strings, numeric with a precision of at
most 38 and a scale within it, and date, timestamp and timestamptz in microseconds. Arrow has no infinity, no
NaN of decimals and no years before 1 or behind 9999: a column of this partition that holds such a value is
text, which `measure` (digest.py) finds out by reading. All else is text: jsonb, uuid, inet, arrays, ranges,
enums, domains, intervals, bytea, numeric without a scale.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from psycopg import sql

from bilten_orchestration.partitions.archives import Column
from bilten_orchestration.stores.postgres import Connection

if TYPE_CHECKING:
    import pyarrow as pa

TEXT = "string"
_EXACT = {
    "boolean": "bool",
    "smallint": "int16",
    "integer": "int32",
    "bigint": "int64",
    "real": "float",
    "double precision": "double",
    "text": TEXT,
    "date": "date32[day]",
    "timestamp without time zone": "timestamp[us]",
    "timestamp with time zone": "timestamp[us, tz=UTC]",
}
_STRING = re.compile(r"(character varying|character)(\(\d+\))?")
_NUMERIC = re.compile(r"numeric\((\d+),(-?\d+)\)")
_DECIMAL = re.compile(r"decimal128\((\d+), (\d+)\)")
_DECIMAL_DIGITS = 38
_FINITE = "isfinite({0}) and {0} >= '0001-01-01' and {0} < '10000-01-01'"

_COLUMNS = """
    select attname, format_type(atttypid, atttypmod), attgenerated <> ''
    from pg_attribute where attrelid = %s::regclass and attnum > 0 and not attisdropped order by attnum
"""


def read(connection: Connection, relation: str) -> tuple[Column, ...]:
    """In their order in the table. `relation` as regclass writes it."""
    return tuple(
        column(name, type_, generated=generated)
        for name, type_, generated in connection.execute(_COLUMNS, (relation,)).fetchall()
    )


def column(name: str, type_: str, *, generated: bool = False) -> Column:
    """By the type alone, as format_type writes it."""
    exact = _EXACT.get(type_)
    if exact is None and _STRING.fullmatch(type_):
        exact = TEXT
    if exact is None and (match := _NUMERIC.fullmatch(type_)):
        precision, scale = int(match[1]), int(match[2])
        if precision <= _DECIMAL_DIGITS and 0 <= scale <= precision:
            exact = f"decimal128({precision}, {scale})"
    return Column(name, type_, exact or TEXT, as_text=exact is None, generated=generated)


def doubtful(found: Column) -> str | None:
    """A condition, on the column in braces, that every value meets which Arrow has; None where all do."""
    if found.arrow.startswith(("date32", "timestamp")):
        return _FINITE
    return "{0} <> 'NaN'" if found.arrow.startswith("decimal") else None


def with_text(columns: Sequence[Column], as_text: Collection[str]) -> tuple[Column, ...]:
    """The same, those that are named as text."""
    return tuple(
        Column(each.name, each.type, TEXT, as_text=True, generated=each.generated)
        if each.name in as_text
        else each
        for each in columns
    )


def names(columns: Sequence[Column]) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(each.name) for each in columns)


def schema(columns: Sequence[Column]) -> pa.Schema:
    """Of the Parquet files."""
    import pyarrow as pa

    return pa.schema([pa.field(each.name, arrow_type(each.arrow)) for each in columns])


def arrow_type(written: str) -> Any:
    """What pyarrow wrote with `str`. Raises ValueError for what no archive holds."""
    import pyarrow as pa

    if match := _DECIMAL.fullmatch(written):
        return pa.decimal128(int(match[1]), int(match[2]))
    types = (
        pa.bool_(),
        pa.int16(),
        pa.int32(),
        pa.int64(),
        pa.float32(),
        pa.float64(),
        pa.string(),
        pa.date32(),
        pa.timestamp("us"),
        pa.timestamp("us", tz="UTC"),
    )
    for each in types:
        if str(each) == written:
            return each
    raise ValueError(f"no type of an archive: {written}")
