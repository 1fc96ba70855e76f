"""What search refuses before it asks anything: all that is wrong, at once."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilten_orchestration.errors import UsageError
from bilten_orchestration.search import query, request
from bilten_orchestration.search.request import Near, Position, Price, SearchRequest, Sort

ID = "0c5b2444-70a0-4932-980c-b4dc0d3f02b5"
AT = datetime(2026, 5, 1, 18, tzinfo=UTC)
GOOD = SearchRequest(
    text="jazz night",
    categories=("music",),
    tags=("outdoor", "seated"),
    cities=("Lisbon",),
    countries=("PT",),
    organizers=(ID,),
    venues=(ID,),
    availability=("few",),
    starts_from=AT,
    starts_before=AT + timedelta(days=1),
    near=Near(38.7, -9.1, 25),
    price=Price("EUR", Decimal(5), Decimal("60.5")),
    sort=Sort.DISTANCE,
)


def test_a_full_request_is_good() -> None:
    assert request.checked(GOOD) == GOOD


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"text": "x" * 261}, "the text is too long"),
        ({"categories": ("a",) * 21}, "too many categories"),
        ({"tags": ("x" * 101,)}, "one of tags is empty or too long"),
        ({"cities": ("",)}, "one of cities is empty or too long"),
        ({"cities": ("\ud800",)}, "one of cities is no text"),
        ({"countries": ("P\x00",)}, "one of countries is no text"),
        ({"organizers": ("1; drop table",)}, "one of organizers is no id"),
        ({"venues": (ID.upper(),)}, "one of venues is no id"),
        ({"availability": ("plenty",)}, "availability is unknown"),
        ({"starts_from": datetime(2026, 5, 1)}, "starts_from has no zone"),
        ({"starts_before": AT}, "the span of time is empty"),
        (
            {"starts_from": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=5)))},
            "starts_from is out of bounds",
        ),
        (
            {"starts_before": datetime.max.replace(tzinfo=timezone(timedelta(hours=-5)))},
            "starts_before is out of bounds",
        ),
        ({"near": Near(91, 0, 1)}, "latitude is out of bounds"),
        ({"near": Near(0, float("nan"), 1)}, "longitude is out of bounds"),
        ({"near": Near(0, 0, 0)}, "the radius is out of bounds"),
        ({"near": Near(0, 0, float("inf"))}, "the radius is out of bounds"),
        ({"near": None}, "a sort by distance needs a place"),
        ({"price": Price("eur")}, "the currency is no code"),
        ({"price": Price("EUR", Decimal(-1))}, "a price is out of bounds"),
        ({"price": Price("EUR", None, Decimal("NaN"))}, "a price is out of bounds"),
        ({"price": Price("EUR", Decimal(2), Decimal(1))}, "the span of prices is empty"),
        ({"page_size": 0}, "the page size is out of bounds"),
        ({"page_size": 101}, "the page size is out of bounds"),
        ({"after": "not a cursor"}, "the cursor is not one of this search"),
    ],
)
def test_one_wrong_value_is_refused_by_name(change: dict[str, Any], what: str) -> None:
    with pytest.raises(UsageError) as refused:
        request.checked(replace(GOOD, **change))
    assert [problem.what for problem in refused.value.problems] == [what]


def test_everything_wrong_is_told_at_once() -> None:
    wrong = replace(GOOD, page_size=0, near=Near(99, 999, -1), price=Price("", Decimal(-1)), tags=("",))
    with pytest.raises(UsageError) as refused:
        request.checked(wrong)
    assert len(refused.value.problems) == 7


def test_control_characters_and_halves_of_letters_become_spaces() -> None:
    assert request.checked(SearchRequest(text=" jazz\x00\ud83d  night\n")).text == "jazz night"


def test_a_cursor_goes_on_where_its_page_ended() -> None:
    here = Position((1_777_000_000_000, 1.5, ID), 20)
    text = request.cursor(GOOD, here)
    assert request.position(request.checked(replace(GOOD, after=text, page_size=5))) == here


@pytest.mark.parametrize(
    "other", [replace(GOOD, text="rock"), replace(GOOD, sort=Sort.START), replace(GOOD, starts_before=None)]
)
def test_a_cursor_is_of_no_use_for_another_search(other: SearchRequest) -> None:
    text = request.cursor(GOOD, Position((1, 1.5, ID), 20))
    with pytest.raises(UsageError, match="not one of this search"):
        request.checked(replace(other, after=text))


@pytest.mark.parametrize(
    "values",
    [
        [20, 1, 1.5],
        [20, 1, 1.5, "id"],
        [20, "1", 1.5, ID],
        [20, float("nan"), 1.5, ID],
        [20, 10**400, 1.5, ID],
        [0, 1, 1.5, ID],
        [True, 1, 1.5, ID],
        [20, True, 1.5, ID],
        [20, 1, False, ID],
        [20, 1, {"script": "x"}, ID],
        [20, 1, 1.5, ID, 1],
    ],
)
def test_a_forged_cursor_is_refused(values: list[Any]) -> None:
    forged = base64.urlsafe_b64encode(json.dumps([GOOD.fingerprint, *values]).encode()).decode()
    with pytest.raises(UsageError, match="not one of this search"):
        request.checked(replace(GOOD, after=forged))


def test_paging_has_an_end() -> None:
    deep = request.cursor(GOOD, Position((1, 1.5, ID), request.MAX_HITS))
    with pytest.raises(UsageError, match="no paging this deep"):
        request.checked(replace(GOOD, after=deep))


@given(st.text(max_size=400), st.text(max_size=700))
def test_whatever_is_typed_is_refused_or_becomes_one_value(text: str, after: str) -> None:
    try:
        asked = request.checked(SearchRequest(text=text, after=after or None))
    except UsageError:
        return
    must = query.query(asked)["bool"]["must"]
    assert [list(clause) for clause in must] in ([], [["multi_match"]])
    if must:
        assert must[0]["multi_match"]["query"] == asked.words
        json.dumps(must).encode()


def test_long_texts_are_not_searched_fuzzily() -> None:
    def clause(words: int, between: str = " ") -> dict[str, Any]:
        asked = SearchRequest(text=between.join(["word"] * words))
        found: dict[str, Any] = query.query(asked)["bool"]["must"][0]["multi_match"]
        return found

    assert clause(query.FUZZY_WORDS)["fuzziness"] == "AUTO"
    assert "fuzziness" not in clause(query.FUZZY_WORDS + 1)
    # what parts words for the analyzer is more than spaces
    assert "fuzziness" not in clause(query.FUZZY_WORDS + 1, "-")
    assert "fuzziness" not in clause(query.FUZZY_WORDS + 1, ",")
