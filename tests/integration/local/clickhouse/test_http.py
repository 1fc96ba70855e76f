"""The protocol itself, as a BI tool's HTTP driver speaks it."""

from __future__ import annotations

import base64
import gzip
import http.client
import json
import re
import time

import lz4.frame
import pytest
import zstandard

from tests.integration.local.clickhouse.conftest import ANALYST, ETL, Http


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def test_a_password_of_any_bytes_is_a_wrong_password(http_client: Http) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", http_client.endpoint.config.port, timeout=30)
    connection.request("GET", "/?query=SELECT+1&user=bilten_etl&password=%FF%FE")
    assert connection.getresponse().status == 403
    connection.close()


def test_ping_needs_no_password(http_client: Http) -> None:
    for path in ("/ping", "/"):
        reply = http_client.send(method="GET", path=path, headers={})
        assert (reply.status, reply.text) == (200, "Ok.\n")
    assert http_client.send(method="GET", path="/nosuch", headers={}).status == 404


@pytest.mark.parametrize(
    ("headers", "parameters", "status", "code"),
    [
        ({"X-ClickHouse-User": ETL[0], "X-ClickHouse-Key": ETL[1]}, {}, 200, 0),
        (basic(*ETL), {}, 200, 0),
        ({}, {"user": ETL[0], "password": ETL[1]}, 200, 0),
        ({}, {}, 401, 194),
        ({}, {"user": ETL[0]}, 401, 194),
        ({}, {"user": ETL[0], "password": "wrong"}, 403, 516),
        ({}, {"user": "nobody", "password": ETL[1]}, 403, 516),
        (basic(ETL[0], ANALYST[1]), {}, 403, 516),
        ({"Authorization": "Basic !!!"}, {}, 403, 516),
        (basic(*ETL), {"user": ETL[0], "password": ETL[1]}, 403, 516),
    ],
)
def test_authentication(
    http_client: Http, headers: dict[str, str], parameters: dict[str, str], status: int, code: int
) -> None:
    reply = http_client.send("SELECT 1", headers=headers, **parameters)
    assert (reply.status, reply.code) == (status, code)
    if status == 401:
        assert reply.headers["WWW-Authenticate"].startswith("Basic")
    if status == 403:
        assert "wrong" not in reply.text


def test_the_query_may_stand_in_the_url_the_body_or_both(http_client: Http) -> None:
    assert http_client.send(method="GET", query="SELECT 1").text == "1\n"
    assert http_client.send("SELECT 2").text == "2\n"
    assert http_client.send("+ 1", query="SELECT 3").text == "4\n"
    assert http_client.send(b"1\n2\n", query="INSERT INTO FUNCTION null('a Int') FORMAT TSV").status == 200


def test_get_changes_nothing(http_client: Http) -> None:
    for sql in (
        "CREATE TABLE scratch.g (a Int) ENGINE = Memory",
        "INSERT INTO scratch.g VALUES (1)",
        "SYSTEM FLUSH LOGS",
        "KILL QUERY WHERE query_id = 'nobody'",
    ):
        assert http_client.send(method="GET", query=sql).code == 164
        assert http_client.send(sql, readonly=1).code == 164
        assert http_client.send(method="HEAD", query=sql).status != 200
    assert http_client.run("EXISTS TABLE scratch.g") == "0"


@pytest.mark.parametrize(
    ("sql", "content_type", "body"),
    [
        ("SELECT 1 AS a", "text/tab-separated-values; charset=UTF-8", b"1\n"),
        (
            "SELECT 1 AS a FORMAT TSVWithNamesAndTypes",
            "text/tab-separated-values; charset=UTF-8",
            b"a\nUInt8\n1\n",
        ),
        ("SELECT 1 AS a FORMAT CSVWithNames", "text/csv; charset=UTF-8; header=present", b'"a"\n1\n'),
        ("SELECT 1 AS a FORMAT JSONEachRow", "application/x-ndjson; charset=UTF-8", b'{"a":1}\n'),
        (
            "SELECT 1 AS a FORMAT RowBinaryWithNamesAndTypes",
            "application/octet-stream",
            b"\x01\x01a\x05UInt8\x01",
        ),
        ("SELECT 1 AS a FORMAT Native", "application/octet-stream", b"\x01\x01\x01a\x05UInt8\x01"),
        ("SELECT 1 AS a FORMAT Null", "text/plain; charset=UTF-8", b""),
    ],
)
def test_formats(http_client: Http, sql: str, content_type: str, body: bytes) -> None:
    reply = http_client.send(sql)
    assert reply.body == body
    assert reply.headers["Content-Type"] == content_type
    assert reply.headers["X-ClickHouse-Format"] == (
        sql.split("FORMAT ")[1] if "FORMAT" in sql else "TabSeparated"
    )


