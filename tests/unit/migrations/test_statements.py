from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilten_orchestration.migrations.statements import Store, UnreadableSql, split


def texts(sql: str, store: Store = "postgres") -> list[str]:
    return [statement.text for statement in split(sql, store)]


@pytest.mark.parametrize(
    "statement",
    [
        "select 'a;b'",
        "select 'it''s; fine'",
        r"select E'a\';b'",
        'select 1 as "a;b"',
        "do $$ begin perform 1; perform 2; end $$",
        "do $body$ begin execute $q$ select ';' $q$; end $body$",
        "select /* ; /* nested; */ ; */ 1",
        "select 1 -- one; two\n + 2",
        "select a$b$c, 'ü;', 'ß'",
        "call p(';', $x$;$x$)",
        "comment on table t is 'a;b'",
    ],
)
def test_postgres_semicolons_that_end_nothing(statement: str) -> None:
    assert texts(f"{statement};\nselect 2;\n") == [statement, "select 2"]


@pytest.mark.parametrize(
    "statement",
    [
        r"insert into t values ('a\';b')",
        "select `a;b` from t",
        "create table if not exists t (a String comment 'x;y') engine = MergeTree order by a",
        "select $tag$ ; $tag$",
        "optimize table t",
        "select 1 # one; two\n + 2",
    ],
)
def test_clickhouse_semicolons_that_end_nothing(statement: str) -> None:
    assert texts(f"{statement};\nselect 2", "clickhouse") == [statement, "select 2"]


def test_comments_around_statements_go_and_lines_are_counted_from_one() -> None:
    found = split("-- head; er\n\nselect 'ü';\n-- between;\n  select\n 2 -- after;\n;\n-- end", "postgres")
    assert [(statement.text, statement.line) for statement in found] == [("select 'ü'", 3), ("select\n 2", 5)]


@pytest.mark.parametrize("sql", ["", ";;", "-- nothing", "/* nothing */ ;"])
def test_no_statement(sql: str) -> None:
    assert texts(sql) == []


@pytest.mark.parametrize("sql", ["select 'a", "select /* a", "select $$ a", 'select "a'])
def test_what_does_not_end_is_unreadable(sql: str) -> None:
    with pytest.raises(UnreadableSql, match="unterminated"):
        split(sql, "postgres")


def test_begin_atomic_is_refused_with_its_line() -> None:
    sql = "select 1;\ncreate function f() returns int language sql begin atomic select 1; end;"
    with pytest.raises(UnreadableSql, match=r"line 2.*\$\$"):
        split(sql, "postgres")


# What a literal may hold: anything, quoted the way each store quotes.
CONTENT = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\x00\r"), max_size=30)


@given(st.lists(CONTENT, min_size=1, max_size=5))
def test_any_postgres_literal_survives(contents: list[str]) -> None:
    statements = ["select '" + content.replace("'", "''") + "'" for content in contents]
    assert texts(";\n".join(statements) + ";") == statements


@given(st.lists(CONTENT, min_size=1, max_size=5))
def test_any_clickhouse_literal_survives(contents: list[str]) -> None:
    statements = ["select '" + c.replace("\\", "\\\\").replace("'", "\\'") + "'" for c in contents]
    assert texts(";\n".join(statements) + ";", "clickhouse") == statements
