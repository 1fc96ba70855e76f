"""`bilten sql "..."`: one statement against ClickHouse, by default as the analyst, who can only read.

Rows are printed as they arrive: csv and json need no more memory for a million rows than for one, and
whoever has enough hangs up, which ends the statement on the server. (The driver's typed streams read
to the end of the answer when they are closed early.) Rows come as one JSON array a line with names and
types before them; they are put into their final form here, so that a Decimal keeps its cents, a failure
in the middle is told from a row, and no server setting is needed, which the analyst may not set.
"""

from __future__ import annotations

import csv
import json
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import typer

from bilten_orchestration.cli import output
from bilten_orchestration.errors import (
    BiltenError,
    Refused,
    StoreUnavailable,
    TerminalError,
    TransientError,
    UsageError,
)

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

    from bilten_orchestration.settings import Settings

TABLE_ROWS: Final = 100
WIDTH: Final = 80  # of a pipe; a terminal has its own
NARROWEST: Final = 6  # a column below this is unreadable: then one line per value
_PROGRESS_SECONDS = 2.0

_NO_ROWS = re.compile(
    r"\s*(alter|attach|backup|check|create|delete|detach|drop|exchange|grant|insert|kill|optimize|rename|replace"
    r"|restore|revoke|set|system|truncate|undrop|update|use)\b",
    re.IGNORECASE,
)
_COMMENTS = re.compile(r"\A(?:\s+|--[^\n]*(?:\n|\Z)|/\*.*?\*/)*", re.DOTALL)
_FORMAT = re.compile(r"\bformat\s+\w+\s*\Z", re.IGNORECASE)
_DECIMAL = re.compile(r"(?:Nullable\()?Decimal\(\d+, (\d+)\)")
_INTEGER = re.compile(r"(?:LowCardinality\()?(?:Nullable\()?U?Int\d+")
_CODE = re.compile(r"Code:\s*(\d+)")
_WIRE: Final = "JSONCompactEachRowWithNamesAndTypes"
_NOISE = re.compile(
    rf"\s*\(for url [^)]*\)|\s*\(version [^)]*\)|\s*FORMAT {_WIRE}|\. Expected one of:[^()]*"
    r"|__exception__\s+\S*\s*|\n\d+ \w{16}\s*\Z"  # the frame of an error after the first rows
)

# https://github.com/ClickHouse/ClickHouse/blob/master/src/Common/ErrorCodes.cpp
_DENIED = frozenset({164, 291, 497})  # READONLY, DATABASE_ACCESS_DENIED, ACCESS_DENIED
_STATEMENT_IS_WRONG = frozenset({6, 10, 16, 36, 42, 43, 46, 47, 53, 60, 62, 81, 179, 184, 215, 352, 386, 403})
_BUSY = frozenset({159, 160, 202, 209, 210, 241, 394})  # timeouts, too many queries, memory, cancelled


class Format(StrEnum):
    """How rows are printed."""

    table = "table"
    csv = "csv"
    json = "json"


class Role(StrEnum):
    """Whose rights hold."""

    analyst = "analyst"
    etl = "etl"


def register(app: typer.Typer) -> None:
    app.command("sql")(sql)


