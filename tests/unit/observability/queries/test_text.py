"""No literal and no secret survives; what can be read stays readable."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilten_orchestration.observability.queries.plans import refusal
from bilten_orchestration.observability.queries.text import masked

KEPT = {
    "select a from t where b = $1": "select a from t where b = $1",
    "select  a\n\tfrom t;": "select a from t",
    'select "a\'b" from t': 'select "a\'b" from t',
    "select 'x' from t": "select '?' from t",
    "select 'it''s' from t": "select '?' from t",
    r"select E'it\'s', 1 from t": "select '?', 1 from t",
    "select $$it's$$, $tag$ $$ $tag$ from t": "select '?', '?' from t",
    "select a -- it's\nfrom t": "select a from t",
    "select a /* it's /* nested */ one */ from t": "select a from t",
    "(select 1) union (select 2)": "(select 1) union (select 2)",
    "select x'1f', U&'a', B'1' from t": "select '?', '?', '?' from t",
    "/* run 7 */ update t set a = $1": "update t set a = $1",
    "alter role bob password 'sesame'": "ALTER ROLE ...",
    "ALTER USER bob WITH PASSWORD 'sesame'": "ALTER USER ...",
    "create subscription s connection 'password=sesame' publication p": "CREATE SUBSCRIPTION ...",
    "set my.secret to sesame": "SET ...",
    "vacuum sesame": "VACUUM ...",
    "select 4111111111111111, 99999.5, a::numeric(18,3), t1234567.b from t order by 1": (
        "select 0, 0, a::numeric(18,3), t1234567.b from t order by 1"
    ),
    "begin": "BEGIN ...",
    "explain select 'sesame'": "EXPLAIN ...",
    "copy t from program 'sesame'": "COPY ...",
    "select 'sesame": "SELECT ...",
    "select $$ sesame": "SELECT ...",
    "": "(unreadable statement)",
}


@pytest.mark.parametrize("text", KEPT)
def test_masked(text: str) -> None:
    assert masked(text) == KEPT[text]


def test_a_long_one_is_cut_and_gets_no_plan() -> None:
    text = masked("select " + ", ".join(["a"] * 9000))
    assert len(text) < 10_010
    assert refusal(text, 180000) == "its text is cut off"


SECRET = "sesame"
WRAPS = [
    "'{}'", "E'{}'", "$${}$$", "$q${}$q$", "-- {}\n", "/* {} */", "'a''{}'", r"E'\'{}'", "/* /* */ {} */",
]  # fmt: skip
FILL = st.sampled_from(["a", "$1", ",", '"b"', "(", ")", "=", "\n", "1.5", "interval"])


@given(st.lists(st.one_of(FILL, st.sampled_from([wrap.format(SECRET) for wrap in WRAPS])), max_size=12))
def test_no_literal_survives_wherever_it_stands(parts: list[str]) -> None:
    assert SECRET not in masked("select " + " ".join(parts))


@given(st.text(max_size=60))
def test_any_text_is_masked_without_an_error_and_without_a_quote_left(text: str) -> None:
    assert "'" not in masked(text).replace("'?'", "").replace('"', "") or '"' in text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("select 1", None),
        ("with a as (select 1) select * from a", None),
        ("with a as (delete from t returning 1) select * from a", "not a statement that only reads"),
        ("select * from t for update", "not a statement that only reads"),
        ("select 1 into t", "not a statement that only reads"),
        ("update t set a = $1", "not a statement that only reads"),
        ("ALTER ROLE ...", "not a statement that only reads"),
        ("select 1; drop table t", "its text has a semicolon"),
    ],
)
def test_only_one_select_is_planned(text: str, reason: str | None) -> None:
    assert refusal(text, 180000) == reason


def test_older_servers_plan_nothing() -> None:
    assert refusal("select 1", 150000) == "EXPLAIN (GENERIC_PLAN) came with PostgreSQL 16"
