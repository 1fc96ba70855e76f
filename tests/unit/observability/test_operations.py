"""No alert without its section in the documents, and no section without its alert."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from bilten_orchestration.observability import sources
from bilten_orchestration.observability.finding import KINDS, Kind
from bilten_orchestration.settings.loading import variables

ROOT = Path(__file__).parents[3]
# where the command depends on what failed, and stands in the message
BY_MESSAGE = ("run-failed", "run-stuck", "check-failed", "mart-not-fresh")
PAGE = (ROOT / "docs" / "operations.md").read_text("utf-8")


def test_every_kind_of_alert_has_its_section() -> None:
    alerts = PAGE.partition("\n## Alerts\n")[2]
    sections = dict(re.findall(r"^### ([a-z-]+)\n(.+?)(?=^### |\Z)", alerts, re.MULTILINE | re.DOTALL))
    assert list(sections) == list(get_args(Kind)) == list(KINDS)
    for kind, text in sections.items():
        assert len(text) > 150, f"{kind}: what it means, and what to do"
        assert "`bilten " in text or kind in ("run-failed", "run-stuck", "check-failed", "mart-not-fresh"), (
            kind
        )


def test_settings_that_it_names_are_there() -> None:
    named = set(re.findall(r"BILTEN_[A-Z_]+", PAGE))
    assert named - {name for name, _ in variables()} == set()


def test_every_kind_is_told_by_a_source() -> None:
    directory = Path(sources.__file__).parent
    code = "".join(file.read_text("utf-8") for file in directory.glob("*.py"))
    code += (directory.parent / "board.py").read_text("utf-8")
    assert [kind for kind in KINDS if f'"{kind}"' not in code] == []
