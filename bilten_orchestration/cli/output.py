"""One shape for everything the command line prints.

People: rich text on stdout, progress and logs on stderr. Machines (`--json`): exactly one document
on stdout, `{"ok", "command", "at", "result", "problems"}`. Exit codes: 0 good, 1 bad, 2 usage,
3 may work when tried again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, NoReturn
from uuid import UUID

import typer

from bilten_orchestration.errors import BiltenError, Problem

Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, logs on stderr.")]


def plain(value: Any) -> Any:
    """Anything a report holds, as JSON types. Decimals become strings: a float would round cents."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z") if value.tzinfo else value.isoformat()
    if isinstance(value, date | UUID | Path):
        return str(value)
    if isinstance(value, Decimal):
        return format(value, "f")
    return value


def finish(
    command: str,
    result: Any,
    *,
    as_json: bool,
    problems: Sequence[Problem] = (),
    human: Callable[[], None] | None = None,
    exit_code: int = 1,
) -> None:
    """Print a report and leave: returns when there is no problem, exits with `exit_code` otherwise.

    `human` prints the report for people (to stdout); problems follow it on stderr.
    """
    if as_json:
        print(json.dumps(document(command, result, problems), ensure_ascii=False))
    else:
        if human is not None:
            human()
        show(problems)
    if problems:
        raise typer.Exit(exit_code)


def document(command: str, result: Any, problems: Sequence[Problem]) -> dict[str, Any]:
    return {
        "ok": not problems,
        "command": command,
        "at": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "result": plain(result),
        "problems": [problem.as_dict() for problem in problems],
    }


def show(problems: Sequence[Problem]) -> None:
    """Problems for people, on stderr."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    for problem in problems:
        first, *rest = str(problem).splitlines()
        console.print(Text("error: ", style="bold red") + Text(first, style="bold"))
        for line in rest:
            console.print(Text(line))


@contextmanager
def errors(command: str, *, as_json: bool = False) -> Iterator[None]:
    """Turn every BiltenError into its report and exit code; no traceback for what a user can cause."""
    try:
        yield
    except BiltenError as error:
        fail(command, error, as_json=as_json)
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on", file=sys.stderr)
        raise typer.Exit(130) from None


def fail(command: str, error: BiltenError, *, as_json: bool) -> NoReturn:
    if as_json:
        print(json.dumps(document(command, None, error.problems), ensure_ascii=False))
    else:
        show(error.problems)
    raise typer.Exit(error.exit_code) from None


def say(text: str) -> None:
    """A line of progress, on stderr."""
    print(text, file=sys.stderr, flush=True)
