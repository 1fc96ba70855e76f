"""What a server does with rare requests: the same here, or a refusal that says what to do instead."""

from __future__ import annotations

import pytest

from tests.integration.local.clickhouse.conftest import ETL, Http
from tests.integration.local.clickhouse.test_http import basic


@pytest.mark.parametrize(
    "word",
    [
        "exit",
        "quit",
        "logout",
        "q",
        "Q",
        ":q",
        "\\q",
        "exit;",
        "учше",
        "дщпщге",
        "ёж",
        "№ 1",
        "!",
        '"a',
        "/**/!",
    ],
)
def test_words_of_a_prompt_and_signs_are_no_statements(http_client: Http, word: str) -> None:
    reply = http_client.send(word)
    assert (reply.status, reply.code) == (400, 62), reply.text


@pytest.mark.parametrize(
    ("accepted", "used"),
    [("br", None), ("br, gzip;q=0.5", "gzip"), ("br, deflate", "deflate"), ("*", None), ("identity", None)],
)
def test_an_encoding_that_is_not_spoken_falls_back(
    http_client: Http, accepted: str, used: str | None
) -> None:
    reply = http_client.send("SELECT 1", headers=basic(*ETL) | {"Accept-Encoding": accepted})
    assert reply.status == 200
    assert reply.headers.get("Content-Encoding") == used


def test_a_role_is_refused_by_name(http_client: Http) -> None:
    reply = http_client.send("SELECT 1", role="reporting")
    assert (reply.status, reply.code) == (404, 511)
    assert "'reporting'" in reply.text


def test_external_tables_are_refused_with_the_way_that_is_open(http_client: Http) -> None:
    body = (
        b'--edge\r\nContent-Disposition: form-data; name="t"; filename="t"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n1\r\n--edge--\r\n"
    )
    headers = basic(*ETL) | {"Content-Type": "multipart/form-data; boundary=edge"}
    reply = http_client.send(body, headers=headers, query="SELECT * FROM t", t_structure="a UInt8")
    assert (reply.status, reply.code) == (501, 48)
    assert "temporary table of a session" in reply.text

    # the way that is open
    http_client.run("CREATE TEMPORARY TABLE t (a UInt8)", session_id="external")
    http_client.run("INSERT INTO t FORMAT CSV\n41\n", session_id="external")
    assert http_client.run("SELECT a + 1 FROM t", session_id="external") == "42"


def test_input_is_refused_with_the_way_that_is_open(http_client: Http) -> None:
    """The engine itself takes the statement, inserts nothing and answers 200."""
    http_client.run("CREATE TABLE analytics.input (a UInt8, b String) ENGINE = MergeTree ORDER BY a")
    try:
        for opening in (
            "INSERT INTO analytics.input (a, b)",
            "WITH 1 AS one INSERT INTO analytics.input (a, b)",
        ):
            for function in ("input ", "`input`", '"input"'):
                sql = f"{opening} SELECT a + 1, 'b' FROM {function}('a UInt8') FORMAT CSV"
                for reply in (http_client.send(f"{sql}\n41\n"), http_client.send("41\n", query=sql)):
                    assert (reply.status, reply.code) == (501, 48), reply.text
                    assert "temporary table of a session" in reply.text

        # names alone are not meant, and the way that is open
        http_client.run("CREATE TEMPORARY TABLE sent (input UInt8)", session_id="input")
        http_client.run("INSERT INTO sent (input) FORMAT CSV\n41\n", session_id="input")
        http_client.run(
            "INSERT INTO analytics.input (a, b) SELECT input + 1, 'b' FROM sent WHERE input IN (41)",
            session_id="input",
        )
        assert http_client.run("SELECT * FROM analytics.input") == "42\tb"
    finally:
        http_client.run("DROP TABLE analytics.input SYNC")


@pytest.mark.parametrize(
    ("wanted", "words"),
    [({"quota_key": "k"}, "quota_key"), ({"stacktrace": 1}, "stacktrace=1")],
)
def test_what_would_be_ignored_is_refused_by_name(
    http_client: Http, wanted: dict[str, str | int], words: str
) -> None:
    reply = http_client.send("SELECT 1", **wanted)
    assert (reply.status, reply.code) == (501, 48)
    assert words in reply.text
    assert http_client.run("SELECT 1", **dict.fromkeys(wanted, 0 if "stacktrace" in wanted else "")) == "1"


