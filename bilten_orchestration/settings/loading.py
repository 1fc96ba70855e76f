"""Settings read from stack.env and the environment, and turned back into variables.

What there is to set stands in the sections beside this; which variables exist follows from it.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo

from bilten_orchestration.errors import Problem, SettingsError
from bilten_orchestration.settings import CHECKOUT, PREFIX, Section, Settings


def home_directory(environ: Mapping[str, str] | None = None) -> Path:
    """The state directory, known before anything else is (stack.env lies in it)."""
    value = (os.environ if environ is None else environ).get(f"{PREFIX}HOME")
    return Path(value).expanduser().resolve() if value else CHECKOUT / ".bilten"


def variables() -> Iterator[tuple[str, FieldInfo]]:
    """Every variable name with its field, for messages and documents."""
    for name, field in Settings.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, Section):
            for inner, inner_field in section.model_fields.items():
                yield f"{PREFIX}{name}__{inner}".upper(), inner_field
        else:
            yield f"{PREFIX}{name}".upper(), field


def as_environment(settings: Settings) -> dict[str, str]:
    """What differs from the defaults, as BILTEN_* variables. Secrets are in clear: never log this."""
    found: dict[str, str] = {}
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, Section):
            for inner, field in type(value).model_fields.items():
                if (held := getattr(value, inner)) != field.default:
                    found[f"{PREFIX}{name}__{inner}".upper()] = _text(held)
        elif value != type(settings).model_fields[name].default:
            found[f"{PREFIX}{name}".upper()] = _text(value)
    return found


def load_settings(*, embedded: bool = True) -> Settings:
    """Read and validate all settings.

    `embedded=False` leaves stack.env out: what is then without an address is what `up` starts.
    Raises SettingsError with one problem per variable.
    """
    home = home_directory()
    known = dict(variables())
    problems = [
        Problem(
            what=f"{name} is not a setting",
            expected=(
                nearest[0] if (nearest := difflib.get_close_matches(name, known, n=1)) else "a known name"
            ),
            found=name,
            next="docs/settings.md lists all settings",
        )
        for name in sorted(os.environ)
        if name.startswith(PREFIX) and name not in known
    ]
    stack_env = home / "stack.env"
    try:
        settings = Settings(_env_file=stack_env if embedded and stack_env.exists() else None, home=home)
    except ValidationError as error:
        from bilten_orchestration.settings.reference import problem

        for detail in error.errors(include_input=False, include_url=False):
            name = PREFIX + "__".join(str(part) for part in detail["loc"]).upper()
            if name in known or not problems:
                problems.append(problem(name, known.get(name), detail["msg"], stack_env))
    if problems:
        raise SettingsError(problems)
    return settings


def _text(value: Any) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)
