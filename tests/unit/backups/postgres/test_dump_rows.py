"""Rows are counted in whatever pieces the script comes."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from bilten_orchestration.backups.postgres.dump_rows import RowCounter

SCRIPT = rb"""SET client_encoding = 'UTF8';

-- Data for Name: kept; Type: TABLE DATA; Schema: public; Owner: bilten_owner

COPY public.kept (id, words) FROM stdin;
1	COPY public.other (id) FROM stdin;
2	\\.
3	two\nlines
\.

COPY public.none (id) FROM stdin;
\.

COPY "Odd ""schema".". (x" ("FROM stdin;") FROM stdin;


\.

COPY public.no_columns  FROM stdin;

\.

SELECT pg_catalog.setval('public.kept_id_seq', 3, true);
"""
ROWS = {
    ("public", "kept"): 3,
    ("public", "none"): 0,
    ('Odd "schema', ". (x"): 2,
    ("public", "no_columns"): 1,
}


@given(st.lists(st.integers(0, len(SCRIPT)), max_size=12))
def test_in_any_pieces(cuts: list[int]) -> None:
    counter = RowCounter()
    places = [0, *sorted(cuts), len(SCRIPT)]
    for begin, end in pairwise(places):
        counter.feed(SCRIPT[begin:end])
    assert counter.rows == ROWS
    assert counter.ended


def test_a_script_that_breaks_off_has_not_ended() -> None:
    counter = RowCounter()
    counter.feed(SCRIPT[: SCRIPT.index(b"3\ttwo")])
    assert not counter.ended
