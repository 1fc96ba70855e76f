"""Roles of pg_dumpall's script, made on another server. Roles that are there stay as they are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from bilten_orchestration.stores.postgres import Connection

# strings and quoted names may hold semicolons; what begins with a backslash is for psql
_STATEMENT = re.compile(r"""(?:'(?:[^']|'')*'|"(?:[^"]|"")*"|[^;'"])+;""")
_NOT_SQL = re.compile(r"^(?:--|\\(?:un)?restrict\b).*$", re.MULTILINE)
_NAME = r'("(?:[^"]|"")+"|[^\s;"]+)'
_MADE = re.compile(rf"CREATE ROLE {_NAME};")
# whose statement it is: a membership is the member's
_ABOUT = re.compile(rf"(?:ALTER ROLE|COMMENT ON ROLE|GRANT {_NAME} TO) {_NAME}")
_GRANTOR = re.compile(rf" GRANTED BY {_NAME};$")


@dataclass(frozen=True, slots=True)
class Roles:
    """`made` are new; `kept` were there and are unchanged."""

    made: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


def make(connection: Connection, script: str) -> Roles:
    """Make the roles of the script that are not there, with what it says of them, all or none."""
    there = {name for (name,) in connection.execute("select rolname::text from pg_roles").fetchall()}
    made: list[str] = []
    kept: list[str] = []
    with connection.transaction():
        for statement in statements(script):
            if found := _MADE.fullmatch(statement):
                (kept if _plain(found[1]) in there else made).append(_plain(found[1]))
                if _plain(found[1]) in there:
                    continue
            elif not (found := _ABOUT.match(statement)) or _plain(found[2]) not in made:
                continue
            connection.execute(_GRANTOR.sub(";", statement).encode())
    return Roles(tuple(made), tuple(kept))


def statements(script: str) -> Iterator[str]:
    for found in _STATEMENT.finditer(_NOT_SQL.sub("", script)):
        yield found[0].strip()


def _plain(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
