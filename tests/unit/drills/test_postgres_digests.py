"""Digests are compared by table."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from bilten_orchestration.drills.postgres.digests import Digest, Digests, differences
from bilten_orchestration.drills.postgres.proofs import equal
from bilten_orchestration.drills.postgres.unchanged import Unchanged, still
from bilten_orchestration.drills.report import SeenTable

SEEN_AT = datetime(2026, 11, 22, 5, tzinfo=UTC)
BASE = {"a.x": Digest(3, "17"), "a.y": Digest(0, "0")}


def _digests(tables: dict[str, Digest]) -> Digests:
    return Digests(tables, {}, (), 10**8, 2.0)


def test_equal() -> None:
    assert differences(_digests(BASE), _digests(dict(BASE))) == ()
    assert equal(_digests(BASE), _digests(BASE), Unchanged(why="a test")).ok


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (BASE | {"a.x": Digest(3, "18")}, "a.x: 3 rows on both sides, with other values"),
        (BASE | {"a.x": Digest(2, "17")}, "a.x: 3 rows, restored 2"),
        ({"a.x": BASE["a.x"]}, "a.y is only in production"),
        (BASE | {"a.z": Digest(0, "0")}, "a.z is only restored"),
    ],
)
def test_one_difference(changed: dict[str, Digest], said: str) -> None:
    assert differences(_digests(BASE), _digests(changed)) == (said,)
    proof = equal(_digests(BASE), _digests(changed), Unchanged())
    assert not proof.ok
    assert said in proof.found


def test_the_cost_of_100_gb() -> None:
    assert _digests(BASE).seconds_per_100_gb == 2000


@pytest.mark.parametrize(
    ("changed", "left"),
    [
        (set(), {"a.x", "a.y"}),
        ({(5, 10)}, {"a.y"}),
        ({(5, 11)}, {"a.y"}),  # its TOAST
        ({(6, 10)}, {"a.x", "a.y"}),  # of another database
        ({(5, 0)}, set()),  # of a whole database
        ({(0, 1262)}, {"a.x", "a.y"}),  # of the cluster's own
    ],
)
def test_a_table_is_unchanged_when_none_of_its_files_is_named(
    changed: set[tuple[int, int]], left: set[str]
) -> None:
    kept = {
        "a.x": SeenTable(3, "17", ((5, 10), (5, 11)), "layout", SEEN_AT),
        "a.y": SeenTable(0, "0", ((5, 20),), "layout", SEEN_AT),
    }
    assert still(kept, frozenset(changed)).keys() == left
