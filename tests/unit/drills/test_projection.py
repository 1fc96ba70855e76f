"""What a drill says of production's size, and the page that people read."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bilten_orchestration.drills.markdown import page
from bilten_orchestration.drills.projection import projection
from bilten_orchestration.errors import Problem
from bilten_orchestration.settings import DrillSettings
from tests.unit.drills.test_attestation import report

MEASURED = replace(
    report(1),
    rto_seconds=30.0,
    restored_bytes=2_000_000_000,
    phases={"find": 2.0, "download": 15.0, "load": 5.0, "replay": 7.0, "first_query": 1.0, "proof": 400.0},
)


def test_what_grows_grows_and_what_does_not_does_not() -> None:
    found = projection(MEASURED, 10_000_000_000)
    assert found is not None
    assert found.fixed_seconds == pytest.approx(10.0)
    assert found.bytes_per_second == pytest.approx(1e8)
    assert found.seconds == pytest.approx(110.0)
    assert found.formula == "10.0 s fixed + 10.0 GB / 100.0 MB/s = 110 s"


def test_little_data_gives_a_bound() -> None:
    found = projection(replace(MEASURED, restored_bytes=1_000_000), 1_000_000_000)
    assert found is not None
    assert found.at_most
    assert found.formula.endswith("= at most 20,010 s: 1.0 MB tell little of the rate")


@given(st.integers(1, 1 << 50))
def test_its_own_size_takes_what_it_took(size: int) -> None:
    measured = replace(MEASURED, restored_bytes=size)
    found = projection(measured, size)
    assert found is not None
    assert found.seconds == pytest.approx(30.0)
    larger = projection(measured, size * 2)
    assert larger is not None
    assert found.seconds < larger.seconds <= 2 * found.seconds


def test_none_of_a_drill_that_came_to_nothing() -> None:
    assert projection(replace(MEASURED, rto_seconds=None), 1) is None
    assert projection(replace(MEASURED, restored_bytes=0), 1) is None


def test_the_page() -> None:
    text = page([MEASURED], DrillSettings(redis_production_bytes=10_000_000_000))
    assert text.startswith("## redis, way `server`: passed\n")
    assert "| Projected for production | 10.0 s fixed + 10.0 GB / 100.0 MB/s = 110 s |" in text
    assert "| download | 15.00 |" in text
    assert "| keys | proven | 9 | 9 | 0.50 |" in text
    assert "| Would have been lost (RPO) | 12.5 s |" in text


def test_a_failed_one_says_phase_expected_found_and_next_and_no_text_becomes_markup() -> None:
    failed = replace(
        MEASURED,
        ok=False,
        failed_phase="download",
        finished_at=MEASURED.started_at + timedelta(seconds=1),
        problems=(Problem("an | object <b>", "sha256 a", "sha256 b", "bilten backup list"),),
    )
    text = page([failed], DrillSettings())
    assert "FAILED in download" in text
    assert "- **an \\| object &lt;b>**" in text
    for line in ("  - expected: sha256 a", "  - found: sha256 b", "  - next: `bilten backup list`"):
        assert line in text