def sql(
    statement: Annotated[str, typer.Argument(help="One statement; - reads it from stdin.")],
    format_: Annotated[
        Format, typer.Option("--format", help="json: one array with an object per row, decimals as text.")
    ] = Format.table,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit", min=0, help=f"Most rows to print; 0: all. Default: {TABLE_ROWS} in a table, else all."
        ),
    ] = None,
    role: Annotated[
        Role, typer.Option("--role", help="etl may also write; analyst reads staging, marts and analytics.")
    ] = Role.analyst,
    as_json: output.Json = False,
) -> None:
    """Run one statement in ClickHouse and print its rows."""
    with output.errors("sql", as_json=as_json), _errors(role):
        from bilten_orchestration.settings.loading import load_settings

        text = _one_statement(sys.stdin.read() if statement == "-" else statement)
        client = _connect(load_settings(), role)
        try:
            if _NO_ROWS.match(_COMMENTS.sub("", text)):
                answer = client.command(text)
                done = str(answer).strip() if isinstance(answer, str | int) else ""
                output.finish("sql", {"done": True}, as_json=as_json, human=lambda: print(done or "done"))
                return
            most = (
                limit if limit is not None else TABLE_ROWS if format_ is Format.table and not as_json else 0
            )
            with _rows(client, text) as (names, types, rows):
                shown = islice(rows, most) if most else rows
                if as_json:
                    output.finish("sql", _document(names, types, shown, rows), as_json=True)
                elif format_ is Format.csv:
                    _print_csv(names, shown)
                elif format_ is Format.json:
                    _print_json(names, shown)
                else:
                    _print_table(names, types, list(shown), more=next(rows, None) is not None)
                sys.stdout.flush()
        except BrokenPipeError:  # `| head` has enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(141) from None
        finally:
            client.close()


def _one_statement(text: str) -> str:
    text = text.strip().rstrip(";").rstrip()
    if not _COMMENTS.sub("", text):
        raise UsageError(
            "there is no statement", expected="SQL", found="nothing", next='bilten sql "select 1"'
        )
    if found := _FORMAT.search(text):
        raise UsageError(
            "the format of the output is an option, not part of the statement",
            expected="--format table, csv or json",
            found=found.group().strip(),
            next="leave the FORMAT clause out",
        )
    return text


def _connect(settings: Settings, role: Role) -> Client:
    from bilten_orchestration.stores.clickhouse import connect

    return connect(settings.clickhouse, role.value)


@contextmanager
def _rows(client: Client, text: str) -> Iterator[tuple[list[str], list[str], Iterator[list[Any]]]]:
    """Names, types, and the rows as they arrive."""
    answer: Any = client.raw_stream(text, fmt=_WIRE)
    try:
        lines = _lines(answer)
        names, types = (json.loads(next(lines, b"[]")) for _ in range(2))
        yield names, types, _telling(_read(lines, types))
    finally:
        answer.close()


def _lines(answer: Any) -> Iterator[bytes]:
    rest = b""
    for block in answer.stream(1 << 16):  # chunk by chunk: what stands before a broken end still arrives
        *lines, rest = (rest + block).split(b"\n")
        for number, line in enumerate(lines):
            if not line.startswith(b"["):
                _broken_off(b"\n".join([*lines[number:], rest]))
            yield line
    if rest.strip():
        _broken_off(rest)


def _broken_off(said: bytes) -> NoReturn:
    """The server failed after the first rows were sent: the error stands where a row would."""
    from clickhouse_connect.driver.exceptions import DatabaseError

    raise DatabaseError(said.decode(errors="replace"))


def _read(lines: Iterator[bytes], types: list[str]) -> Iterator[list[Any]]:
    """Values as Python has them; decimals as text with all their digits, however deep they lie."""
    decimals = [at for at, kind in enumerate(types) if "Decimal" in kind]
    integers = [at for at, kind in enumerate(types) if _INTEGER.match(kind)]
    decode = json.JSONDecoder(parse_float=Decimal if decimals else None).decode
    for line in lines:
        row: list[Any] = decode(line.decode())
        if decimals:
            row = [_settled(value, kind) for value, kind in zip(row, types, strict=True)]
        for at in integers:
            if isinstance(row[at], str):  # some servers quote integers of 64 bits
                row[at] = int(row[at])
        yield row


def _settled(value: Any, kind: str) -> Any:
    if isinstance(value, list):
        return [_settled(item, kind) for item in value]
    if isinstance(value, dict):
        return {key: _settled(item, kind) for key, item in value.items()}
    if isinstance(value, Decimal | int) and (found := _DECIMAL.match(kind)):
        return f"{value:.{found.group(1)}f}"
    if isinstance(value, Decimal):
        return str(value) if "Decimal" in kind else float(value)
    return value


