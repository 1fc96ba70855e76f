"""No secret leaves in a message or an answer, whatever an error's text holds."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pydantic import SecretStr

from bilten_orchestration.errors import Problem
from bilten_orchestration.settings import Section, Settings

_LEAST = 6  # characters: shorter values would blot out words
_ACCOUNT = re.compile(r"(?<=://)[^/\s@]+@")
_NAMED = re.compile(
    r"(?i)(?<![a-z])(password|passwd|pwd|secret|token|api[_-]?key|access[_-]?key(?:[_-]?id)?|authorization)"
    r"(\s*[=:]\s*)(?:bearer\s+|basic\s+)?(\"[^\"]*\"|'[^']*'|[^\s,;&)]+)"
)
HIDDEN = "***"


class Secrecy:
    """Takes every known secret, and what looks like one, out of texts."""

    def __init__(self, settings: Settings) -> None:
        found = {text for text in _secrets(settings) if len(text) >= _LEAST}
        # the longest first: one may hold another
        ordered = sorted(found, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def clean(self, text: str) -> str:
        if self._known is not None:
            text = self._known.sub(HIDDEN, text)
        return _NAMED.sub(rf"\1\2{HIDDEN}", _ACCOUNT.sub(f"{HIDDEN}@", text))

    def problem(self, problem: Problem) -> Problem:
        return Problem(**{name: self.clean(value) for name, value in problem.as_dict().items()})


def _secrets(settings: Settings) -> Iterable[str]:
    for name in type(settings).model_fields:
        section = getattr(settings, name)
        if not isinstance(section, Section):
            continue
        for inner in type(section).model_fields:
            value = getattr(section, inner)
            if isinstance(value, SecretStr):
                whole = value.get_secret_value()
                yield whole
                yield from whole.split()  # several URLs in one
