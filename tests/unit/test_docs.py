"""What the documents point at exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`((?:unit|integration|faults|e2e)/[a-z_/0-9]+\.py)(?:::([a-z_0-9]+)(?:\.\.\.)?)?`")


@pytest.mark.parametrize(
    ("path", "test"), sorted(set(NAMED.findall((ROOT / "docs/faults.md").read_text("utf-8"))))
)
def test_a_test_that_is_named_in_faults(path: str, test: str) -> None:
    assert f"def {test}" in (ROOT / "tests" / path).read_text("utf-8")
