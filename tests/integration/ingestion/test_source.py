"""Reading the output of COPY in chunks."""

from __future__ import annotations

import logging
from contextlib import closing

import psycopg
import pytest
from psycopg import sql

from bilten_orchestration.ingestion.source import CHUNK_BYTES, chunks, open_snapshot
from bilten_orchestration.settings import Settings

LONG = "copy (select n, repeat('x', 100) from generate_series(1, 30000) n) to stdout"


def _copy(text: str) -> sql.Composed:
    return sql.Composed([sql.SQL(text)])


def test_chunks_hold_every_byte_in_order_and_the_connection_goes_on(settings: Settings) -> None:
    with open_snapshot(settings) as (connection, _):
        with connection.cursor().copy(LONG) as copy:
            whole = b"".join(copy)
        found = list(chunks(connection, _copy(LONG), 7_000))
        assert [rows for rows, _ in found] == [7_000, 7_000, 7_000, 7_000, 2_000]
        assert b"".join(body for _, body in found) == whole
        assert list(chunks(connection, _copy("copy (select 1 where false) to stdout"), 10)) == []
        assert connection.execute("select 1").fetchone() == (1,)


def test_long_rows_end_a_chunk_by_their_bytes(settings: Settings) -> None:
    rows_of_a_mebibyte = "copy (select repeat('x', 1 << 20) from generate_series(1, 40)) to stdout"
    with open_snapshot(settings) as (connection, _):
        sizes = [len(body) for _, body in chunks(connection, _copy(rows_of_a_mebibyte), 1_000)]
    assert len(sizes) == 2
    assert CHUNK_BYTES <= sizes[0] < CHUNK_BYTES + (2 << 20)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "copy (select 1 / (n - 20000) from generate_series(1, 30000) n) to stdout",
            psycopg.errors.DivisionByZero,
        ),
        ("copy nothing_of_that_name to stdout", psycopg.errors.UndefinedTable),
        ("select 1", psycopg.OperationalError),
    ],
)
def test_an_error_of_the_server_is_raised_as_itself(
    settings: Settings, text: str, error: type[Exception]
) -> None:
    with pytest.raises(error), open_snapshot(settings) as (connection, _):
        list(chunks(connection, _copy(text), 1_000))


def test_who_stops_reading_gets_their_own_error_and_nothing_else(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="psycopg")
    with pytest.raises(ZeroDivisionError):
        _stop_after_one_chunk(settings)
    assert not [record for record in caplog.records if record.name.startswith("psycopg")]


def _stop_after_one_chunk(settings: Settings) -> None:
    with open_snapshot(settings) as (connection, _), closing(chunks(connection, _copy(LONG), 100)) as parts:
        next(parts)
        raise ZeroDivisionError
