"""compress=1 and decompress=1, as JDBC and Go drivers send them."""

from __future__ import annotations

import contextlib
import http.client
import random
import struct
from collections.abc import Iterator

import lz4.block
import psutil
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bilten_orchestration.local.clickhouse.process import EndpointProcess
from tests.integration.local.clickhouse.conftest import ANALYST, ETL, Http
from tests.integration.local.clickhouse.frames import (
    KNOWN,
    LZ4,
    NONE,
    ZSTD,
    driver_read,
    driver_written,
    frame,
)
from tests.integration.local.clickhouse.test_http import basic

MIB = 1 << 20


def framed(method: int, data: bytes) -> bytes:
    match method:
        case 0x82:
            return driver_written(data)
        case 0x90:
            return frame(ZSTD, zstandard.compress(data), len(data))
        case _:
            return frame(NONE, data, len(data))


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        "SELECT number, toString(number) FROM system.numbers LIMIT 300000 FORMAT RowBinary",
        "SELECT * FROM marts.m FORMAT Parquet",
        "SELECT * FROM marts.m FORMAT JSON SETTINGS output_format_json_quote_64bit_integers = 1",
        "SELECT 1 WHERE 0",
        "EXISTS TABLE marts.m",
        "DESCRIBE (SELECT a, b FROM marts.m) FORMAT TSKV",
    ],
)
@pytest.mark.parametrize("wait_end", [0, 1])
@pytest.mark.parametrize("user", [ETL, ANALYST])
def test_an_answer_in_frames_is_the_answer(
    endpoint: EndpointProcess, sql: str, wait_end: int, user: tuple[str, str]
) -> None:
    client = Http(endpoint, user)
    plain = client.send(sql)
    reply = client.send(sql, compress=1, wait_end_of_query=wait_end)
    assert (plain.status, reply.status) == (200, 200), reply.body
    assert reply.headers["Content-Type"] == plain.headers["Content-Type"]
    got = driver_read(reply.body)
    if "FORMAT JSON " in sql:  # tells how long it took
        got, plain.body = (body[: body.index(b'"statistics"')] for body in (got, plain.body))
    assert got == plain.body


def test_frames_win_over_an_encoding(http_client: Http) -> None:
    for parameters in ({}, {"enable_http_compression": 1}):
        reply = http_client.send(
            "SELECT 1", headers=basic(*ETL) | {"Accept-Encoding": "zstd, gzip"}, compress=1, **parameters
        )
        assert "Content-Encoding" not in reply.headers
        assert driver_read(reply.body) == b"1\n"


@pytest.mark.parametrize("method", [NONE, LZ4, ZSTD])
def test_bodies_in_frames_are_statements_and_data(http_client: Http, method: int) -> None:
    http_client.run("CREATE OR REPLACE TABLE scratch.f (a UInt64, b String) ENGINE = MergeTree ORDER BY a")
    assert (
        driver_read(http_client.send(framed(method, b"SELECT 42"), compress=1, decompress=1).body) == b"42\n"
    )

    rows = "".join(f"{n},row {n}\n" for n in range(50_000)).encode()
    whole = b"INSERT INTO scratch.f FORMAT CSV\n" + rows
    body = b"".join(framed(method, whole[start : start + 70_000]) for start in range(0, len(whole), 70_000))
    reply = http_client.send(body, decompress=1, compress=1)
    assert (reply.status, reply.body) == (200, b"")
    reply = http_client.send(framed(method, rows), query="INSERT INTO scratch.f FORMAT CSV", decompress=1)
    assert reply.status == 200, reply.text
    assert http_client.run("SELECT count(), uniqExact(a, b) FROM scratch.f") == "100000\t50000"


def test_frames_inside_of_an_encoding(http_client: Http) -> None:
    body = zstandard.compress(driver_written(b"SELECT 7"))
    reply = http_client.send(body, headers=basic(*ETL) | {"Content-Encoding": "zstd"}, decompress=1)
    assert reply.text == "7\n"


def test_a_form_comes_as_it_is(http_client: Http) -> None:
    """JDBC sends long parameters in one, and does not pack it."""
    body = b'--edge\r\nContent-Disposition: form-data; name="query"\r\n\r\nSELECT 8\r\n--edge--\r\n'
    headers = basic(*ETL) | {"Content-Type": "multipart/form-data; boundary=edge"}
    reply = http_client.send(body, headers=headers, decompress=1, compress=1)
    assert driver_read(reply.body) == b"8\n"


@pytest.mark.parametrize(
    ("sql", "status", "code"),
    [
        ("SELECT 1 1", 400, 62),
        ("SELECT * FROM marts.none", 404, 60),
        ("SELECT * FROM bilten_raw.t", 403, 497),
    ],
)
def test_an_error_is_in_a_frame_that_shows_it(analyst: Http, sql: str, status: int, code: int) -> None:
    plain, reply = analyst.send(sql), analyst.send(sql, compress=1)
    assert (reply.status, reply.code) == (status, code)
    assert driver_read(reply.body) == plain.body
    # JDBC does not unpack a 403, and looks for the code in what it reads
    assert plain.body in reply.body


