"""The lexer: what is quoted, commented or bracketed never counts."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilten_orchestration.local.clickhouse import statement
from bilten_orchestration.local.clickhouse.statement import InsertHead, insert_head, kind_of, output_clause


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("SELECT 1", "rows"),
        ("  /* INSERT */ -- INSERT\n select 1", "rows"),
        ("WITH x AS (SELECT 1) SELECT * FROM x", "rows"),
        ("WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x", "other"),
        ("WITH x AS (SELECT 'INSERT') SELECT 1", "rows"),
        ("(SELECT 1)", "rows"),
        ("FROM t SELECT 1", "rows"),
        ("SHOW TABLES", "rows"),
        ("INSERT INTO t VALUES (1)", "insert"),
        ("CREATE TABLE t (a Int)", "other"),
        ("ALTER TABLE t DELETE WHERE 1", "other"),
        ("", "empty"),
        ("-- only a comment", "empty"),
        ("/* never closed", "empty"),
    ],
)
def test_kind(text: str, kind: str) -> None:
    assert kind_of(text) == kind


@pytest.mark.parametrize(
    ("text", "head"),
    [
        ("INSERT INTO t FORMAT CSV\n1,2\n", InsertHead("INSERT INTO t ", "CSV", 25)),
        ("INSERT INTO t FORMAT CSV\r\n1", InsertHead("INSERT INTO t ", "CSV", 26)),
        ("INSERT INTO t FORMAT CSV  1", InsertHead("INSERT INTO t ", "CSV", 26)),
        ("INSERT INTO t FORMAT CSV\n\n1", InsertHead("INSERT INTO t ", "CSV", 25)),
        ("INSERT INTO t VALUES (1)", InsertHead("INSERT INTO t ", "Values", 20)),
        (
            "INSERT INTO `FORMAT x` (`VALUES`) FORMAT TSV\n",
            InsertHead("INSERT INTO `FORMAT x` (`VALUES`) ", "TSV", 45),
        ),
        (
            "INSERT INTO t /* FORMAT CSV */ FORMAT TSV\n1",
            InsertHead("INSERT INTO t /* FORMAT CSV */ ", "TSV", 42),
        ),
        ("INSERT INTO t SELECT 1 FORMAT CSV", None),
        ("INSERT INTO t (a) WITH 1 AS x SELECT x", None),
        ("INSERT INTO t FROM INFILE 'x' FORMAT CSV", None),
        ("INSERT INTO t", None),
    ],
)
def test_where_data_begins(text: str, head: InsertHead | None) -> None:
    assert insert_head(text, complete=True) == head


@pytest.mark.parametrize("cut", range(len("INSERT INTO t FORMAT TSVWithNames\r\nx")))
def test_a_head_that_may_go_on_waits_for_more(cut: int) -> None:
    whole = "INSERT INTO t FORMAT TSVWithNames\r\nx"
    found = insert_head(whole[:cut], complete=False)
    assert found in (None, insert_head(whole, complete=True))


@pytest.mark.parametrize(
    ("text", "name", "rest"),
    [
        ("SELECT 1", None, ""),
        ("SELECT 1 -- end", None, " -- end"),
        ("SELECT 1 FORMAT JSON", "JSON", "FORMAT JSON"),
        ("SELECT 1 FORMAT JSON SETTINGS a = 1", "JSON", "FORMAT JSON SETTINGS a = 1"),
        ("SELECT 1 SETTINGS a = 1 FORMAT CSV", "CSV", "FORMAT CSV"),
        ("SELECT 1 AS format FROM (SELECT 2 FORMAT x)", None, ""),
        ("SELECT 'FORMAT CSV'", None, ""),
        ("SELECT format FROM t", None, ""),
    ],
)
def test_format_clause(text: str, name: str | None, rest: str) -> None:
    found, at = output_clause(text)
    assert (found, text[at:]) == (name, rest)


def test_second_statements_are_found_and_last_semicolons_are_not() -> None:
    assert statement.without_semicolon("SELECT ';' ; -- x\n;") == "SELECT ';' "
    assert statement.without_semicolon("SELECT $$;$$") == "SELECT $$;$$"
    for text in ("SELECT 1; SELECT 2", "SELECT 1;/* */x", "SELECT '\\'';DROP TABLE t"):
        with pytest.raises(ValueError, match=r"SELECT|x|DROP"):
            statement.without_semicolon(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("SELECT 'é', `é`, $$é$$ -- é\n/* é */", None),
        ("SELECT \u2018a\u2019", "\u2018"),
        ("SELECT 1\u00a0+ 2", "\u00a0"),
        ("SELECT 5 \u2212 3", "\u2212"),
        ("SELECT é", "é"),
        ("SELECT $é$a$é$", "é"),
    ],
)
def test_beyond_ascii_only_within_quotes_and_comments(text: str, found: str | None) -> None:
    assert statement.outside_quotes(text.encode().decode("latin-1")) == found


def test_comments_nest_and_a_heredoc_has_an_end() -> None:
    assert output_clause("SELECT 1 /* /* */ FORMAT CSV */ FORMAT TSV")[0] == "TSV"
    assert output_clause("SELECT 1 /*/ FORMAT CSV */")[0] is None
    assert [token.kind for token in statement.tokens("$x$ y -$x")] == ["word", "word", "sign", "word"]
    assert [token.kind for token in statement.tokens("$x$ y $x$ a$$ b$$")] == ["heredoc", "word", "word"]


def test_outfile() -> None:
    assert statement.names_outfile("SELECT 1 into /* */ OutFile 'x'")
    assert not statement.names_outfile("SELECT 'INTO OUTFILE' AS `INTO OUTFILE`")


def test_columns_are_replaced_outside_literals_only() -> None:
    text = "KILL QUERY WHERE query_id = 'query_id' AND `user` = \"user\""
    assert (
        statement.with_columns(text, {"query_id": "Q", "user": "U"})
        == "KILL QUERY WHERE Q = 'query_id' AND U = U"
    )


def test_log_lines_hold_no_literal() -> None:
    text = "SELECT 'secret', $$hidden$$, x FROM\n t -- remark"
    assert statement.redacted(text) == "SELECT '...' , '...' , x FROM t"
    assert len(statement.redacted("SELECT " + "a, " * 10_000)) < 320


@pytest.mark.parametrize(
    "secret",
    [
        "'%s'",
        '"%s"',
        "`%s`",
        "%s",
        "$$%s$$",
        "$tag$%s$tag$",
        "‘%s’",
        "“%s”",
        "«%s»",
        "„%s“",
        "'%s",
        '"%s',
        "$$%s",
    ],
)
@pytest.mark.parametrize(
    "text",
    [
        "CREATE USER u IDENTIFIED BY {} HOST ANY",
        "ALTER USER u IDENTIFIED WITH sha256_password BY {}",
        "CREATE NAMED COLLECTION c AS secret_access_key = {}",
        "CREATE DICTIONARY d (a Int8) PRIMARY KEY a SOURCE(POSTGRESQL(user 'u' password {} db 'x'))",
    ],
)
def test_no_password_gets_into_the_log_whatever_quotes_stand_there(text: str, secret: str) -> None:
    logged = statement.redacted(text.format(secret % "hunter2 and more"))
    assert "hunter2" not in logged and "more" not in logged
    assert logged.startswith(text[:8])


@pytest.mark.parametrize(
    "secret", ["'%s'", '"%s"', "$$%s$$", "$tag$%s$tag$", "‘%s’", "“%s”", "'%s", '"%s', "$$%s", "$tag$%s"]
)
def test_nor_any_other_literal(secret: str) -> None:
    for text in ("SELECT * FROM s3('u', {})", "SELECT * FROM url({})", "SELECT {}"):
        assert "hunter2" not in statement.redacted(text.format(secret % "hunter2"))
        # cut in the middle of it
        assert "hunter2" not in statement.redacted(text.format(secret % ("hunter2 " * 1000)))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("KILL QUERY WHERE query_id = 'a-b'", "a-b"),
        ("kill query where QUERY_ID='a-b' sync", "a-b"),
        ("KILL QUERY WHERE query_id = 'a-b' /* x */ ASYNC", "a-b"),
        ("KILL QUERY WHERE query_id = 'a-b' TEST", None),
        ("KILL QUERY WHERE query_id = 'a\\'b'", None),
        ("KILL QUERY WHERE query_id = 'a''b'", None),
        ("KILL QUERY WHERE query_id = ''", None),
        ("KILL QUERY WHERE query_id != 'a'", None),
        ("KILL QUERY WHERE query_id = 'a' OR 1", None),
        ("KILL QUERY ON CLUSTER c WHERE query_id = 'a'", None),
        ("KILL MUTATION WHERE query_id = 'a'", None),
        ("KILL QUERY", None),
        ("SELECT 1", None),
        ("", None),
    ],
)
def test_the_one_query_that_a_kill_names(text: str, wanted: str | None) -> None:
    assert statement.killed_query(text) == wanted


def test_a_described_query_is_read_behind_from() -> None:
    for text in ("DESC (SELECT 1) FORMAT TSKV", "describe TABLE /* x */ (SELECT 1) FORMAT TSKV"):
        assert statement.described_query(text) == "SELECT * FROM (SELECT 1) FORMAT TSKV"
    for text in ("DESC t", "DESCRIBE TABLE t", "DESC file('x')", "SELECT (1)", "DESC", ""):
        assert statement.described_query(text) is None


PIECES = st.lists(
    st.sampled_from(
        ["SELECT", " ", "\n", "'", '"', "`", "\\", ";", "--", "/*", "*/", "#", "# ", "$$", "$a$", "(", ")", "FORMAT",  # noqa: E501
         "x", "1", "INTO", "OUTFILE", "é", "\x00"]
    ),
    max_size=30,
).map("".join)  # fmt: skip


@given(PIECES)
def test_tokens_cover_the_text_in_order_and_never_overlap(text: str) -> None:
    latin = text.encode().decode("latin-1")
    end = 0
    for token in statement.tokens(latin):
        assert token.start >= end
        assert latin[token.start : token.end] == token.text
        end = token.end
    assert statement.utf8(latin) == text


@given(st.text(max_size=50))
def test_a_literal_is_one_token(text: str) -> None:
    literal = "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
    latin = f"SELECT {literal} FORMAT CSV".encode("utf-8", "surrogatepass").decode("latin-1")
    assert [token.kind for token in statement.tokens(latin)] == ["word", "quoted", "word", "word"]
    assert output_clause(latin)[0] == "CSV"


@given(
    st.lists(
        st.sampled_from(["(1)", "'", "\\", "'a;b'", ";", " ", "\n", "{x:UInt8}", "{", "`;`", '"', "é"]),
        max_size=12,
    ),
    st.lists(st.integers(0, 40), max_size=5),
)
def test_values_are_watched_alike_however_they_are_cut(pieces: list[str], cuts: list[int]) -> None:
    data = "".join(pieces).encode()

    def watched(chunks: list[bytes]) -> object:
        values = statement.ValuesData()
        try:
            for chunk in chunks:
                values.feed(chunk)
        except ValueError:
            return "refused"
        return values.parameters

    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    assert watched([data[a:b] for a, b in itertools.pairwise(edges)]) == watched([data])


@pytest.mark.parametrize("data", ["(1); (2)", "('a');x", "('a\\'');;", "(1) ; \n INSERT"])
def test_nothing_follows_the_semicolon_of_values(data: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        statement.ValuesData().feed(data.encode())
