"""Whatever is done to a series of attestations is found, with the documents alone."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bilten_orchestration.backups.repository.keys import KeyRing
from bilten_orchestration.drills.attestation import Attested, document, name_of, verify
from bilten_orchestration.drills.report import DrillReport, Proof
from bilten_orchestration.errors import Problem

RING = KeyRing("20260101-aaaaaaaa", {"20260101-aaaaaaaa": b"k" * 32})
OTHERS = KeyRing("20260101-aaaaaaaa", {"20260101-aaaaaaaa": b"o" * 32})
BEGAN = datetime(2026, 11, 1, 5, 30, tzinfo=UTC)
Documents = list[tuple[str, bytes]]


def report(number: int) -> DrillReport:
    at = BEGAN + timedelta(days=number)
    return DrillReport(
        str(UUID(int=number)),
        "redis",
        "server",
        at,
        at + timedelta(seconds=40),
        number % 3 != 0,
        backups=("a", "b"),
        reached_at=at,
        rpo_seconds=12.5,
        rto_seconds=3.25,
        phases={"download": 1.5, "load": 0.25},
        proofs=(Proof("keys", True, "9", "9", 0.5),),
        problems=(Problem("what", "expected", "found", "next"),) if number % 3 == 0 else (),
        figures={"keys": 9.0},
        counts={"db0 a:*": 9},
    )


def chain(length: int, ring: KeyRing = RING) -> Documents:
    from hashlib import sha256

    found: Documents = []
    previous = None
    for number in range(1, length + 1):
        body = document(number, previous, report(number), ring)
        previous = sha256(body).hexdigest()
        found.append((name_of(number, report(number)), body))
    return found


def judged(documents: Documents) -> tuple[Problem, ...]:
    return verify("redis", sorted(documents), RING).problems


def test_a_whole_series_is_read_as_it_was_written() -> None:
    found = verify("redis", chain(5), RING)
    assert found.problems == ()
    assert [each.report for each in found.drills] == [report(number) for number in range(1, 6)]
    assert [each.number for each in found.drills] == [1, 2, 3, 4, 5]
    assert all(isinstance(each, Attested) for each in found.drills)
    assert verify("redis", [], RING).problems == ()


def test_a_part_of_it_is_judged_from_its_first_link_on() -> None:
    documents = chain(5)
    assert verify("redis", documents[2:], RING, whole=False).problems == ()
    assert verify("redis", documents[2:], RING).problems != ()
    del documents[3]
    assert verify("redis", documents[1:], RING, whole=False).problems != ()


@settings(max_examples=150, deadline=None)
@given(st.integers(2, 7), st.data())
def test_no_byte_can_be_changed(length: int, data: st.DataObject) -> None:
    documents = chain(length)
    which = data.draw(st.integers(0, length - 1))
    name, body = documents[which]
    at = data.draw(st.integers(0, len(body) - 1))
    changed = body[:at] + bytes([body[at] ^ data.draw(st.integers(1, 255))]) + body[at + 1 :]
    documents[which] = (name, changed)
    assert judged(documents)


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 8), st.data())
def test_no_document_but_the_last_can_be_taken_away(length: int, data: st.DataObject) -> None:
    documents = chain(length)
    gone = data.draw(st.sets(st.integers(0, length - 2), min_size=1))
    left = [each for number, each in enumerate(documents) if number not in gone]
    assert judged(left)


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 7), st.data())
def test_none_can_change_places(length: int, data: st.DataObject) -> None:
    documents = chain(length)
    one = data.draw(st.integers(0, length - 2))
    other = data.draw(st.integers(one + 1, length - 1))
    (first, body), (second, other_body) = documents[one], documents[other]
    documents[one], documents[other] = (first, other_body), (second, body)
    assert judged(documents)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 7), st.data())
def test_none_can_be_put_in_by_who_has_no_key(length: int, data: st.DataObject) -> None:
    """A forger knows everything but the key, and may replace the end of the series by one of their own."""
    documents = chain(length)
    since = data.draw(st.integers(0, length))
    forged = chain(length + 1, OTHERS)[since:]
    problems = judged(documents[:since] + forged)
    assert any("damaged or was altered" in problem.what for problem in problems)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 6), st.data())
def test_a_fork_is_found_also_when_it_is_signed(length: int, data: st.DataObject) -> None:
    """Two deployments with one repository and one key."""
    documents = chain(length)
    number = data.draw(st.integers(1, length))
    second = replace(report(number), id=str(UUID(int=99)))
    previous = None if number == 1 else verify("redis", documents, RING).drills[number - 2].sha256
    documents.append((name_of(number, second), document(number, previous, second, RING)))
    assert any("the chain forks" in problem.what for problem in judged(documents))


def test_the_same_content_in_other_bytes() -> None:
    """The newest document has none after it that would name its bytes."""
    documents = chain(2)
    name, body = documents[-1]
    documents[-1] = (name, body.replace(b"\n ", b"\n\t", 1))
    assert json.loads(documents[-1][1]) == json.loads(body)
    assert any("other bytes" in problem.found for problem in judged(documents))


@pytest.mark.parametrize("how", ["store", "number", "time"])
def test_a_copy_under_another_name(how: str) -> None:
    documents = chain(3)
    name, body = documents[-1]
    changed = {
        "store": name.replace("/redis/", "/postgres/"),
        "number": name.replace("/000003-", "/000004-"),
        "time": name.replace("T05", "T06"),
    }[how]
    assert name != changed
    documents[-1] = (changed, body)
    assert any("another name" in problem.what for problem in judged(documents))


def test_a_lost_key_is_told_as_that() -> None:
    empty = KeyRing("20270101-bbbbbbbb", {"20270101-bbbbbbbb": b"n" * 32})
    problems = verify("redis", chain(1), empty).problems
    assert "is not in the key file" in problems[0].what
    assert "BILTEN_BACKUPS__KEY_FILE" in problems[0].next
