"""Merges of restored tables, off while their rows are counted.

SYSTEM STOP MERGES lasts until the table is dropped or the server restarts, and no table of the server's tells
of it. So which tables it was done to is written down beforehand, in the server itself, in a table that lives
as long as that: the rows of the engine Memory are gone with a restart too. What a killed restore left off is
known by them, and put on again by the next backup or restore, under their lock; the preflight names it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bilten_orchestration.backups.clickhouse.selection import Table
from bilten_orchestration.progress import Progress

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

# of a database that every server has, and none of ours: it is in no backup
_RECORD = Table("default", "bilten_merges_off")


@contextmanager
def off(client: Client, tables: Iterable[Table]) -> Iterator[None]:
    """No merge in these tables until the block is left; under the lock that keeps other restores away."""
    wanted = list(tables)
    client.command(
        f"create table if not exists {_RECORD.sql} (database String, name String) engine = Memory"
        " comment 'Tables whose merges a restore has switched off, until the server starts again'"
    )
    if wanted:
        client.insert(
            _RECORD.name,
            [[table.database, table.name] for table in wanted],
            column_names=["database", "name"],
            database=_RECORD.database,
        )
    try:
        for table in wanted:
            client.command(f"system stop merges {table.sql}")
        yield
    finally:
        _on(client, wanted)


def left(client: Client) -> tuple[Table, ...]:
    """Tables whose merges are off: a restore is at work, or was killed."""
    recorded = client.query(
        "select count() from system.tables where database = {database:String} and name = {name:String}",
        {"database": _RECORD.database, "name": _RECORD.name},
    ).result_rows[0][0]
    if not recorded:
        return ()
    rows = client.query(
        f"select distinct database, name from {_RECORD.sql}"
        " where (database, name) in (select database, name from system.tables) order by all"
    ).result_rows
    return tuple(Table(database, name) for database, name in rows)


def mend(client: Client, progress: Progress) -> None:
    """Merges on again where a restore that was killed left them off; under the lock, where none is at
    work."""
    if tables := left(client):
        progress(f"merges on again in {', '.join(map(str, tables))}: a restore that was killed left them off")
        _on(client, tables)


def statement(table: Table) -> str:
    """What puts merges of a table on."""
    return f"system start merges {table.sql}"


def _on(client: Client, tables: Iterable[Table]) -> None:
    for table in tables:
        client.command(statement(table))
    # SYNC would wait for every disk of the server to be asked, and one that is away is asked for ever
    client.command(f"drop table if exists {_RECORD.sql}")
