"""clickhouse-connect works against the endpoint as against a server."""

from __future__ import annotations

import datetime as dt
import threading
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError, StreamFailureError

from bilten_orchestration.local.clickhouse.process import EndpointProcess
from tests.integration.local.clickhouse.conftest import ETL


def connect(endpoint: EndpointProcess, **options: Any) -> Client:
    return clickhouse_connect.get_client(
        host=endpoint.config.host,
        port=endpoint.config.port,
        username=options.pop("username", ETL[0]),
        password=options.pop("password", ETL[1]),
        **options,
    )


@pytest.fixture
def client(endpoint: EndpointProcess) -> Iterator[Client]:
    client = connect(endpoint, database="scratch")
    yield client
    client.close()


def test_query_with_types_and_parameters(client: Client) -> None:
    result = client.query(
        "SELECT toUInt8(1) AS a, 'x''y' AS b, toDecimal64('12.345', 3) AS c, toDate('2026-01-02') AS d,"
        " [1, NULL] AS e, {name:String} AS f, {days:Array(Date)} AS g, toDateTime64('2026-01-02 03:04:05.6', 3, 'UTC') AS h",  # noqa: E501
        parameters={"name": "tab\there\\n'quote'", "days": [dt.date(2026, 1, 2)]},
    )
    assert result.column_names == ("a", "b", "c", "d", "e", "f", "g", "h")
    row = result.first_row
    assert row[:7] == (
        1, "x'y", Decimal("12.345"), dt.date(2026, 1, 2), [1, None], "tab\there\\n'quote'", [dt.date(2026, 1, 2)],  # noqa: E501
    )  # fmt: skip
    assert client.query("SELECT %(x)s + 1", parameters={"x": 41}).first_row == (42,)


def test_insert_and_frames(client: Client) -> None:
    import pandas

    client.command(
        "CREATE OR REPLACE TABLE f (a UInt32, b String, c Nullable(Float64)) ENGINE = MergeTree ORDER BY a"
    )
    summary = client.insert("f", [[1, "x", None], [2, "y", 2.5]], column_names=["a", "b", "c"])
    assert summary.written_rows == 2
    client.insert_df("f", pandas.DataFrame({"a": [3], "b": ["z"], "c": [1.5]}))
    frame = client.query_df("SELECT a, b, c FROM f ORDER BY a")
    assert frame["a"].tolist() == [1, 2, 3]
    assert frame["b"].tolist() == ["x", "y", "z"]
    assert client.query_arrow("SELECT a FROM f ORDER BY a").column("a").to_pylist() == [1, 2, 3]
    client.insert_arrow("f", client.query_arrow("SELECT a + 10 AS a, b, c FROM f"))
    assert client.command("SELECT count() FROM f") == 6


@pytest.mark.parametrize("codec", ["lz4", "zstd", "gzip", False, True])
def test_compression_both_ways(endpoint: EndpointProcess, codec: Any) -> None:
    client = connect(endpoint, database="scratch", compress=codec)
    client.command("CREATE OR REPLACE TABLE z (a UInt64, b String) ENGINE = MergeTree ORDER BY a")
    rows = [[i, f"value {i}" * 5] for i in range(20_000)]
    client.insert("z", rows, column_names=["a", "b"])
    assert client.query("SELECT * FROM z ORDER BY a").result_rows == [tuple(row) for row in rows]


@pytest.mark.parametrize("codec", ["lz4", "zstd", "gzip", False])
def test_an_insert_of_many_blocks_is_stored_whole(endpoint: EndpointProcess, codec: Any) -> None:
    """The driver compresses block by block: with lz4 and zstd the body is one frame after the other."""
    import pandas

    client = connect(endpoint, database="scratch", compress=codec)
    client.command("CREATE OR REPLACE TABLE many (a UInt64, b String) ENGINE = MergeTree ORDER BY a")
    rows = 300_001
    numbers = list(range(rows))
    client.insert_df("many", pandas.DataFrame({"a": numbers, "b": [f"value {n}" for n in numbers]}))
    assert client.query("SELECT count(), sum(a) FROM many").first_row == (rows, sum(numbers))


