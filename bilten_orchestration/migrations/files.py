"""What lies in sql/<store>/: pairs of V0001__name.up.sql and V0001__name.down.sql.

The first comment lines of a file may say

    -- description: one line, kept in system.migrations (up file)
    -- transaction: none      PostgreSQL: each statement commits by itself (CREATE INDEX CONCURRENTLY);
                              up and down are separate files and each says it for itself

ClickHouse has no transactions around DDL. There, and under `transaction: none`, a half-run file is
run again from its first line, so each of its statements must lead to the same end when it is repeated;
`unrepeatable` finds those that do not.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from bilten_orchestration.errors import Problem, Refused
from bilten_orchestration.migrations.statements import Statement, Store, UnreadableSql, split
from bilten_orchestration.settings import CHECKOUT

SQL_ROOT = CHECKOUT / "sql"
STORES: tuple[Store, ...] = get_args(Store)

Direction = Literal["up", "down"]

_NAME = re.compile(r"V(?P<version>\d{4})__(?P<name>[a-z0-9]+(?:_[a-z0-9]+)*)\.(?P<direction>up|down)\.sql")
_HEADER = re.compile(r"--\s*(?P<key>[a-z_]+):\s*(?P<value>.*\S)\s*$")
_HEADERS = frozenset({"description", "transaction"})


@dataclass(frozen=True, slots=True)
class Script:
    """One direction of one migration. `checksum` is the SHA-256 of the file with line ends as LF."""

    path: Path
    statements: tuple[Statement, ...]
    transactional: bool
    description: str
    checksum: str


@dataclass(frozen=True, slots=True)
class Migration:
    store: Store
    version: int
    name: str
    up: Script
    down: Script

    @property
    def label(self) -> str:
        return f"{self.store} V{self.version:04d} {self.name}"

    @property
    def description(self) -> str:
        return self.up.description

    def script(self, direction: Direction) -> Script:
        return self.up if direction == "up" else self.down


def discover(root: Path = SQL_ROOT) -> dict[Store, tuple[Migration, ...]]:
    """All migrations of both stores, ordered by version. Raises Refused with every problem of the files."""
    problems: list[Problem] = []
    found = {store: tuple(_of_store(root / store, store, problems)) for store in STORES}
    if problems:
        raise Refused(problems)
    return found


def _of_store(directory: Path, store: Store, problems: list[Problem]) -> Iterator[Migration]:
    if not directory.is_dir():
        problems.append(
            Problem(
                f"there are no migrations of {store}",
                expected=f"the directory {directory}",
                found="no such directory",
                next="run from a whole checkout",
            )
        )
    paths: dict[tuple[int, Direction], list[Path]] = {}
    for path in sorted(directory.glob("[!.]*")):  # hidden files are settings of tools, such as .sqlfluff
        match = _NAME.fullmatch(path.name)
        if match is None:
            problems.append(
                Problem(
                    f"{path} is not named like a migration",
                    expected="V0001__lower_case_name.up.sql and V0001__lower_case_name.down.sql",
                    found=path.name,
                    next="rename it, or move it out of sql/",
                )
            )
            continue
        direction: Direction = "up" if match["direction"] == "up" else "down"
        paths.setdefault((int(match["version"]), direction), []).append(path)

    for version in sorted({version for version, _ in paths}):
        ups, downs = paths.get((version, "up"), []), paths.get((version, "down"), [])
        names = {path.name.partition(".")[0] for path in ups + downs}
        if len(ups) != 1 or len(downs) != 1 or len(names) != 1:
            problems.append(
                Problem(
                    f"{store} V{version:04d} is not one pair of files",
                    expected="one .up.sql and one .down.sql of the same name",
                    found=", ".join(path.name for path in ups + downs),
                    next="add what is missing, or give the later migration the next free version",
                )
            )
            continue
        up, down = _read(ups[0], store, problems), _read(downs[0], store, problems)
        if up is not None and down is not None:
            yield Migration(store, version, names.pop().partition("__")[2], up, down)


def _read(path: Path, store: Store, problems: list[Problem]) -> Script | None:
    try:
        text = path.read_text(encoding="utf-8")
        statements = split(text, store)
    except (UnreadableSql, UnicodeDecodeError) as error:
        problems.append(
            Problem(f"{path} cannot be read", expected="SQL in UTF-8", found=str(error), next="correct it")
        )
        return None
    headers = _headers(text)
    complaints = [f"unknown header '{key}'" for key in sorted(headers.keys() - _HEADERS)]
    if headers.get("transaction", "none") != "none":
        complaints.append(f"transaction: {headers['transaction']}")
    if not statements:
        complaints.append("no statement")
    transactional = store == "postgres" and "transaction" not in headers
    checksum = hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()
    script = Script(path, statements, transactional, headers.get("description", ""), checksum)
    complaints += [
        f"line {s.line}: the runner begins and ends transactions: {s.title}"
        for s in statements
        if _TRANSACTION_CONTROL.match(s.text)
    ]
    complaints += [f"line {s.line}: {why}: {s.title}" for s, why in unrepeatable(script, store)]
    problems += [
        Problem(
            f"{path} is not a valid migration",
            expected="known headers; statements; outside a transaction, repeatable ones",
            found=complaint,
            next="correct the file",
        )
        for complaint in complaints
    ]
    return None if complaints else script


def _headers(text: str) -> Mapping[str, str]:
    """The `-- key: value` lines of the first comment block; other lines of the block are prose."""
    headers: dict[str, str] = {}
    for line in text.lstrip("\ufeff").splitlines():
        if not line.startswith("--"):
            break
        if match := _HEADER.match(line):
            headers.setdefault(match["key"], match["value"])
    return headers


_TRANSACTION_CONTROL = re.compile(
    r"(?:begin|start\s+transaction|commit|end|rollback|abort|savepoint|prepare\s+transaction)\b",
    re.IGNORECASE,
)
_REPEATABLE: Mapping[Store, re.Pattern[str]] = {
    "clickhouse": re.compile(
        r"""
          create\s+or\s+replace\s
        | create\s+(?:\w+\s+)*?(?:database|table|view|dictionary|function|user|role|policy|profile|quota)
              \s+if\s+not\s+exists\s
        | drop\s+(?:\w+\s+)*?if\s+exists\s
        | truncate\s+table\s+if\s+exists\s
        | alter\s+table\s+\S+\s+(?:add\s+\w+\s+if\s+not\s+exists|(?:drop|rename|clear)\s+\w+\s+if\s+exists
              |modify\s+|comment\s+|reset\s+|materialize\s+)
        | alter\s+database\s+\S+\s+modify\s
        | (?:grant|revoke|set|system|optimize)\s
        """,
        re.IGNORECASE | re.VERBOSE,
    ),
    "postgres": re.compile(
        r"""
          create\s+or\s+replace\s
        | create\s+(?:\w+\s+)*?(?:schema|table|sequence|extension|index)\s+if\s+not\s+exists\s
        | create\s+(?:unique\s+)?index\s+concurrently\s
        | drop\s+(?:\w+\s+)*?if\s+exists\s
        | alter\s+type\s+\S+\s+add\s+value\s+if\s+not\s+exists\s
        | alter\s+table\s+(?:\S+\s+)+?validate\s+constraint\s
        | (?:grant|revoke|set|comment|do|vacuum|analyze|reindex|update|delete)\b
        """,
        re.IGNORECASE | re.VERBOSE,
    ),
}
_CONCURRENT_INDEX = re.compile(
    r"create\s+(?:unique\s+)?index\s+concurrently\s+(?P<guard>if\s+not\s+exists\s+)?(?P<name>\S+)",
    re.IGNORECASE,
)


def unrepeatable(script: Script, store: Store) -> Iterator[tuple[Statement, str]]:
    """Statements outside a transaction that a second run would fail at or do twice, with the reason."""
    if script.transactional:
        return
    dropped: set[str] = set()
    for statement in script.statements:
        text = " ".join(statement.text.lower().split())
        if text.startswith("drop index concurrently if exists "):
            # an index is named with its schema when dropped, without it when created
            dropped.add(text.split()[-1].rpartition(".")[2])
        if index := _CONCURRENT_INDEX.match(text):
            if index["guard"] or index["name"] not in dropped:
                yield (
                    statement,
                    "an interrupted build leaves an invalid index; DROP INDEX CONCURRENTLY IF EXISTS first",
                )
        elif not _REPEATABLE[store].match(text):
            yield statement, "cannot be repeated (IF [NOT] EXISTS, OR REPLACE)"
