"""Generic plans of statements, where asking for one is safe.

EXPLAIN (GENERIC_PLAN) plans with parameters left open and executes nothing (PostgreSQL 16 and later). It is
asked for one SELECT at a time: a text with `;` could be two statements, one with a word that writes or locks
is left alone. Planning may still call functions that claim to be immutable or stable, and takes the lock of
a reader: so it happens in a read-only transaction that is rolled back, with a lock_timeout, and ends after
`plan_milliseconds`. A plan that failed is recorded with the reason and not asked for again.
"""

from __future__ import annotations

import json
import re

import psycopg

from bilten_orchestration.errors import StoreUnavailable
from bilten_orchestration.observability.queries.text import EVICTED, MASK
from bilten_orchestration.stores.postgres import Connection

FIRST_SERVER = 160000
LOCK_MILLISECONDS = 100

_SELECT = re.compile(r"\(*\s*(select|with|values|table)\b", re.IGNORECASE)
_WRITES = re.compile(
    r"\b(insert|update|delete|merge|into|for\s+(?:no\s+key\s+)?(?:update|share|key\s+share))\b", re.IGNORECASE
)
# `interval '1 day'` is kept as `interval $1`, which PostgreSQL does not read again
_TYPED = re.compile(r"\b(interval|date|timestamptz|timestamp|time)\s+(\$\d+)", re.IGNORECASE)


def refusal(text: str, server_version: int) -> str | None:
    """Why this statement gets no plan; None where it may be asked for. `text` is masked."""
    if text == EVICTED:
        return "its text was evicted"
    if server_version < FIRST_SERVER:
        return "EXPLAIN (GENERIC_PLAN) came with PostgreSQL 16"
    if not _SELECT.match(text) or _WRITES.search(text):
        return "not a statement that only reads"
    if ";" in text:
        return "its text has a semicolon"
    if text.endswith(" ..."):
        return "its text is cut off"
    return None


def plan(connection: Connection, text: str, milliseconds: int) -> tuple[str | None, str | None]:
    """The plan as JSON, or why there is none. `connection` is in autocommit. Raises StoreUnavailable when the
    server goes away meanwhile."""
    statement = "explain (generic_plan, verbose, format json) " + _TYPED.sub(r"cast(\2 as \1)", text)
    try:
        with connection.transaction(force_rollback=True):
            connection.execute("set transaction read only")
            connection.execute(f"set local statement_timeout = {milliseconds:d}")
            connection.execute(f"set local lock_timeout = {LOCK_MILLISECONDS:d}")
            # without parameters this goes as a simple query: only there may $1 stay open
            row = connection.execute(statement.encode()).fetchone()
    except psycopg.Error as error:
        if connection.broken or connection.closed:
            raise StoreUnavailable(
                "PostgreSQL went away while a statement was planned",
                expected="a plan, or an error",
                found=str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__,
                next="bilten logs postgres; the rows stand, the next look asks for the plan again",
            ) from None
        reason = (error.diag.message_primary or type(error).__name__) if error.diag else type(error).__name__
        masked = " (a constant in it is masked)" if MASK in text else ""
        return None, f"{reason}{masked}"
    if row is None:
        return None, "no plan came back"
    return json.dumps(row[0]), None
