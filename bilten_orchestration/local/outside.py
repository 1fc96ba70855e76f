"""Stores that were given by address: nothing is done to them, everything wrong with them is said at once."""

from __future__ import annotations

from functools import partial

from bilten_orchestration.errors import BiltenError, Problem
from bilten_orchestration.local import endpoints, health
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse as clickhouse_store
from bilten_orchestration.stores import postgres as postgres_store

FIRST_POSTGRES_MAJOR = 15
EXTENSIONS = ("pg_stat_statements", "amcheck", "pg_visibility")
ROLES = ("bilten_app", "bilten_readonly", "bilten_etl")


def problems(outside: Settings) -> list[Problem]:
    """What speaks against using the stores that have an address. `outside` is without stack.env."""
    embedded = endpoints.embedded(outside)
    checks = {
        "postgres": partial(_postgres, outside),
        "clickhouse": partial(_clickhouse, outside),
        "redis": partial(_plain, health.redis, outside),
        "object_store": partial(_plain, health.object_store, outside),
    }
    found: list[Problem] = []
    for store, check in checks.items():
        if store in embedded:
            continue
        try:
            found += check()
        except BiltenError as error:
            found += error.problems
    return found


def _plain(check: health.Check, settings: Settings) -> list[Problem]:
    check(settings)
    return []


def _postgres(settings: Settings) -> list[Problem]:
    found: list[Problem] = []
    postgres = settings.postgres
    with postgres_store.connect(postgres, application_name="bilten up", autocommit=True) as connection:
        version = connection.info.server_version // 10_000
        if version < FIRST_POSTGRES_MAJOR:
            found.append(
                Problem(
                    f"PostgreSQL at {postgres.host} is too old",
                    expected=f"{FIRST_POSTGRES_MAJOR} or later, 17 for incremental backups",
                    found=str(version),
                    next="upgrade the server",
                )
            )
        extensions = {row[0] for row in connection.execute("select extname from pg_extension").fetchall()}
        found += [
            Problem(
                f"the extension {extension} is missing in {postgres.database}",
                expected="created by a superuser (it is not a trusted one)",
                found="not there",
                next=f"in {postgres.database}, as a superuser: create extension {extension}",
            )
            for extension in EXTENSIONS
            if extension not in extensions
        ]
        there = {row[0] for row in connection.execute("select rolname from pg_roles").fetchall()}
        found += [
            Problem(
                f"the role {role} is missing",
                expected=f"there, or made by {postgres.user} (createrole)",
                found="not there",
                next=f"as a superuser: create role {role} login password '...'",
            )
            for role in dict.fromkeys((*ROLES, postgres.etl_user))
            if role not in there
        ]
        row = connection.execute("select has_database_privilege(current_database(), 'create')").fetchone()
        if row is None or not row[0]:
            found.append(
                Problem(
                    f"{postgres.user} may not create schemas in {postgres.database}",
                    expected="the owner of the database",
                    found="no CREATE privilege",
                    next=f"as a superuser: alter database {postgres.database} owner to {postgres.user}",
                )
            )
    roles: tuple[postgres_store.Role, ...] = ("etl", "dagster")
    for role in roles:
        try:
            postgres_store.connect(postgres, role, application_name="bilten up").close()
        except BiltenError as error:
            found += error.problems
    return found


def _clickhouse(settings: Settings) -> list[Problem]:
    found: list[Problem] = []
    roles: tuple[clickhouse_store.Role, ...] = ("etl", "analyst")
    for role in roles:
        try:
            clickhouse_store.connect(settings.clickhouse, role).close()
        except BiltenError as error:
            found += error.problems
    return found
