"""docs/disaster-recovery.md: every command that it shows is one, with options that there are."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from bilten_orchestration.cli.main import build

PAGE = (Path(__file__).parents[3] / "docs/disaster-recovery.md").read_text("utf-8")
COMMANDS = [
    line
    for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]


def _parsed(words: list[str]) -> None:
    """As far as the command that would run, with its values converted; nothing is run."""
    command: Any = typer.main.get_command(build())
    context: Any = command.context_class(command, info_name="bilten")
    while hasattr(command, "resolve_command"):
        name, found, words = command.resolve_command(context, words)
        assert found is not None
        command = found
        context = command.context_class(command, info_name=name, parent=context)
    command.parse_args(context, words)


def test_there_are_commands_for_every_disaster() -> None:
    assert len(COMMANDS) > 15
    for wanted in ("recover rows", "recover site", "restore postgres", "sync --accept-epoch"):
        assert any(f"bilten {wanted}" in line for line in COMMANDS)


@pytest.mark.parametrize("line", sorted(set(COMMANDS)))
def test_a_command_parses(line: str) -> None:
    program, *words = shlex.split(line)
    assert program == "bilten"
    _parsed(words)


@pytest.mark.parametrize("line", ["bilten recover rows --tabel x", "bilten recover nothing"])
def test_a_wrong_one_does_not(line: str) -> None:
    with pytest.raises(Exception, match="No such"):
        _parsed(shlex.split(line)[1:])


def test_what_changed_since_is_on_the_page() -> None:
    from bilten_orchestration.recovery.comparison import CHANGED_SINCE

    assert [word for word in CHANGED_SINCE if f"`{word}`" not in PAGE] == []


@pytest.mark.parametrize("anchor", re.findall(r"\]\(#([a-z-]+)\)", PAGE))
def test_an_anchor(anchor: str) -> None:
    headings = {heading.lower().replace(" ", "-") for heading in re.findall(r"^## (.+)$", PAGE, re.MULTILINE)}
    assert anchor in headings