@pytest.mark.parametrize(
    "output_format", ["JSON", "JSONCompact", "Arrow", "ArrowStream", "Parquet", "XML", "PrettyCompact"]
)
def test_formats_with_head_and_foot_are_whole_when_streamed(http_client: Http, output_format: str) -> None:
    """Many blocks, one header and one footer."""
    body = http_client.send(
        f"SELECT number, toString(number) AS s FROM numbers(300000) FORMAT {output_format}"
    ).body
    if output_format.startswith("JSON"):
        document = json.loads(body)
        assert len(document["data"]) == document["rows"] == 300_000
    elif output_format.startswith("Arrow"):
        import pyarrow

        reader = (
            pyarrow.ipc.open_stream(body) if output_format == "ArrowStream" else pyarrow.ipc.open_file(body)
        )
        assert reader.read_all().num_rows == 300_000
    elif output_format == "Parquet":
        import pyarrow.parquet

        assert pyarrow.parquet.read_table(pyarrow.BufferReader(body)).num_rows == 300_000
    elif output_format == "XML":
        assert body.count(b"<result>") == body.count(b"</result>") == 1
    else:
        assert b"\x1b[" not in body  # no colours: nobody is a terminal


def test_default_format_and_its_header(http_client: Http) -> None:
    assert http_client.run("SELECT 1 AS a", default_format="JSONEachRow") == '{"a":1}'
    reply = http_client.send(
        "SELECT 1 AS a",
        headers={"X-ClickHouse-User": ETL[0], "X-ClickHouse-Key": ETL[1], "X-ClickHouse-Format": "CSV"},
    )
    assert reply.headers["X-ClickHouse-Format"] == "CSV"
    assert http_client.run("SELECT 'FORMAT x' AS f FORMAT CSV SETTINGS max_threads = 1") == '"FORMAT x"'


def test_headers_of_an_answer(http_client: Http) -> None:
    reply = http_client.send("SELECT sum(number) FROM numbers(1000)", query_id="header-test")
    assert reply.headers["X-ClickHouse-Query-Id"] == "header-test"
    assert reply.headers["X-ClickHouse-Timezone"]
    assert reply.headers["X-ClickHouse-Server-Display-Name"] == "bilten"
    assert re.fullmatch("[a-z]{16}", reply.headers["X-ClickHouse-Exception-Tag"])
    summary = json.loads(reply.headers["X-ClickHouse-Summary"])
    assert (summary["read_rows"], summary["read_bytes"], summary["result_rows"]) == ("1000", "8000", "1")
    generated = http_client.send("SELECT 1").headers["X-ClickHouse-Query-Id"]
    assert re.fullmatch(r"[0-9a-f-]{36}", generated)


def test_written_rows_of_an_insert_select(http_client: Http) -> None:
    http_client.run("CREATE OR REPLACE TABLE scratch.w (a UInt64) ENGINE = MergeTree ORDER BY a")
    reply = http_client.send("INSERT INTO scratch.w SELECT number FROM numbers(500)")
    summary = json.loads(reply.headers["X-ClickHouse-Summary"])
    assert summary["written_rows"] == "500"
    assert http_client.run("SELECT count() FROM scratch.w") == "500"


@pytest.mark.parametrize(
    ("sql", "status", "code"),
    [
        ("SELECT * FROM nosuch", 404, 60),
        ("SELECT * FROM nosuch.t", 404, 81),
        ("SELECT nosuch", 404, 47),
        ("SELECT nosuch(1)", 404, 46),
        ("SELEC 1", 400, 62),
        ("", 400, 62),
        ("-- nothing", 400, 62),
        ("SELECT 1; SELECT 2", 400, 62),
        ("SELECT 1 INTO OUTFILE '/tmp/x'", 500, 358),
        ("SELECT throwIf(1)", 500, 395),
        ("SELECT toUInt8('x')", 400, 6),
        ("INSERT INTO nosuch VALUES (1)", 404, 60),
        ("INSERT INTO marts.m FORMAT CSV\nfoo,bar\n", 400, 27),
    ],
)
def test_errors_have_the_servers_status_and_code(http_client: Http, sql: str, status: int, code: int) -> None:
    reply = http_client.send(sql)
    assert (reply.status, reply.code) == (status, code), reply.text
    assert reply.text.startswith(f"Code: {code}. DB::Exception: ")