def test_close_session_ends_the_session_with_its_statement(http_client: Http) -> None:
    http_client.run("CREATE TEMPORARY TABLE kept (a UInt8)", session_id="closed")
    assert http_client.run("SELECT count() FROM kept", session_id="closed", session_check=1) == "0"
    assert http_client.run("SELECT count() FROM kept", session_id="closed", close_session=1) == "0"
    assert http_client.send("SELECT 1", session_id="closed", session_check=1).code == 372
    assert http_client.send("SELECT count() FROM kept", session_id="closed").code == 60
    # also where the statement fails
    assert http_client.send("SELECT nosuch", session_id="closed", close_session=1).code == 47
    assert http_client.send("SELECT 1", session_id="closed", session_check=1).code == 372


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("INSERT INTO scratch.lost VALUES ('a'); ('b')", 33),
        ("INSERT INTO scratch.lost VALUES ('a;b'); INSERT INTO scratch.lost VALUES ('c')", 33),
        ("INSERT INTO scratch.lost VALUES ('a\\'; ');\n  x", 33),
        ("INSERT INTO scratch.lost FORMAT CSV;\nfoo", 62),
        ("INSERT INTO scratch.lost FORMAT TSV;", 62),
        ("WITH 1 AS x INSERT INTO scratch.lost FORMAT TSV\nfoo;", 48),
        ("INSERT INTO scratch.lost SELECT * FROM\u00a0input('a String') FORMAT TSV\nfoo", 62),
    ],
)
def test_data_that_the_engine_would_drop_or_take_for_other_data_is_refused(
    http_client: Http, sql: str, code: int
) -> None:
    http_client.run("CREATE OR REPLACE TABLE scratch.lost (a String) ENGINE = MergeTree ORDER BY a")
    assert http_client.send(sql).code == code
    assert http_client.run("SELECT count() FROM scratch.lost") == "0"


def test_semicolons_in_and_after_values_are_none_to_worry_about(http_client: Http) -> None:
    http_client.run("CREATE OR REPLACE TABLE scratch.kept (a String) ENGINE = MergeTree ORDER BY a")
    http_client.run(r"INSERT INTO scratch.kept VALUES ('a;b'), ('it\'s; '), ('''; ') ; " + "\n")
    assert http_client.run("SELECT count() FROM scratch.kept") == "3"


def test_a_parameter_lasts_for_its_statement_in_a_session_as_well(http_client: Http) -> None:
    http_client.run("CREATE OR REPLACE TABLE scratch.bound (a UInt32) ENGINE = MergeTree ORDER BY a")
    values = "INSERT INTO scratch.bound VALUES ({x:UInt32})"
    http_client.run(values, session_id="bound", param_x=5)
    assert http_client.send(values, session_id="bound").code == 456
    assert http_client.send("SELECT {x:UInt32}", session_id="bound").code == 456
    http_client.run("INSERT INTO scratch.bound VALUES (7)", session_id="bound")
    http_client.run(values, session_id="bound", param_x=6)
    assert http_client.run("SELECT a FROM scratch.bound ORDER BY a", session_id="bound") == "5\n6\n7"


def test_parameters_reach_inserted_values(http_client: Http) -> None:
    http_client.run("CREATE OR REPLACE TABLE scratch.p (a UInt32, b String) ENGINE = MergeTree ORDER BY a")
    http_client.run("INSERT INTO scratch.p VALUES ({x:UInt32}, 'one')", param_x=1)
    http_client.run(
        "INSERT INTO scratch.p (a, b) VALUES ({x:UInt32}, {text:String}), (3, 'three')",
        param_x=2,
        param_text="it's \\\\ ü",
    )
    http_client.run("INSERT INTO {to:Identifier}.p FORMAT CSV\n4,four\n", param_to="scratch")
    assert http_client.run("SELECT a, b FROM scratch.p ORDER BY a FORMAT CSV").splitlines() == [
        '1,"one"',
        '2,"it\'s \\ ü"',
        '3,"three"',
        '4,"four"',
    ]
    # one request's parameters are no other's
    reply = http_client.send("INSERT INTO scratch.p VALUES ({x:UInt32}, 'nobody')")
    assert reply.code == 456, reply.text
    assert http_client.run("SELECT count() FROM scratch.p") == "4"
