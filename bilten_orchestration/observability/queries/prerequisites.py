"""What a server must have so that its statements can be watched, and the statement that mends what it lacks.

Reads only, and says everything at once. The embedded server has all of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from bilten_orchestration.errors import Problem
from bilten_orchestration.stores.postgres import Connection

EXTENSION = "pg_stat_statements"
#: With it came pg_stat_statements_info (PostgreSQL 14), without which a reset cannot be told.
FIRST_VERSION = (1, 9)
FIRST_WITH_STATS_SINCE = (1, 11)

# pg_settings shows the extension's own settings only where its library is loaded; the list of libraries
# itself is for superusers.
_FACTS = """
    select current_user,
           current_database(),
           (select extversion from pg_extension where extname = %(name)s),
           (select quote_ident(n.nspname) from pg_extension e join pg_namespace n on n.oid = e.extnamespace
            where e.extname = %(name)s),
           (select default_version from pg_available_extensions where name = %(name)s),
           (select setting from pg_settings where name = 'pg_stat_statements.track'),
           pg_has_role(current_user, 'pg_read_all_stats', 'usage'),
           current_setting('compute_query_id', true)
"""


@dataclass(frozen=True, slots=True)
class Facts:
    """`version` and `schema` are of the extension in this database; None where it is not there. `track` is
    None where the library is not loaded; `offered` is the version that the server could create."""

    user: str
    database: str
    version: str | None
    schema: str | None
    offered: str | None
    track: str | None
    reads_all: bool
    query_ids: str | None

    @property
    def numbers(self) -> tuple[int, ...]:
        return tuple(int(part) for part in (self.version or "0").split("."))


def read(connection: Connection) -> Facts:
    row = connection.execute(_FACTS, {"name": EXTENSION}).fetchone()
    assert row is not None  # noqa: S101 (a select without from)
    return Facts(*row)


def problems(facts: Facts) -> list[Problem]:
    """Everything that is missing; empty where statements can be watched."""
    found = []
    if facts.offered is None:
        found.append(
            Problem(
                f"this PostgreSQL was installed without {EXTENSION}: slow statements are not seen",
                expected=f"the extension {EXTENSION} among those that it offers",
                found="it is not in pg_available_extensions",
                next="install the contrib package of its version (postgresql-contrib)",
            )
        )
    if facts.track is None:
        found.append(
            Problem(
                f"the library of {EXTENSION} is not loaded: slow statements are not seen",
                expected=f"{EXTENSION} in shared_preload_libraries",
                found="the server does not know its settings",
                next=f"alter system set shared_preload_libraries = '{EXTENSION}' (beside those that are"
                " in it), and restart the server",
            )
        )
    elif facts.track == "none":
        found.append(
            Problem(
                f"{EXTENSION} counts nothing",
                expected="pg_stat_statements.track = top or all",
                found="none",
                next="alter system set pg_stat_statements.track = 'top'; select pg_reload_conf()",
            )
        )
    if facts.version is None and facts.offered is not None:
        found.append(
            Problem(
                f"the extension {EXTENSION} is not in {facts.database}",
                expected="its views, which read what the library counts",
                found="no such extension in this database",
                next=f"create extension {EXTENSION} -- in {facts.database}, as a superuser",
            )
        )
    elif facts.version is not None and facts.numbers < FIRST_VERSION:
        found.append(
            Problem(
                f"the extension {EXTENSION} in {facts.database} is too old to tell a reset from a loss",
                expected="version " + ".".join(map(str, FIRST_VERSION)) + " or later",
                found=facts.version,
                next=f"alter extension {EXTENSION} update",
            )
        )
    if not facts.reads_all:
        found.append(
            Problem(
                f"{facts.user} sees the statements of others without their text and identifier",
                expected="the rights of pg_read_all_stats",
                found=f"{facts.user} is no member of it",
                next=f"grant pg_read_all_stats to {facts.user}",
            )
        )
    if facts.query_ids == "off":
        found.append(
            Problem(
                "statements get no identifier, so nothing is counted",
                expected="compute_query_id = auto or on",
                found="off",
                next="alter system set compute_query_id = 'auto'; select pg_reload_conf()",
            )
        )
    return found