def _telling(rows: Iterator[list[Any]]) -> Iterator[list[Any]]:
    told = time.monotonic()
    for number, row in enumerate(rows, 1):
        if number % 10_000 == 0 and time.monotonic() - told > _PROGRESS_SECONDS:
            told = time.monotonic()
            output.say(f"{number:,} rows")
        yield row


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _distinct(names: Sequence[str]) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(
            "several columns have the same name",
            expected="distinct names, since a JSON object has each key once",
            found=", ".join(twice),
            next="name them apart with AS",
        )


def _document(
    names: list[str], types: list[str], shown: Iterator[list[Any]], rows: Iterator[list[Any]]
) -> dict[str, Any]:
    _distinct(names)
    found = [dict(zip(names, row, strict=True)) for row in shown]
    columns = [{"name": name, "type": kind} for name, kind in zip(names, types, strict=True)]
    return {"columns": columns, "rows": found, "more": next(rows, None) is not None}


def _print_csv(names: list[str], rows: Iterator[list[Any]]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow(map(_text, row))


def _print_json(names: list[str], rows: Iterator[list[Any]]) -> None:
    _distinct(names)
    sys.stdout.write("[")
    for number, row in enumerate(rows):
        sys.stdout.write(",\n" if number else "\n")
        sys.stdout.write(json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False))
    sys.stdout.write("\n]\n")


def _print_table(names: list[str], types: list[str], rows: list[list[Any]], *, more: bool) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    texts = [["NULL" if value is None else _text(value) for value in row] for row in rows]
    if len(names) * (NARROWEST + 3) + 1 > console.width:
        width = max(map(len, names))
        for number, row in enumerate(texts, 1):
            console.rule(f"row {number}", align="left")
            for name, text in zip(names, row, strict=True):
                console.print(Text(f"{name:<{width}}  {text}"))
    else:
        table = Table()
        for name, kind in zip(names, types, strict=True):
            numeric = re.match(r"(?:Nullable\()?(?:U?Int|Float|Decimal)", kind) is not None
            table.add_column(Text(name), justify="right" if numeric else "left", overflow="fold", min_width=1)
        for row in texts:
            table.add_row(*map(Text, row))
        console.print(table)
    count = "1 row" if len(rows) == 1 else f"{len(rows):,} rows"
    console.print(f"{count}, and more: --limit 0 shows all" if more else count)


@contextmanager
def _errors(role: Role) -> Iterator[None]:
    """What the server and the connection to it say, in our own tree."""
    from clickhouse_connect.driver.exceptions import ClickHouseError
    from urllib3.exceptions import HTTPError

    try:
        yield
    except (ClickHouseError, HTTPError) as error:
        raise _told(error, role) from None


def _told(error: Exception, role: Role) -> BiltenError:
    said = _NOISE.sub("", str(error)).strip() or type(error).__name__
    code = int(found.group(1)) if (found := _CODE.search(said)) else 0
    said = said.rpartition("DB::Exception:")[2].strip()[:600]
    if code in _DENIED and role is Role.analyst:
        return Refused(
            "an analyst may not do that",
            expected="SELECT from staging, marts or analytics",
            found=said,
            next="bilten sql --role etl, for engineers",
        )
    if code in _STATEMENT_IS_WRONG:
        return UsageError(
            "ClickHouse does not accept the statement",
            expected="valid SQL",
            found=said,
            next='bilten sql "show tables from marts" lists what there is',
        )
    if code in _BUSY:
        return TransientError(
            "ClickHouse gave the statement up", expected="rows", found=said, next="try again, or ask for less"
        )
    if code == 0:
        return StoreUnavailable(
            "the connection to ClickHouse broke", expected="rows", found=said, next="bilten status"
        )
    return TerminalError(
        f"ClickHouse failed the statement (code {code})",
        expected="rows",
        found=said,
        next="bilten logs clickhouse",
    )