def test_a_wrong_password_is_told_without_frames(http_client: Http) -> None:
    """As a server: it does not know yet what the client reads."""
    reply = http_client.send("SELECT 1", headers=basic("bilten_etl", "wrong"), compress=1)
    assert reply.status == 403
    assert reply.text.startswith("Code: 516.")


def test_an_error_in_mid_stream_is_in_a_frame_and_the_answer_is_cut(http_client: Http) -> None:
    """As a server's: rows in whole frames, the exception block in frames, then no end of the answer."""
    with contextlib.closing(http_client.connect()) as connection:
        connection.request(
            "POST",
            http_client.url(compress=1),
            b"SELECT number, throwIf(number = 3000000, 'planted') FROM system.numbers LIMIT 4000000"
            b" FORMAT RowBinary",
            basic(*ETL),
        )
        response = connection.getresponse()
        assert response.status == 200
        with pytest.raises(http.client.IncompleteRead) as raised:
            response.read()
    data = driver_read(raised.value.partial)
    rows, _, block = data.partition(b"\r\n__exception__\r\n")
    assert rows[:9] == bytes(9) and len(rows) > 9 * 100_000
    assert b"planted" in block and b"Code: 395" in block
    assert response.headers["X-ClickHouse-Exception-Tag"].encode() in block


def pieces(response: http.client.HTTPResponse) -> Iterator[int]:
    """Sizes of the blocks as they come, each frame whole."""
    while head := response.read(25):
        method, packed, size = struct.unpack_from("<BII", head, 16)
        assert method == LZ4 and size <= MIB
        assert len(lz4.block.decompress(response.read(packed - 9), uncompressed_size=size)) == size
        yield size


def test_500_mebibytes_are_streamed_in_frames_both_ways_without_growing(endpoint: EndpointProcess) -> None:
    """Against 100 MiB; the engine is asked to insert in small blocks, for it gathers 256 MiB by itself.

    What held the answer or the body would hold 400 MiB more; the engine itself varies by 100.
    """
    client = Http(endpoint)
    process = psutil.Process(endpoint.process.pid)
    client.run("CREATE OR REPLACE TABLE scratch.nothing (s FixedString(256)) ENGINE = Null")
    block = driver_written(random.Random(5).randbytes(MIB))

    def both(mebibytes: int) -> int:
        highest = 0
        with contextlib.closing(client.connect()) as connection:
            rows = mebibytes * MIB // 256
            sql = f"SELECT randomFixedString(256) FROM system.numbers LIMIT {rows} FORMAT RowBinary"
            connection.request("POST", client.url(compress=1, max_threads=1), sql.encode(), basic(*ETL))
            size = 0
            for block_size in pieces(connection.getresponse()):
                size += block_size
                highest = max(highest, process.memory_info().rss)
            assert size == mebibytes * MIB

            def body() -> Iterator[bytes]:
                nonlocal highest
                for _ in range(mebibytes):
                    highest = max(highest, process.memory_info().rss)
                    yield block

            url = client.url(
                query="INSERT INTO scratch.nothing FORMAT RowBinary",
                decompress=1,
                max_insert_block_size=4096,
                min_insert_block_size_rows=4096,
                min_insert_block_size_bytes=MIB,
            )
            connection.request("POST", url, body(), basic(*ETL))
            response = connection.getresponse()
            assert (response.status, response.read()) == (200, b"")
        return highest

    warm = both(100)
    assert both(500) - warm < 200 * MIB


@pytest.fixture(scope="module")
def broken_target(endpoint: EndpointProcess) -> Http:
    client = Http(endpoint)
    client.run("CREATE OR REPLACE TABLE scratch.broken (a String) ENGINE = MergeTree ORDER BY a")
    return client


INSERT = b"INSERT INTO scratch.broken FORMAT RowBinary\n" + b"\x03abc" * 50
WHOLE = driver_written(INSERT[:100]) + framed(ZSTD, INSERT[100:])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, len(WHOLE)), st.integers(0, len(WHOLE)), st.binary(max_size=30))
def test_a_broken_body_is_refused_and_stores_nothing(
    broken_target: Http, begin: int, end: int, instead: bytes
) -> None:
    body = WHOLE[:begin] + instead + WHOLE[end:]
    reply = broken_target.send(body, decompress=1)
    if reply.status == 200:  # frames may be left out or doubled whole
        assert driver_read(body.replace(framed(ZSTD, INSERT[100:]), b"")) in (b"", INSERT[:100])
        broken_target.run("TRUNCATE TABLE scratch.broken")
    else:
        # an empty or cut statement is the parser's
        assert reply.code in KNOWN | {33, 62}, reply.text
    assert broken_target.run("SELECT count() FROM scratch.broken") == "0"