def test_streams_of_blocks_rows_and_frames(client: Client) -> None:
    with client.query_row_block_stream("SELECT number FROM numbers(1000000)") as stream:
        blocks = [len(block) for block in stream]
    assert sum(blocks) == 1_000_000
    assert len(blocks) > 1
    with client.query_df_stream("SELECT number AS n FROM numbers(500000)") as frames:
        assert sum(frame["n"].sum() for frame in frames) == 500_000 * 499_999 // 2


def test_raw_query_and_raw_insert(client: Client) -> None:
    assert client.raw_query("SELECT 1 AS a FORMAT JSONEachRow") == b'{"a":1}\n'
    assert client.raw_query("SELECT 1 AS a", fmt="CSVWithNames") == b'"a"\n1\n'
    client.command("CREATE OR REPLACE TABLE r (a UInt8, b String) ENGINE = MergeTree ORDER BY a")
    client.raw_insert("r", ["a", "b"], "1,x\n2,y\n", fmt="CSV")
    client.raw_insert("r", None, iter([b'{"a":3,"b":"z"}\n', b'{"a":4,"b":"w"}\n']), fmt="JSONEachRow")
    assert client.query("SELECT a, b FROM r ORDER BY a").result_rows == [
        (1, "x"),
        (2, "y"),
        (3, "z"),
        (4, "w"),
    ]


def test_commands(client: Client) -> None:
    assert client.command("SELECT 5") == 5
    assert client.command("SHOW TABLES FROM bilten_raw") == "t"
    assert client.command("EXISTS TABLE bilten_raw.t") == 1
    client.command("CREATE OR REPLACE TABLE c (a UInt8) ENGINE = MergeTree ORDER BY a")
    client.command("INSERT INTO c VALUES (1), (2)")
    client.command("INSERT INTO c SELECT 3")
    client.command("ALTER TABLE c DELETE WHERE a = 2 SETTINGS mutations_sync = 1")
    assert client.query("SELECT a FROM c ORDER BY a").result_columns == [[1, 3]]


def test_errors_carry_the_code(client: Client) -> None:
    for sql, code in (
        ("SELECT * FROM nosuch", 60),
        ("SELEC 1", 62),
        ("SELECT nosuch", 47),
        ("SELECT throwIf(1)", 395),
    ):
        with pytest.raises(DatabaseError, match=rf"code: {code}\b"):
            client.query(sql)


def test_a_syntax_error_shows_the_clients_own_text(client: Client) -> None:
    with pytest.raises(DatabaseError) as raised:
        client.query("SELECT 1 FROM WHERE GROUP")
    assert "OUTFILE" not in str(raised.value)
    assert "/proc" not in str(raised.value)


def test_an_exception_in_mid_stream_is_an_error(client: Client) -> None:
    """Megabytes were sent with status 200 when it happens; a short result must not pass for a whole one."""
    sql = "SELECT throwIf(number = 3000000), number FROM numbers(4000000) SETTINGS max_threads = 1"
    with (
        pytest.raises((StreamFailureError, ClickHouseError), match=r"395|throwIf"),
        client.query_row_block_stream(sql) as stream,
    ):
        for _ in stream:
            pass


def test_settings_are_per_query(endpoint: EndpointProcess) -> None:
    for options in ({"autogenerate_session_id": False}, {"autogenerate_session_id": True}):
        client = connect(endpoint, **options)
        before = client.command("SELECT getSetting('max_threads')")
        assert client.command("SELECT getSetting('max_threads')", settings={"max_threads": 1}) == 1
        comment = "a&b=c %'\\\n?x"
        assert client.query(
            "SELECT getSetting('log_comment')", settings={"log_comment": comment}
        ).first_row == (comment,)
        assert client.command("SELECT getSetting('max_threads')") == before
        assert client.command("SELECT getSetting('log_comment')") == ""


