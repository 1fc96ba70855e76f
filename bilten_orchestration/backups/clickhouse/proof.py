"""What proves restored tables: the rows of each, its parts, and what is known of the backup.

Rows are those of the parts, before any merge: a ReplacingMergeTree has fewer a moment later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bilten_orchestration.backups.clickhouse.selection import BATCHES, Selection, Table
from bilten_orchestration.backups.repository.catalogue import Backup
from bilten_orchestration.errors import Mismatch, Problem
from bilten_orchestration.progress import Progress

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

#: Before the name of a table in the details of a mark `verified`.
ROWS = "rows of "
_INNER_BY_ID = ".inner_id."
_CHECKED = ("MergeTree", "Log")


def merging(client: Client, chosen: Selection) -> list[Table]:
    """Restored tables that the server merges."""
    return [each.place for each in _holding(client, chosen) if each.engine.endswith("MergeTree")]


@dataclass(frozen=True, slots=True)
class _Holding:
    """A restored table with rows of its own. `named` is the name that is the same in every restore: its own
    in the backup, or that of the view that it lies behind (its own one holds an id that is new each time)."""

    named: Table
    place: Table
    engine: str


def _holding(client: Client, chosen: Selection) -> list[_Holding]:
    rows = client.query(
        "select database, name, engine, has_own_data, toString(uuid) from system.tables"
        " where database in {databases:Array(String)} order by all",
        {"databases": sorted({table.database for table in chosen.targets})},
    ).result_rows
    origin = {chosen.target(table): table for table in chosen.tables}
    behind = {
        Table(database, f"{_INNER_BY_ID}{uuid}"): origin[Table(database, name)]
        for database, name, engine, _, uuid in rows
        if engine == "MaterializedView" and Table(database, name) in origin
    }
    return [
        _Holding(named, place, engine)
        for database, name, engine, own, _ in rows
        if own and (named := (origin | behind).get(place := Table(database, name))) is not None
    ]


def rows_of(client: Client, chosen: Selection) -> dict[Table, int]:
    """Rows by table as the backup calls it, in parts where it has parts; none of those without rows."""
    counted: dict[Table, int] = {}
    in_parts = {
        Table(database, name): int(count)
        for database, name, count in client.query(
            "select database, table, sum(rows) from system.parts where active"
            " and database in {databases:Array(String)} group by all",
            {"databases": sorted({table.database for table in chosen.targets})},
        ).result_rows
    }
    for each in _holding(client, chosen):
        count = (
            in_parts.get(each.place, 0)
            if each.engine.endswith("MergeTree")
            else int(client.query(f"select count() from {each.place.sql}").result_rows[0][0])
        )
        if count:
            counted[each.named] = count
    return counted


def check(client: Client, chosen: Selection, progress: Progress) -> None:
    """CHECK TABLE reads every part and compares it with its checksums. Raises Mismatch, naming all tables."""
    problems = []
    for each in _holding(client, chosen):
        if not each.engine.endswith(_CHECKED):
            progress(f"{each.place}: CHECK TABLE does not know {each.engine}")
            continue
        result = client.query(f"check table {each.place.sql} settings check_query_single_value_result = 1")
        if [int(value) for value in result.result_rows[0]] != [1]:
            problems.append(
                Problem(
                    f"{each.place} is damaged",
                    expected="parts that CHECK TABLE accepts",
                    found=str(result.result_rows[0]),
                    next=f"restore another backup; drop table {each.place.sql} sync",
                )
            )
    if problems:
        raise Mismatch(problems)


def compare(backup: Backup, chosen: Selection, rows: Mapping[Table, int]) -> None:
    """With what is known: of tables that did not change during BACKUP, and of the first restore. Raises
    Mismatch, naming all tables that differ."""
    wanted = set(chosen.tables)
    known = {name: count for name, count in backup.manifest.counts.items()}
    of_first = [mark for mark in backup.marks if mark.name == "verified" and mark.details]
    first = {
        name.removeprefix(ROWS): int(count)
        for mark in of_first[:1]
        for name, count in mark.details.items()
        if name.startswith(ROWS)
    }
    if of_first:
        known = first
    found = {str(table): count for table, count in rows.items() if table in wanted}
    names = {str(table) for table in wanted if chosen.target(table) != Table(*BATCHES)}
    # what the first restore did not list had no rows; before it nothing is known of what changed
    compared = known.keys() | (found.keys() if of_first else set())
    problems = [
        Problem(
            f"{name} has other rows than the backup holds",
            expected=f"{known.get(name, 0):,} rows, {'as the first restore' if of_first else 'as in BACKUP'}",
            found=f"{found.get(name, 0):,} rows",
            next="restore another backup, and look at what is different before this one is used",
        )
        for name in sorted(compared)
        if name in names and known.get(name, 0) != found.get(name, 0)
    ]
    if problems:
        raise Mismatch(problems)
