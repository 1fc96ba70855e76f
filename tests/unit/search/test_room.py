"""Whether shards fit on the disks of OpenSearch. The server's own answers: tests/integration/drills."""

from __future__ import annotations

import pytest

from bilten_orchestration.errors import Refused
from bilten_orchestration.search.room import fits, kept_free

GB = 1 << 30


@pytest.mark.parametrize(
    ("watermark", "kept"),
    [("85%", 15 * GB), ("0.85", 15 * GB), ("2gb", 2 * GB), ("500mb", 500 << 20), ("100%", 0), ("1b", 1)],
)
def test_a_watermark_says_what_is_used_or_what_is_free(watermark: str, kept: int) -> None:
    assert kept_free(watermark, 100 * GB) == pytest.approx(kept, abs=1)


def test_one_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(Refused, match="cannot be read"):
        kept_free("much", GB)


@pytest.mark.parametrize(
    ("rooms", "fit"),
    [
        ([30], True),
        ([29], False),
        ([10, 10, 10], True),
        ([20, 9], False),  # 29 in all, and the third shard fits on neither
        ([20, 10], True),
        ([], False),
    ],
)
def test_every_shard_has_to_fit_on_a_node(rooms: list[int], fit: bool) -> None:
    assert fits(rooms, 3, 10) is fit