@pytest.mark.parametrize("session", [{}, {"session_id": "settings"}])
def test_unknown_and_wrong_settings_are_errors(http_client: Http, session: dict[str, str]) -> None:
    assert http_client.send("SELECT 1", nosuchsetting=1, **session).code == 115
    assert http_client.send("SELECT 1", max_threads="many", **session).code == 27
    assert http_client.send("SELECT 1", **{"config-file": "/nosuch"}, **session).code == 115
    assert http_client.run("SELECT getSetting('max_block_size')", max_block_size=77, **session) == "77"
    assert http_client.run("SELECT getSetting('max_block_size')", **session) != "77"


def test_parameters(http_client: Http) -> None:
    assert http_client.run("SELECT {a:UInt8} + 1, {b:String}, {c:Array(String)}, {d:Nullable(String)}", param_a=1,  # noqa: E501
                           param_b="it's\\t<tab>", param_c="['x','y']", param_d="\\N") == "2\tit\\'s\\t<tab>\t['x','y']\t\\N"  # fmt: skip  # noqa: E501
    assert http_client.send("SELECT {missing:UInt8}").code == 456
    http_client.run("CREATE OR REPLACE TABLE scratch.p (a UInt8) ENGINE = MergeTree ORDER BY a")
    http_client.run(
        "INSERT INTO {t:Identifier} SELECT {a:UInt8}",
        param_t="scratch.p".split(".")[1],  # noqa: SIM905
        param_a=7,
        database="scratch",
    )
    assert http_client.run("SELECT a FROM scratch.p") == "7"


@pytest.mark.parametrize("codec", ["gzip", "lz4", "zstd", "deflate"])
def test_compression(http_client: Http, codec: str) -> None:
    reply = http_client.send(
        "SELECT number FROM numbers(100000)", headers=basic(*ETL) | {"Accept-Encoding": codec}
    )
    assert reply.headers["Content-Encoding"] == codec
    plain = "".join(f"{n}\n" for n in range(100_000)).encode()
    assert len(reply.body) < len(plain)
    if codec == "gzip":
        assert gzip.decompress(reply.body) == plain
    elif codec == "lz4":
        assert lz4.frame.decompress(reply.body) == plain
    elif codec == "zstd":
        assert zstandard.ZstdDecompressor().decompressobj().decompress(reply.body) == plain
    off = http_client.send(
        "SELECT 1", headers=basic(*ETL) | {"Accept-Encoding": codec}, enable_http_compression=0
    )
    assert "Content-Encoding" not in off.headers


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [("gzip", gzip.compress), ("lz4", lz4.frame.compress), ("zstd", zstandard.ZstdCompressor().compress)],
)
def test_compressed_bodies(http_client: Http, encoding: str, pack: object) -> None:
    assert callable(pack)
    headers = basic(*ETL) | {"Content-Encoding": encoding}
    assert http_client.send(pack(b"SELECT 41 + 1"), headers=headers).text == "42\n"
    http_client.run("CREATE OR REPLACE TABLE scratch.b (a UInt64) ENGINE = MergeTree ORDER BY a")
    rows = "\n".join(str(n) for n in range(200_000)).encode()
    assert (
        http_client.send(pack(rows), headers=headers, query="INSERT INTO scratch.b FORMAT TSV").status == 200
    )
    assert http_client.run("SELECT count(), sum(a) FROM scratch.b") == f"200000\t{200_000 * 199_999 // 2}"
    assert http_client.send(b"not compressed at all", headers=headers).code != 0
    in_parts = pack(b"1\n") + pack(b"2\n" * 100_000)
    insert = "INSERT INTO scratch.b FORMAT TSV"
    cut = http_client.send(in_parts[:-2], headers=headers, query=insert)
    assert cut.code == 33
    assert http_client.run("SELECT count() FROM scratch.b") == "200000"
    assert http_client.send(in_parts, headers=headers, query=insert).status == 200
    assert http_client.run("SELECT count() FROM scratch.b") == "300001"


def test_unknown_encodings_are_refused_by_name(http_client: Http) -> None:
    reply = http_client.send(b"x", headers=basic(*ETL) | {"Content-Encoding": "br"})
    assert "br" in reply.text
    assert reply.code == 89


