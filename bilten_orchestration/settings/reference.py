"""Settings in words: what is said about a wrong one, and docs/settings.md.

`python -m bilten_orchestration.settings.reference` prints the page.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from bilten_orchestration.errors import Problem
from bilten_orchestration.settings import ADDRESSES, CHECKOUT, PREFIX, Settings
from bilten_orchestration.settings.loading import variables

HEADING = """\
# Settings

Made from `bilten_orchestration/settings/` by `make docs`; do not edit.

Every setting is an environment variable. The embedded stack keeps addresses and secrets of what it started in
`.bilten/stack.env`; a variable in the environment wins over that file. Once a store has an address in the
environment (`HOST`, `ENDPOINT_URL`), nothing in that file counts for it, and `bilten up` does not start it.
"""


def render() -> str:
    """The whole page, Markdown."""
    sections: dict[str, list[str]] = {}
    for variable, field in variables():
        section, _, rest = variable.removeprefix(PREFIX).partition("__")
        default = "(generated or none)" if is_secret(field) else _default(field.default)
        row = f"| `{variable}` | {accepts(field)} | {default} | {field.description} |"
        sections.setdefault(section if rest else "", []).append(row)
    text = HEADING
    for section, rows in sections.items():
        title, about = "General", ""
        if section:
            annotation = Settings.model_fields[section.lower()].annotation
            title, about = section.lower(), f"{(annotation.__doc__ or '').strip()}\n\n"
        text += (
            f"\n## {title}\n\n{about}| variable | accepts | default | meaning |\n| --- | --- | --- | --- |\n"
        )
        text += "\n".join(rows) + "\n"
    return text


def accepts(field: FieldInfo) -> str:
    """What a variable may hold, in words: `a whole number from 1 to 65535`."""
    kinds = [kind for kind in (get_args(field.annotation) or (field.annotation,)) if kind is not type(None)]
    bounds = {key: value for item in field.metadata for key, value in _bounds(item)}
    if get_origin(field.annotation) is Literal:
        return "one of " + ", ".join(map(str, kinds))
    if kinds == [bool]:
        return "true or false"
    if kinds in ([int], [float]):
        low, high = bounds.get("ge"), bounds.get("le")
        span = (
            f" from {low} to {high}" if high is not None else f", at least {low}" if low is not None else ""
        )
        return ("a whole number" if kinds == [int] else "a number") + span
    if kinds == [Path]:
        return "a path"
    if "pattern" in bounds:
        return f"text that matches {bounds['pattern']}"
    if "max_length" in bounds:
        return f"{bounds.get('min_length', 0)} to {bounds['max_length']} characters"
    return "text, not empty" if bounds.get("min_length") else "text"


def is_secret(field: FieldInfo) -> bool:
    return field.annotation is SecretStr


def _bounds(item: Any) -> list[tuple[str, Any]]:
    names = ("ge", "le", "min_length", "max_length", "pattern")
    return [(name, value) for name in names if (value := getattr(item, name, None)) is not None]


def problem(name: str, field: FieldInfo | None, message: str, stack_env: Path) -> Problem:
    """One refused variable, or one section whose variables do not go together (`field` is None)."""
    if field is None:
        store = name.rstrip("_")
        return Problem(
            what=f"{store}: {message.removeprefix('Value error, ')}",
            expected="settings that go together"
            if any(key.startswith(store) for key in ADDRESSES)
            else "a known name",
            found=name,
            next=f"the environment and {stack_env}; docs/settings.md lists all settings",
        )
    value = os.environ.get(name)
    # an address may hold an account
    found = f"the value in {stack_env}" if value is None else re.sub(r"//[^/@]*@", "//***@", repr(value))
    return Problem(
        what=f"{name} is not valid: {message.removeprefix('Value error, ')}",
        expected=f"{accepts(field)} ({field.description})",
        found="(hidden)" if is_secret(field) else found,
        next=f"set {name} to such a value, or unset it for the default",
    )


def _default(value: object) -> str:
    if value is None:
        return "unset"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{text.replace(str(CHECKOUT), '<checkout>')}`"


if __name__ == "__main__":
    print(render(), end="")
