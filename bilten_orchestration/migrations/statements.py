"""One SQL file into its statements.

Cut at the semicolons that a real tokenizer reports, so that strings, quoted names, dollar quotes and
nested comments may hold any. A body in SQL-standard form (BEGIN ATOMIC ... END) holds semicolons that
end no statement; it is refused, since `$$ ... $$` says the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from sqlglot import Token

Store = Literal["postgres", "clickhouse"]


@dataclass(frozen=True, slots=True)
class Statement:
    """`text` without its semicolon and without comments around it; `line` is where it begins (from 1)."""

    text: str
    line: int

    @property
    def title(self) -> str:
        """Its first words, for progress and errors."""
        words = " ".join(self.text.split())
        return words if len(words) <= 90 else f"{words[:87]}..."


class UnreadableSql(ValueError):
    """The tokenizer does not understand the text, or it holds a form that cannot be cut."""


def split(sql: str, store: Store) -> tuple[Statement, ...]:
    """Raises UnreadableSql (an unterminated string or comment, BEGIN ATOMIC)."""
    from sqlglot import TokenType
    from sqlglot.errors import TokenError

    try:
        tokens = _tokenize(sql, store)
    except TokenError as error:
        raise UnreadableSql(
            f"an unterminated string, quote or comment ({str(error).splitlines()[0]})"
        ) from None

    statements: list[Statement] = []
    current: list[Token] = []
    for token in tokens:
        if token.token_type is TokenType.SEMICOLON:
            _append(statements, current, sql)
            current = []
            continue
        if current and token.text.upper() == "ATOMIC" and current[-1].text.upper() == "BEGIN":
            raise UnreadableSql(
                f"BEGIN ATOMIC in line {_line(sql, token.start)}; write the body as $$ ... $$"
            )
        current.append(token)
    _append(statements, current, sql)
    return tuple(statements)


def _tokenize(sql: str, store: Store) -> list[Token]:
    if store == "postgres":
        from sqlglot.dialects.postgres import Postgres

        return Postgres().tokenize(sql)
    from sqlglot.dialects.clickhouse import ClickHouse

    return ClickHouse().tokenize(sql)


def _append(statements: list[Statement], tokens: list[Token], sql: str) -> None:
    if tokens:
        start, end = tokens[0].start, tokens[-1].end
        statements.append(Statement(sql[start : end + 1].rstrip(), _line(sql, start)))


def _line(sql: str, offset: int) -> int:
    return sql.count("\n", 0, offset) + 1