def test_insert_splits_statement_and_data(http_client: Http) -> None:
    http_client.run("CREATE OR REPLACE TABLE scratch.i (a UInt8, b String) ENGINE = MergeTree ORDER BY a")
    for body in (
        "INSERT INTO scratch.i FORMAT CSV\n1,one\n",
        "INSERT INTO scratch.i (a, b) FORMAT TSV 2\ttwo\n",
        "INSERT INTO scratch.i VALUES (3, 'three; -- FORMAT'), (4, concat('fo', 'ur'))",
        '/* why */ INSERT INTO scratch.i SETTINGS max_threads = 1 FORMAT JSONEachRow {"a":5,"b":"five"}',
        "insert into scratch.i(a, b) values (6,'six');",
    ):
        reply = http_client.send(body)
        assert reply.status == 200, reply.text
    http_client.send("(7, 'seven')", query="INSERT INTO scratch.i VALUES")
    http_client.send("8,eight\n", query="INSERT INTO scratch.i FORMAT CSV")
    answer = http_client.run("SELECT groupArray((a, b)) FROM (SELECT * FROM scratch.i ORDER BY a)")
    assert answer == (
        "[(1,'one'),(2,'two'),(3,'three; -- FORMAT'),(4,'four'),(5,'five'),(6,'six'),(7,'seven'),(8,'eight')]"
    )


def test_a_broken_insert_leaves_nothing(http_client: Http) -> None:
    http_client.run("CREATE OR REPLACE TABLE scratch.n (a UInt8) ENGINE = MergeTree ORDER BY a")
    assert http_client.send("1\n2\nthree\n", query="INSERT INTO scratch.n FORMAT TSV").code == 27
    assert http_client.run("SELECT count() FROM scratch.n") == "0"


def test_sessions(http_client: Http) -> None:
    assert http_client.send("SELECT 1", session_id="absent", session_check=1).code == 372
    http_client.run("CREATE TEMPORARY TABLE x (a Int)", session_id="http-session", session_timeout=60)
    assert http_client.run("SELECT count() FROM x", session_id="http-session", session_check=1) == "0"
    assert http_client.send("SELECT count() FROM x").code == 60
    assert http_client.send("SELECT 1", session_id="s", session_timeout=999999).code == 374
    assert http_client.send("SELECT 1", session_id="s", session_timeout="x").code == 374
    http_client.run("CREATE TEMPORARY TABLE y (a Int)", session_id="short", session_timeout=1)
    deadline = time.monotonic() + 10
    while http_client.send("SELECT 1", session_id="short", session_check=1, session_timeout=1).code != 372:
        assert time.monotonic() < deadline
        time.sleep(1.2)  # asking keeps it alive; only its idle timeout ends it


def test_sessions_belong_to_their_user(http_client: Http, analyst: Http) -> None:
    http_client.run("CREATE TEMPORARY TABLE x (a Int)", session_id="shared-name")
    assert analyst.send("SELECT * FROM x", session_id="shared-name").code != 0


def test_a_running_query_id_is_not_taken_twice(http_client: Http) -> None:
    import threading

    thread = threading.Thread(target=lambda: http_client.run("SELECT sleep(2)", query_id="twice"))
    thread.start()
    running = "SELECT count() FROM system.processes WHERE query LIKE 'SELECT sleep(2)%'"
    while http_client.run(running) == "0":
        assert thread.is_alive()
    assert http_client.send("SELECT 1", query_id="twice").code == 216
    thread.join()
    assert http_client.run("SELECT 1", query_id="twice") == "1"


def test_kill_query_by_http_id(http_client: Http) -> None:
    import threading

    replies = []
    thread = threading.Thread(
        target=lambda: replies.append(
            http_client.send("SELECT count() FROM system.numbers", query_id="to-kill")
        )
    )
    thread.start()
    deadline = time.monotonic() + 20
    while thread.is_alive() and time.monotonic() < deadline:
        http_client.run("KILL QUERY WHERE query_id = 'to-kill' SYNC")
    thread.join(1)
    assert [reply.code for reply in replies] == [394]


def test_max_execution_time(http_client: Http) -> None:
    started = time.monotonic()
    assert http_client.send("SELECT count() FROM system.numbers", max_execution_time=1).code == 159
    assert time.monotonic() - started < 5


