"""Statements as they may be stored and shown: no literal, no secret.

pg_stat_statements replaces the constants of SELECT, INSERT, UPDATE, DELETE and MERGE, but not those of
utility statements (`alter role ... password`, `create subscription ... connection`), and forgets to where an
entry was evicted between parsing and execution (its manual page says so). So: of a utility statement only the
leading keywords are kept, of all others string constants are masked again, and numbers of five digits or more
(shorter ones are precisions, or positions in ORDER BY). Comments go, which may hold anything. What cannot be
told apart (a quote without its end) is treated like a utility statement.
"""

from __future__ import annotations

import re

MASK = "'?'"
LENGTH = 10_000
EVICTED = "(evicted before its text was read)"

_OPTIMIZABLE = frozenset({"select", "insert", "update", "delete", "merge", "with", "values", "table"})
_TOKEN = re.compile(
    r"""
      (?P<identifier>"(?:[^"]|"")*")
    | (?P<escaped>(?<![\w$])[eE]'(?:[^'\\]|\\.|'')*')
    | (?P<string>(?:(?<![\w$])(?:[bBxXnN]|[uU]&))?'(?:[^']|'')*')
    | (?P<dollar>(?<![\w$])(?:\$\$.*?\$\$|\$(?P<tag>[^\W\d]\w*)\$.*?\$(?P=tag)\$))
    | (?P<number>(?<![\w$.])\d[\d_.]{4,}(?!\w))
    | (?P<line>--[^\n]*)
    | (?P<block>/\*)
    """,
    re.VERBOSE | re.DOTALL,
)
_BOUNDARY = re.compile(r"/\*|\*/")
_OPEN = re.compile(r"['\"]|\$(?:[^\W\d]\w*)?\$")  # what still begins a constant or a name has no end
_WORD = re.compile(r"[A-Za-z]+")


def masked(statement: str) -> str:
    """The statement on one line, as it may be stored."""
    parts: list[str] = []
    at = 0
    while found := _TOKEN.search(statement, at):
        parts.append(statement[at : found.start()])
        at = found.end()
        if found.group("identifier"):
            parts.append(found.group())
        elif found.group("number"):
            parts.append("0")
        elif found.group("line"):
            parts.append(" ")
        elif found.group("block"):
            at = _end_of_comment(statement, at)
            parts.append(" ")
        else:
            parts.append(MASK)
    parts.append(statement[at:])
    rest = "".join(part for part in parts if part != MASK and not part.startswith('"'))
    text = " ".join("".join(parts).split()).rstrip("; ")
    word = _WORD.match(text.lstrip("( "))
    if word is None or word.group().lower() not in _OPTIMIZABLE or _OPEN.search(rest):
        return command(text)
    return text if len(text) <= LENGTH else text[:LENGTH] + " ..."


def command(text: str) -> str:
    """The two leading keywords of a utility statement: `ALTER ROLE ...`."""
    words = _WORD.findall(text)[:1]
    second = re.match(r"\W*[A-Za-z]+\s+([A-Za-z]+)", text)
    if second is not None and second.group(1).lower() in _OBJECTS:
        words.append(second.group(1))
    return " ".join(word.upper() for word in words) + " ..." if words else "(unreadable statement)"


#: What may follow the verb of a utility statement: anything else might be somebody's name or value.
_OBJECTS = frozenset(
    (  # noqa: SIM905 a list of words
        "aggregate cast collation constraint conversion database default domain event extension foreign"
        " function group index language large materialized operator or policy procedure publication role"
        " routine rule schema sequence server statistics subscription system table tablespace temp temporary"
        " text transaction transform trigger type unique unlogged user view work"
    ).split()
)


def _end_of_comment(statement: str, at: int) -> int:
    """Comments nest in PostgreSQL; one without an end takes the rest."""
    depth = 1
    while depth:
        found = _BOUNDARY.search(statement, at)
        if found is None:
            return len(statement)
        depth += 1 if found.group() == "/*" else -1
        at = found.end()
    return at
