"""Which tables a restore makes, and under which names."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote

from bilten_orchestration.backups.clickhouse.operations import quoted
from bilten_orchestration.backups.repository.chunks import as_file
from bilten_orchestration.errors import Problem, UsageError

_METADATA = "metadata/"
_ENDING = ".sql"
# the record of what the sync has applied. Under its own name its rows are never restored: nobody could say of
# which batch the raw tables are (BACKUP is no snapshot), so that sync and builds refuse until it was
# reconciled
BATCHES = ("analytics", "sync_batches")
# a table behind a materialized view: RESTORE makes it with its view, under a new name
_INNER = ".inner"


@dataclass(frozen=True, slots=True, order=True)
class Table:
    database: str
    name: str

    def __str__(self) -> str:
        return f"{self.database}.{self.name}"

    @property
    def sql(self) -> str:
        return f"{quoted(self.database)}.{quoted(self.name)}"


@dataclass(frozen=True, slots=True)
class Selection:
    """`tables` of the backup, as they are called there. `elements` is how RESTORE names them, `rows` how it
    names those whose rows come back (none: empty); `renamed` the database each one gets, where it gets
    another one. `whole` says that no table is left out or renamed."""

    tables: tuple[Table, ...]
    elements: str
    rows: str
    renamed: dict[str, str]
    whole: bool

    def target(self, table: Table) -> Table:
        return Table(self.renamed.get(table.database, table.database), table.name)

    @property
    def targets(self) -> tuple[Table, ...]:
        return tuple(self.target(table) for table in self.tables)


def tables_in(listed: Iterable[bytes]) -> tuple[Table, ...]:
    """Tables and views of a backup, from its decrypted list of files; memory does not grow with it."""
    found = set()
    for _, element in ET.iterparse(as_file(listed)):  # noqa: S314 - checked against a signed manifest
        if element.tag == "name" and (text := element.text or "").startswith(_METADATA):
            path = text.removeprefix(_METADATA)
            database, _, name = path.removesuffix(_ENDING).partition("/")
            if path.endswith(_ENDING) and name and not unquote(name).startswith(_INNER):
                found.add(Table(unquote(database), unquote(name)))
        elif element.tag == "file":
            element.clear()
    return tuple(sorted(found))


def select(
    there: tuple[Table, ...], *, database: str | None, table: str | None, rename: str | None
) -> Selection:
    """All of a backup, one database or one table (DATABASE.TABLE), `rename`d to another database.

    Raises UsageError, with all that is wrong, for what the backup does not hold.
    """
    databases = tuple(dict.fromkeys(each.database for each in there))
    problems = []
    if database and table:
        problems.append(Problem("--database and --table together", expected="one of them", found="both"))
    if rename and not (database or table) and len(databases) != 1:
        problems.append(
            Problem(
                "one database is restored as another one",
                expected=f"--database with one of {', '.join(databases)}, or --table",
                found="neither",
                next="--database marts --as marts_before",
            )
        )
    if database and database not in databases:
        problems.append(Problem(f"the backup holds no database {database}", ", ".join(databases), database))
    if table and table not in map(str, there):
        near = [str(each) for each in there if each.name == table.rpartition(".")[2]]
        problems.append(
            Problem(
                f"the backup holds no table {table}",
                expected=", ".join(near) or "DATABASE.TABLE, as ClickHouse calls it",
                found=table,
            )
        )
    if problems:
        raise UsageError(problems)
    if table:
        (chosen,) = (each for each in there if str(each) == table)
        renamed = {chosen.database: rename} if rename else {}
        as_ = f" as {Table(rename, chosen.name).sql}" if rename else ""
        element = f"table {chosen.sql}{as_}"
        rows = "" if chosen == Table(*BATCHES) and not rename else element
        return Selection((chosen,), element, rows, renamed, whole=False)
    names = (database,) if database else databases
    renamed = {names[0]: rename} if rename else {}
    elements = [
        f"database {quoted(name)}" + (f" as {quoted(renamed[name])}" if name in renamed else "")
        for name in names
    ]
    rows = ", ".join(elements)
    if Table(*BATCHES) in there and BATCHES[0] in names and not rename:
        # last: behind EXCEPT a comma goes on with tables
        others = [each for each in elements if each != f"database {quoted(BATCHES[0])}"]
        left_out = f"database {quoted(BATCHES[0])} except table {quoted(BATCHES[1])}"
        rows = ", ".join([*others, left_out])
    chosen_tables = tuple(each for each in there if each.database in names)
    return Selection(chosen_tables, ", ".join(elements), rows, renamed, whole=not (database or rename))
