"""What a backup must know of the server, and what forbids one: asked before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bilten_orchestration.errors import Problem

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

#: What is backed up: all that the migrations and dbt make. `bilten_stage` is left out: it is empty but while
#: a batch runs, and half a batch is worth nothing. Tables of a build that runs just then are taken along; the
#: next build drops them.
DATABASES = ("bilten_raw", "analytics", "staging", "intermediate", "marts")
LEFT_OUT = "bilten_stage"
#: Users, roles and what belongs to them, where the server keeps any itself (not in its configuration).
ACCESS = ("users", "roles", "settings_profiles", "row_policies", "quotas")
OLDEST = (25, 8)

_NO_UUID = "00000000-0000-0000-0000-000000000000"
_FACTS = f"""
    select if(toString(serverUUID()) = '{_NO_UUID}',
              (select toString(min(uuid)) from system.databases where name = {{anchor:String}}),
              toString(serverUUID())),
           version(),
           (select sum(bytes_on_disk) from system.parts
            where active and database in {{databases:Array(String)}}),
           (select groupArray(name) from system.databases where name in {{databases:Array(String)}}),
           (select count() from system.user_directories where type in ('local_directory', 'replicated')),
           currentUser()
"""
#: Parts never change: the same names twice are the same rows.
_TABLES = """
    select concat(database, '.', table), sum(rows), toString(cityHash64(arraySort(groupArray(name))))
    from system.parts where active and database in {databases:Array(String)} and table not like '.inner%'
    group by database, table
"""


@dataclass(frozen=True, slots=True)
class Server:
    """`source` is which server it is; the embedded one has no identity but its first database's. `bytes` are
    those of its parts: about what a full backup reads. `keeps_users` says whether it has users of its own."""

    source: str
    version: str
    bytes: int
    keeps_users: bool
    user: str
    forbidden: tuple[Problem, ...] = ()


def release(version: str) -> tuple[int, int]:
    """Year and month of a version."""
    year, month, *_ = version.split(".")
    return int(year), int(month)


def facts(client: Client) -> Server:
    """What there is, also when that forbids a backup."""
    (row,) = client.query(_FACTS, {"anchor": DATABASES[0], "databases": list(DATABASES)}).result_rows
    source, version, size, there, directories, user = row
    problems = []
    if release(version) < OLDEST:
        problems.append(
            Problem(
                "this ClickHouse is too old",
                expected="25.8 or later",
                found=version,
                next="upgrade the server",
            )
        )
    if missing := [name for name in DATABASES if name not in there]:
        problems.append(
            Problem(
                "databases of the platform are missing",
                expected=", ".join(DATABASES),
                found=f"not there: {', '.join(missing)}",
                next="bilten migrate up",
            )
        )
    return Server(str(source), version, size or 0, bool(directories), user, tuple(problems))


def rows_and_parts(client: Client, databases: tuple[str, ...] = DATABASES) -> Mapping[str, tuple[int, str]]:
    """Rows of each table that has any, with a digest of the names of its parts."""
    return {
        table: (int(rows), parts)
        for table, rows, parts in client.query(_TABLES, {"databases": list(databases)}).result_rows
    }


def newest_batch(client: Client) -> int:
    """The newest batch of the sync that is whole here; 0 where there is none."""
    if not client.query("exists table analytics.sync_batches").result_rows[0][0]:
        return 0
    return int(client.query("select max(batch) from analytics.sync_batches").result_rows[0][0])
