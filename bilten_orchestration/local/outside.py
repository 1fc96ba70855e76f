"""Stores that were given by address: nothing is done to them, everything wrong with them is said at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from bilten_orchestration.errors import BiltenError, Problem
from bilten_orchestration.local import endpoints
from bilten_orchestration.local.clickhouse.grants import (
    INFORMATION_SCHEMAS,
    READABLE_DATABASES,
    READABLE_SYSTEM_TABLES,
)
from bilten_orchestration.settings import ClickHouseSettings, ObjectStoreSettings, Settings
from bilten_orchestration.stores import clickhouse as clickhouse_store
from bilten_orchestration.stores import object_store, opensearch, redis
from bilten_orchestration.stores import postgres as postgres_store

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

FIRST_POSTGRES_MAJOR = 15
FIRST_CLICKHOUSE = (25, 8)
EXTENSIONS = ("pg_stat_statements", "amcheck", "pg_visibility")
ROLES = ("bilten_app", "bilten_readonly", "bilten_etl")
DATABASES = ("bilten_raw", "bilten_stage", "analytics", "staging", "intermediate", "marts")
"""Those of sql/clickhouse/V0001."""
PRIVILEGES = (
    "create database, create table, create view, drop database, drop table, drop view, alter, truncate, "
    "select, insert"
)
"""What migrations, the sync and dbt do in each of them. To truncate all tables of one takes DROP DATABASE."""

_READS = f"SELECT on {', '.join(sorted(READABLE_DATABASES))}, and nothing to write, call or administer"
_GRANT = re.compile(r"GRANT (?P<what>.+?) ON (?P<where>\S+) TO \S+(?P<more>.*)")

_PASSING = re.compile(r"\b0x[0-9a-f]+|\b[0-9a-f]{8}-[0-9a-f-]{27}")  # differ from try to try


def problems(outside: Settings) -> list[Problem]:
    """What speaks against using the stores that have an address. `outside` is without stack.env."""
    embedded = endpoints.embedded(outside)
    checks: Mapping[endpoints.Store, Callable[[Settings], list[Problem]]] = {
        "postgres": _postgres,
        "clickhouse": _clickhouse,
        "redis": _redis,
        "object_store": _object_store,
        "opensearch": _opensearch,
    }
    return [
        problem
        for store in endpoints.wanted(outside)
        if store not in embedded
        for problem in checks[store](outside)
    ]


def _let_in(connect: Mapping[str, Callable[[], object]], variables: str) -> tuple[bool, list[Problem]]:
    """Try every account. Whether the first one was let in, and what the others met; `variables` name what to
    look at. What two accounts meet alike (a server that is away) is told once."""
    found: dict[str, Problem] = {}
    refused = set()
    for account, attempt in connect.items():
        try:
            attempt()
        except BiltenError as error:
            refused.add(account)
            for problem in error.problems:
                named = replace(problem, next=f"correct {variables.format(account)}")
                found.setdefault(_PASSING.sub("", problem.found), named)
    return next(iter(connect)) not in refused, list(found.values())


def _postgres(settings: Settings) -> list[Problem]:
    postgres = settings.postgres
    roles: Mapping[str, postgres_store.Role] = {"": "owner", "ETL_": "etl", "DAGSTER_": "dagster"}

    def attempt(role: postgres_store.Role) -> None:
        postgres_store.connect(postgres, role, application_name="bilten up").close()

    let_in, found = _let_in(
        {prefix: partial(attempt, role) for prefix, role in roles.items()},
        "BILTEN_POSTGRES__HOST, __PORT, __{0}USER or __{0}PASSWORD, or what the server allows",
    )
    if not let_in:
        return found
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
    return found


def _clickhouse(settings: Settings) -> list[Problem]:
    clickhouse = settings.clickhouse
    roles: Mapping[str, clickhouse_store.Role] = {"": "etl", "ANALYST_": "analyst"}

    def attempt(role: clickhouse_store.Role) -> None:
        clickhouse_store.connect(clickhouse, role).close()

    let_in, found = _let_in(
        {prefix: partial(attempt, role) for prefix, role in roles.items()},
        "BILTEN_CLICKHOUSE__HOST, __PORT, __SECURE, __{0}USER or __{0}PASSWORD",
    )
    if not let_in:
        return found
    client = clickhouse_store.connect(clickhouse)
    try:
        version = str(client.command("select version()"))
        if tuple(int(part) for part in version.split(".")[:2]) < FIRST_CLICKHOUSE:
            found.append(
                Problem(
                    f"ClickHouse at {clickhouse.host} is too old",
                    expected=f"{'.'.join(map(str, FIRST_CLICKHOUSE))} or later",
                    found=version,
                    next="upgrade the server",
                )
            )
            return found
        found += [
            Problem(
                f"{clickhouse.user} may not do in {database} what migrations, sync and dbt do",
                expected=PRIVILEGES,
                found=missing,
                next=f"as an administrator: grant {PRIVILEGES} on {database}.* to {clickhouse.user}",
            )
            for database in DATABASES
            if (missing := _missing(client, database))
        ]
    finally:
        client.close()
    return found + _analyst(clickhouse)


def _analyst(clickhouse: ClickHouseSettings) -> list[Problem]:
    """What the analyst may do more or less than read, as the server tells that account itself.

    By default a grant is one too many: what it shows that is not known here to be harmless is told.
    """
    from clickhouse_connect.driver.exceptions import ClickHouseError

    user = clickhouse.analyst_user
    try:
        client = clickhouse_store.connect(clickhouse, "analyst")
    except BiltenError:
        return []  # told with the other accounts
    try:
        # with what comes by roles; raw, for the embedded endpoint knows it without a FORMAT behind it only
        return grant_problems(user, client.raw_query("show grants final").decode().splitlines())
    except ClickHouseError as error:
        return [
            Problem(
                f"{user} cannot be asked for its grants",
                expected=_READS,
                found=str(error).splitlines()[0][:300],
                next=f"as {user}: show grants final",
            )
        ]
    finally:
        client.close()


def grant_problems(user: str, lines: Sequence[str]) -> list[Problem]:
    """What speaks against these grants of an analyst, lines of SHOW GRANTS FINAL."""
    readable: set[str] = set()
    found = []
    for line in lines:
        grant = _GRANT.fullmatch(line)
        if grant is not None and grant["what"] in ("SELECT", "ALL"):
            readable |= READABLE_DATABASES if grant["where"] == "*.*" else {grant["where"].removesuffix(".*")}
        if line.startswith("REVOKE ") or (grant is not None and _harmless(grant)):
            continue  # a revoke only takes away
        what = "it" if grant is None else f"{grant['what'].lower()} on {grant['where']}"
        found.append(
            Problem(
                f"{user} may do more than read",
                expected=_READS,
                found=line,
                next=f"as an administrator: revoke {what} from {user}, or from the role that brings it",
            )
        )
    found += [
        Problem(
            f"{user} may not read {database}",
            expected=_READS,
            found=f"no GRANT SELECT ON {database}.*",
            next=f"as an administrator: grant select on {database}.* to {user}",
        )
        for database in sorted(READABLE_DATABASES - readable)
    ]
    return found


def _harmless(grant: re.Match[str]) -> bool:
    """Whether it lets an analyst see what all analysts see, and nothing else."""
    database, _, table = grant["where"].partition(".")
    rights = re.split(r", (?![^(]*\))", grant["what"])
    if grant["more"] or not all(re.fullmatch(r"SHOW( \w+)?|SELECT(\(.*\))?", right) for right in rights):
        return False
    if database == "system":
        return table in READABLE_SYSTEM_TABLES
    return database in READABLE_DATABASES | INFORMATION_SCHEMAS


def _missing(client: Client, database: str) -> str:
    """What is missing of the privileges in a database, in words; empty where nothing is."""
    from clickhouse_connect.driver.exceptions import ClickHouseError

    try:
        granted = client.command(f"check grant {PRIVILEGES} on {database}.*")
    except ClickHouseError as error:
        return str(error).splitlines()[0][:300]
    return "" if str(granted) == "1" else "not all of them granted"


def _redis(settings: Settings) -> list[Problem]:
    _, found = _let_in(
        {"": lambda: redis.connect(settings.redis).close()},
        "BILTEN_REDIS__HOST, __PORT, __TLS or __PASSWORD",
    )
    return found


def _opensearch(settings: Settings) -> list[Problem]:
    _, found = _let_in(
        {"": lambda: opensearch.connect(settings.opensearch).close()},
        "BILTEN_OPENSEARCH__URL, __USER or __PASSWORD",
    )
    return found


def _object_store(settings: Settings) -> list[Problem]:
    """Every bucket is asked for, and whether these keys may write there is left to the first use: nothing is
    done to a store that is not ours."""
    first = settings.object_store
    found = _buckets(first, first.buckets_here)
    if first.copy_endpoint_url is not None:
        found += _buckets(first.of_copy, (first.bucket_backups_copy,))
    return found


def _buckets(store: ObjectStoreSettings, buckets: tuple[str, ...]) -> list[Problem]:
    from botocore.exceptions import BotoCoreError, ClientError

    found: dict[str, Problem] = {}
    client = object_store.connect(store)
    try:
        for bucket in buckets:
            try:
                client.head_bucket(Bucket=bucket)
            except ClientError as error:
                found[bucket] = Problem(
                    f"the object store at {store.endpoint_url} does not give the bucket {bucket}",
                    expected="an answer to HeadBucket",
                    found=str(error),
                    next=f"make {bucket} there and let these keys use it, or correct"
                    " BILTEN_OBJECT_STORE__ACCESS_KEY_ID and __SECRET_ACCESS_KEY",
                )
            except BotoCoreError as error:
                return [
                    Problem(
                        f"the object store at {store.endpoint_url} does not answer",
                        expected="an answer to HeadBucket",
                        found=str(error),
                        next="correct BILTEN_OBJECT_STORE__ENDPOINT_URL",
                    )
                ]
    finally:
        client.close()
    return list(found.values())
