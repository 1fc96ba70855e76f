"""Binary tuples against a reader of the format written from the manual (COPY, "Binary Format")."""

from __future__ import annotations

import struct
from decimal import Decimal

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bilten_orchestration.demo import copying as c
from bilten_orchestration.demo.plan import NONE


def fields(batch: c.Tuples) -> list[list[bytes | None]]:
    rows, at = [], 0
    while at < len(batch.data):
        (count,) = struct.unpack_from(">h", batch.data, at)
        at += 2
        row: list[bytes | None] = []
        for _ in range(count):
            (length,) = struct.unpack_from(">i", batch.data, at)
            at += 4
            row.append(None if length < 0 else batch.data[at : at + length])
            at += max(length, 0)
        rows.append(row)
    return rows


def number(data: bytes) -> Decimal:
    count, weight, sign, scale = struct.unpack_from(">hhHh", data)
    digits = struct.unpack_from(f">{count}h", data, 8)
    value = sum(Decimal(digit) * Decimal(10_000) ** (weight - place) for place, digit in enumerate(digits))
    return (-value if sign else value).quantize(Decimal(1).scaleb(-scale))


@settings(deadline=None)  # a busy machine is not a failure
@given(st.lists(st.integers(-(10**14), 10**14), min_size=1, max_size=20), st.sampled_from([3, 6, 10]))
def test_numbers_are_exact(values: list[int], decimals: int) -> None:
    batch = c.tuples("t", {"a": c.numeric(np.array(values, dtype=np.int64), decimals)})
    assert [number(row[0] or b"") for row in fields(batch)] == [Decimal(v).scaleb(-decimals) for v in values]


@settings(deadline=None)  # a busy machine is not a failure
@given(st.lists(st.one_of(st.none(), st.text(max_size=12)), min_size=1, max_size=20))
def test_texts_of_any_length_and_nulls_stand_beside_fixed_fields(values: list[str | None]) -> None:
    batch = c.tuples("t", {"a": c.text(values), "b": c.int4(np.arange(len(values)))})
    assert batch.rows == len(values)
    expected = [[None if v is None else v.encode(), struct.pack(">i", n)] for n, v in enumerate(values)]
    assert fields(batch) == expected


def test_null_moments_and_references() -> None:
    ids = np.arange(32, dtype=np.uint8).reshape(2, 16)
    moments = np.array([946_684_800_000_001, NONE], dtype=np.int64)
    batch = c.tuples("t", {"at": c.timestamp(moments), "of": c.reference(ids, np.array([-1, 1]))})
    assert fields(batch) == [[struct.pack(">q", 1), None], [None, bytes(range(16, 32))]]


def test_an_array_of_texts() -> None:
    batch = c.tuples("t", {"a": c.text_array([[], ["a", "bé"]])})
    empty, full = (row[0] or b"" for row in fields(batch))
    assert empty == struct.pack(">iii", 0, 0, 25)
    assert full == struct.pack(">iiiii", 1, 0, 25, 2, 1) + b"\0\0\0\1a" + b"\0\0\0\3" + "bé".encode()
