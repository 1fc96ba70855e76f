"""Digests are compared by table."""

from __future__ import annotations

import pytest

from bilten_orchestration.drills.postgres.digests import Digest, Digests, differences
from bilten_orchestration.drills.postgres.proofs import equal

BASE = {"a.x": Digest(3, "17"), "a.y": Digest(0, "0")}


def _digests(tables: dict[str, Digest]) -> Digests:
    return Digests(tables, {}, (), 10**8, 2.0)


def test_equal() -> None:
    assert differences(_digests(BASE), _digests(dict(BASE))) == ()
    assert equal(_digests(BASE), _digests(BASE)).ok


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
    proof = equal(_digests(BASE), _digests(changed))
    assert not proof.ok
    assert said in proof.found


def test_the_cost_of_100_gb() -> None:
    assert _digests(BASE).seconds_per_100_gb == 2000