def test_sessions_keep_temporary_tables_and_set(endpoint: EndpointProcess) -> None:
    client = connect(endpoint, session_id="keeps")
    client.command("CREATE TEMPORARY TABLE tt (a UInt8)")
    client.insert("tt", [[1], [2]], column_names=["a"], column_type_names=["UInt8"])
    client.command("SET max_block_size = 1234")
    client.command("USE scratch")
    assert client.query("SELECT sum(a) FROM tt", settings={"max_block_size": 99}).first_row == (3,)
    assert client.command("SELECT getSetting('max_block_size')") == 1234
    assert client.command("SELECT currentDatabase()") == "scratch"
    other = connect(endpoint, session_id="other")
    with pytest.raises(DatabaseError, match=r"code: 60\b"):
        other.query("SELECT * FROM tt")


def test_a_busy_session_is_locked(endpoint: EndpointProcess) -> None:
    connect(endpoint, session_id="busy")
    outcomes: list[str] = []
    first = connect(endpoint, session_id="busy")
    ready = threading.Event()

    def long() -> None:
        ready.set()
        first.query("SELECT sleepEachRow(1) FROM numbers(2) SETTINGS max_block_size = 1")
        outcomes.append("done")

    thread = threading.Thread(target=long)
    thread.start()
    ready.wait()
    second = connect(endpoint, autogenerate_session_id=False)
    running = "SELECT count() FROM system.processes WHERE query LIKE '%sleepEachRow(1) FROM numbers(2)%' AND query NOT LIKE '%processes%'"  # noqa: E501
    while second.command(running) == 0:
        assert thread.is_alive()
    with pytest.raises(DatabaseError, match=r"code: 373\b"):
        second.query("SELECT 1", settings={"session_id": "busy"})
    thread.join()
    assert outcomes == ["done"]


def test_query_ids_reach_the_query_log(client: Client) -> None:
    client.query("SELECT 12345", settings={"query_id": "my-own-id", "log_comment": "nightly"})
    client.command("SYSTEM FLUSH LOGS")
    row = client.query(
        "SELECT query_id, user, query, log_comment, type, read_rows FROM system.query_log"
        " WHERE query_id = 'my-own-id' AND type = 'QueryFinish'"
    ).result_rows
    assert row == [("my-own-id", ETL[0], "SELECT 12345\n FORMAT Native", "nightly", "QueryFinish", 1)]


def test_summary_holds_real_numbers(client: Client) -> None:
    result = client.query("SELECT sum(number) FROM numbers(100000)")
    assert int(result.summary["read_rows"]) == 100_000
    assert int(result.summary["read_bytes"]) == 800_000
    assert int(result.summary["result_rows"]) == 1
    assert int(result.summary["elapsed_ns"]) > 0


def test_external_data_is_refused_by_name(client: Client) -> None:
    from clickhouse_connect.driver.external import ExternalData

    data = ExternalData(
        file_name="people.csv", data=b"1,ann\n", fmt="CSV", structure=["id UInt32", "name String"]
    )
    with pytest.raises(DatabaseError, match="External tables.*temporary table"):  # noqa: RUF043
        client.query("SELECT name FROM people", external_data=data)


def test_long_parameters_travel_in_a_form(client: Client) -> None:
    ids = [str(uuid.uuid4()) for _ in range(1_000)]
    counted = client.query(
        "select count() from numbers(10) where toString(number) not in {ids:Array(String)}",
        parameters={"ids": ids},
    )
    assert counted.result_rows == [(10,)]


def test_a_field_longer_than_a_server_takes_is_refused(client: Client) -> None:
    ids = [str(uuid.uuid4()) for _ in range(4_000)]
    with pytest.raises(DatabaseError, match="131072 bytes"):
        client.query("select {ids:Array(String)}", parameters={"ids": ids})
