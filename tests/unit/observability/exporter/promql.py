"""Names of series in PromQL, without a parser of it: enough to hold rules and dashboards against a scrape."""

from __future__ import annotations

import re

# a name of ours, wherever it stands that is no string
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'')
_NAME = re.compile(r"(?<![\w:.])(?:[a-z_]+:)?(?:bilten|process)_[\w:]*")


def names(expression: str) -> set[str]:
    """Every series of the platform, and every recorded one, that an expression reads."""
    return set(_NAME.findall(_STRING.sub('""', expression)))


def matchers(expression: str) -> set[tuple[str, str]]:
    """Series, and the label that each matcher in its braces asks for."""
    found = set()
    for name, inside in re.findall(r"([a-zA-Z_:][\w:]*)\{([^}]*)\}", expression):
        found |= {(name, label) for label in re.findall(r"(\w+)\s*(?:=~|!=|!~|=)\s*\"", inside)}
    return found
