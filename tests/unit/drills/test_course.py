"""A course knows its phases, the one that failed, and when the first query was answered."""

from __future__ import annotations

import pytest

from bilten_orchestration.drills.course import Course
from bilten_orchestration.drills.report import Proof


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_phases_add_up_and_the_first_query_counts_from_the_order() -> None:
    clock = Clock()
    course = Course(clock)
    clock.now += 5
    with course.phase("find"):
        clock.now += 2
    with course.phase("find"):
        clock.now += 1
    course.took("download", 4.5)
    course.first_query()
    clock.now += 50
    course.first_query()
    assert course.phases == {"find": 3.0, "download": 4.5}
    assert course.rto_seconds == 8.0
    assert course.failed_phase is None


def test_the_innermost_phase_is_the_one_that_failed() -> None:
    course = Course(Clock())
    with pytest.raises(RuntimeError), course.phase("restore"), course.phase("replay"):
        raise RuntimeError
    assert course.failed_phase == "replay"
    assert course.rto_seconds is None


@pytest.mark.parametrize(
    ("ok", "warns", "passes"), [(True, False, True), (False, True, True), (False, False, False)]
)
def test_a_warning_passes(ok: bool, warns: bool, passes: bool) -> None:
    course = Course(Clock())
    course.prove(Proof("rows", ok, "100", "0", 0.1, warns))
    assert course.ok is passes