def test_wait_end_of_query_has_the_error_in_the_status(http_client: Http) -> None:
    sql = "SELECT throwIf(number = 3000000), number FROM numbers(4000000) SETTINGS max_threads = 1"
    reply = http_client.send(sql, wait_end_of_query=1)
    assert (reply.status, reply.code) == (500, 395)
    whole = http_client.send("SELECT number FROM numbers(2000000) FORMAT RowBinary", wait_end_of_query=1)
    assert len(whole.body) == 16_000_000
    assert json.loads(whole.headers["X-ClickHouse-Summary"])["read_rows"] == "2000000"


def test_progress_headers_if_asked(http_client: Http) -> None:
    reply = http_client.send(
        "SELECT sum(sleepEachRow(0.02)) FROM numbers(50) SETTINGS max_block_size = 5",
        send_progress_in_http_headers=1,
    )
    steps = [json.loads(value) for value in reply.headers.get_all("X-ClickHouse-Progress")]
    assert steps
    rows = [int(step["read_rows"]) for step in steps]
    assert rows == sorted(rows)


def test_memory_of_one_query_is_bounded(http_client: Http) -> None:
    reply = http_client.send(
        "SELECT groupArray(number) FROM numbers(1000000000)", max_memory_usage=50_000_000
    )
    assert reply.code == 241


def test_the_query_log_is_a_servers(http_client: Http) -> None:
    http_client.run("SELECT 'find me'", query_id="in-the-log", log_comment="mine", max_threads=1)
    http_client.run("SYSTEM FLUSH LOGS")
    answer = http_client.run(
        "SELECT query, user, log_comment, Settings['max_threads'], read_rows, query_duration_ms < 60000,"
        " mapContains(Settings, 'chdb_client_name') FROM system.query_log"
        " WHERE query_id = 'in-the-log' AND type = 'QueryFinish'"
    )
    assert answer == f"SELECT \\'find me\\'\t{ETL[0]}\tmine\t1\t1\t1\t0"
    # nothing of what the endpoint adds; other tests have such statements of their own
    added = "SELECT count() FROM system.query_log WHERE query LIKE '%find me%OUTFILE%/proc/%'"
    assert http_client.run(added) == "0"


def test_secrets_stay_out_of_the_log(http_client: Http) -> None:
    http_client.send("SELECT 'top-secret-literal'", headers={}, user=ETL[0], password="wrong-password-xyz")
    http_client.run("SELECT 'top-secret-literal'")
    log = http_client.endpoint.log_file.read_text()
    assert "login failed user='bilten_etl'" in log
    for secret in ("top-secret-literal", "wrong-password-xyz", ETL[1], ANALYST[1]):
        assert secret not in log


def test_defaults_are_a_servers(http_client: Http) -> None:
    """What the embedded engine would have otherwise is put back; its memory alone has bounds of our own."""
    changed = http_client.run("SELECT name FROM system.settings WHERE value != default ORDER BY name").split()
    bounds = {f"max_bytes_before_external_{what}" for what in ("distinct", "group_by", "join", "sort")}
    assert set(changed) == {"chdb_client_name", "database", "max_memory_usage"} | bounds


def test_no_header_can_be_smuggled_in(http_client: Http) -> None:
    for parameters in ({"query_id": "x\r\nX-Evil: 1"}, {"default_format": "CSV\r\nX-Evil: 1"}):
        reply = http_client.send("SELECT 1", **parameters)
        assert reply.code in (36, 73)
        assert "X-Evil" not in reply.headers


def test_an_insert_token_counts_once(http_client: Http) -> None:
    http_client.run(
        "CREATE OR REPLACE TABLE scratch.once (a UInt8) ENGINE = MergeTree ORDER BY a"
        " SETTINGS non_replicated_deduplication_window = 100"
    )
    for token in ("one", "one", "two"):
        http_client.send(
            "1\n2\n", query="INSERT INTO scratch.once FORMAT TSV", insert_deduplication_token=token
        )
        http_client.run("INSERT INTO scratch.once SELECT 3", insert_deduplication_token=f"select {token}")
    assert http_client.run("SELECT a, count() FROM scratch.once GROUP BY a ORDER BY a") == "1\t2\n2\t2\n3\t2"


def test_what_is_answered_is_free_again(http_client: Http) -> None:
    """The end of an answer comes after the session, the query id and the place are released."""
    for _ in range(100):
        assert http_client.run("SELECT 1", session_id="again", query_id="again-and-again") == "1"
        assert http_client.run("SET max_threads = 1", session_id="again", query_id="again-and-again") == ""
