"""Does ClickHouse hold what the history says was run on it?

The history lies in PostgreSQL, so a ClickHouse that was lost, or a wrong address, would count as
migrated. Its databases are the evidence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from bilten_orchestration.errors import Problem, Refused
from bilten_orchestration.migrations.files import Migration
from bilten_orchestration.migrations.history import History
from bilten_orchestration.migrations.plan import standing

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

_DATABASE = re.compile(
    r"(?P<verb>create|drop)\s+database\s+if\s+(?:not\s+)?exists\s+(?P<name>\w+)", re.IGNORECASE
)


def expected_databases(migrations: Sequence[Migration], history: History) -> set[str]:
    """Databases that the applied migrations made and did not drop."""
    databases: set[str] = set()
    for migration in migrations:
        if standing(migration, history.get((migration.store, migration.version))) == "applied":
            for statement in migration.up.statements:
                if match := _DATABASE.match(statement.text):
                    (databases.add if match["verb"].lower() == "create" else databases.discard)(match["name"])
    return databases


def objections(client: Client, expected: set[str]) -> Iterator[Problem]:
    """A problem where a database is missing."""
    missing = expected - _present(client)
    if missing:
        yield Problem(
            "ClickHouse does not hold what was migrated on it",
            expected=f"the databases {', '.join(sorted(expected))}",
            found=f"no {', '.join(sorted(missing))}",
            next="check BILTEN_CLICKHOUSE__HOST; restore it; or, to begin with an empty one,"
            " bilten migrate up --store clickhouse --anew and then bilten sync --full",
        )


def refuse_unless_empty(client: Client, expected: set[str]) -> None:
    """Beginning anew is for a server that holds nothing of ours."""
    present = expected & _present(client)
    if present:
        raise Refused(
            "ClickHouse is not empty",
            expected=f"none of the databases {', '.join(sorted(expected))}",
            found=", ".join(sorted(present)),
            next="bilten migrate up without --anew",
        )


def _present(client: Client) -> set[str]:
    return {str(name) for (name,) in client.query("select name from system.databases").result_rows}
