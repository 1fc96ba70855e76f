"""What the documents point at exists: files, headings, tests, commands and options, targets, settings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from bilten_orchestration.cli.main import build
from bilten_orchestration.settings.loading import variables

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
CODE = re.compile(r"^```[a-z]*\n(.*?)^```|`([^`\n]+(?:\n[^`\n]+)?)`", re.MULTILINE | re.DOTALL)
TEST = re.compile(r"\b((?:unit|integration|faults|e2e)/[a-z_/0-9]+\.py)(?:::([a-z_0-9]+))?")
SETTING = re.compile(r"\bBILTEN_[A-Z0-9_]*[A-Z0-9]\b")
TARGET = re.compile(r"\bmake ([a-z-]+)\b")
COMMAND = re.compile(r"(?:^|[\s(;&|])(?:\.venv/bin/)?bilten ((?:[a-z-]+)(?:[^`|;&#>)\n]|\\\n)*)")
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]


@cache
def text(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def code(name: str) -> Iterator[str]:
    """Blocks and spans of code."""
    for block, span in CODE.findall(text(name)):
        yield block or span


def anchor(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).replace(" ", "-")


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    missing = []
    for link in LINK.findall(re.sub(r"```.*?```", "", text(name), flags=re.DOTALL)):
        if link.startswith(("https://", "http://", "mailto:")):
            continue
        path, _, fragment = link.partition("#")
        target = (ROOT / name).parent / path if path else ROOT / name
        headings = HEADING.findall(target.read_text("utf-8")) if fragment and target.exists() else []
        if not target.exists() or (fragment and fragment not in map(anchor, headings)):
            missing.append(link)
    assert missing == []


@pytest.mark.parametrize("name", NAMES)
def test_tests_that_are_named_exist(name: str) -> None:
    missing = [
        f"{path}::{test}"
        for path, test in TEST.findall(text(name))
        if not (ROOT / "tests" / path).exists()
        or f"def {test.rstrip('_')}" not in (ROOT / "tests" / path).read_text("utf-8")
    ]
    assert missing == []


@pytest.mark.parametrize("name", NAMES)
def test_settings_that_are_named_exist(name: str) -> None:
    known = {variable for variable, _ in variables()}
    unknown = {
        setting
        for setting in SETTING.findall(text(name))
        if setting not in known and not any(other.startswith(f"{setting}__") for other in known)
    }
    assert unknown == set()


@pytest.mark.parametrize("name", NAMES)
def test_targets_that_are_named_exist(name: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = {target for part in code(name) for target in TARGET.findall(part)}
    assert named - targets == set()


@pytest.mark.parametrize("name", NAMES)
def test_commands_that_are_named_exist_with_their_options(name: str) -> None:
    wrong = []
    for part in code(name):
        for given in COMMAND.findall(part):
            words = shlex.split(given.replace("\\\n", " ").replace("'", "").replace('"', ""))
            if problem := unknown(words):
                wrong.append(f"bilten {given.strip()}: {problem}")
    assert wrong == []


@cache
def bilten() -> Any:
    return typer.main.get_command(build())


def unknown(words: list[str]) -> str | None:
    """What of a command line `bilten` does not have."""
    command = bilten()
    while words and (commands := getattr(command, "commands", None)) and not words[0].startswith("-"):
        if words[0] not in commands:
            return f"no command {words[0]}"
        command, words = commands[words[0]], words[1:]
    options = {"--help"}
    for parameter in command.params:
        options |= {*parameter.opts, *parameter.secondary_opts}
    for word in words:
        option = word.partition("=")[0].strip("[].,")
        if option.startswith("--") and option not in options:
            return f"no option {option}"
    return None
