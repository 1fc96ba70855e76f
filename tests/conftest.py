"""Fixtures with real servers.

    postgres_server    session   the server as its superuser sees it
    settings           function  a fresh migrated PostgreSQL database, an emptied migrated ClickHouse,
                                 an emptied Redis, buckets of its own
    empty_settings     function  the same before any migration
    own_postgres       function  a PostgreSQL of the test's own, which it may kill or restore
    own_clickhouse     function  a ClickHouse of the test's own, empty
    stores             function  `settings`, with dbt's project parsed and dbt forked (dbt_forks.py)
    parsed_project     session   a state directory with the parsed project
    dbt_forks          session   the address of a process that forks dbt
    environment        function  turns a Settings value into BILTEN_* variables, for child processes

A server starts when the first test asks for it.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest
from psycopg import sql

from bilten_orchestration.settings import (
    ClickHouseSettings,
    ObjectStoreSettings,
    OpenSearchSettings,
    PostgresSettings,
    RedisSettings,
    Settings,
)
from bilten_orchestration.settings.loading import as_environment
from tests import dbt_forks as forks
from tests import stack

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

TEMPLATE = "bilten_template"
LOG_BYTES = 4 << 10
S = TypeVar("S", bound=stack.Server)


def pytest_configure() -> None:
    """SIGTERM (a CI that gives up, `timeout`) ends like Ctrl-C: fixtures tear down what they started.

    Temporary files, those of child processes too, are in memory unless TMPDIR names another place than usual.
    """
    if os.environ.get("TMPDIR", "/tmp") == "/tmp" and (memory := stack.temporary_directory()) is not None:
        os.environ["TMPDIR"] = memory
        tempfile.tempdir = None  # what was looked up before

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, interrupt)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure comes with what each server of the session said last: their logs go with the session."""
    report = yield
    servers = getattr(item, "funcargs", {}).get("servers")
    if report.failed and servers is not None:
        for server in servers.running:
            # one that never started has none
            with contextlib.suppress(OSError), server.log.open("rb") as log:
                log.seek(max(log.seek(0, os.SEEK_END) - LOG_BYTES, 0))
                said = log.read().decode(errors="replace")
                report.sections.append((f"log of {server.log.parent.name}", said))
    return report


@pytest.fixture(scope="session", autouse=True)
def _no_settings_from_outside() -> None:
    """What the shell or a running stack says must not reach a test."""
    for name in [name for name in os.environ if name.startswith("BILTEN_")]:
        del os.environ[name]
    os.environ["BILTEN_HOME"] = "/nonexistent/bilten-tests"


class Servers:
    """The session's servers, each started at its first use."""

    def __init__(self, base: Path, running: list[stack.Server]) -> None:
        self.base = base
        self.running = running
        self.numbers = itertools.count(1)
        self.clients: dict[int, Client] = {}  # by port

    @cached_property
    def postgres(self) -> stack.PostgresServer:
        return self._keep(stack.start_postgres(self.base))

    @cached_property
    def clickhouse(self) -> stack.ClickHouseServer:
        return self._keep(stack.start_clickhouse(self.base))

    @cached_property
    def empty_clickhouse(self) -> stack.ClickHouseServer:
        return self._keep(stack.start_clickhouse(self.base, "clickhouse-empty"))

    @cached_property
    def redis(self) -> RedisSettings:
        server, settings = stack.start_redis(self.base)
        self._keep(server)
        return settings

    @cached_property
    def object_store(self) -> ObjectStoreSettings:
        server, settings = stack.start_object_store(self.base)
        self._keep(server)
        return settings

    @cached_property
    def opensearch(self) -> OpenSearchSettings:
        """Whose indices a test removes itself."""
        server, settings = stack.start_opensearch(self.base)
        self._keep(server)
        return settings

    def _keep(self, server: S) -> S:
        self.running.append(server)
        return server

    @cached_property
    def template(self) -> dict[str, set[str]]:
        """Both databases migrated once, by the real runner; what ClickHouse holds then, per database."""
        try:
            from bilten_orchestration.migrations import runner
            from bilten_orchestration.partitions.postgres.premake import premake
        except ImportError as error:
            pytest.fail(
                f"this test needs migrated databases, and the migration runner cannot be imported: {error}"
            )
        self.create_database(TEMPLATE)
        settings = self.settings(TEMPLATE, self.clickhouse.settings)
        runner.up(settings)
        premake(settings)  # without a month for the audit log every UPDATE fails
        with stack.postgres.superuser(self.postgres.cluster) as connection:
            connection.execute(sql.SQL("alter database {} is_template true").format(sql.Identifier(TEMPLATE)))
        return tables(self.client(self.clickhouse.settings))

    def client(self, clickhouse: ClickHouseSettings) -> Client:
        """One for the session: making it costs more than what is asked between two tests."""
        from bilten_orchestration.stores.clickhouse import connect

        if clickhouse.port not in self.clients:
            self.clients[clickhouse.port] = connect(clickhouse)
        return self.clients[clickhouse.port]

    def create_database(self, name: str, *, template: str | None = None) -> None:
        owner = self.postgres.settings().user
        with stack.postgres.superuser(self.postgres.cluster) as connection:
            if template is not None:
                connection.execute(
                    sql.SQL("create database {} owner {} template {} strategy file_copy").format(
                        sql.Identifier(name), sql.Identifier(owner), sql.Identifier(template)
                    )
                )
            stack.postgres.create_database(connection, name, owner, stack.postgres.SCHEMA_ROLES)
        stack.postgres.create_extensions(self.postgres.cluster, name)

    def drop_database(self, name: str) -> None:
        with stack.postgres.superuser(self.postgres.cluster) as connection:
            for (gid,) in connection.execute(
                "select gid from pg_prepared_xacts where database = %s", (name,)
            ).fetchall():
                with stack.postgres.superuser(self.postgres.cluster, name) as inside:
                    inside.execute(sql.SQL("rollback prepared {}").format(sql.Literal(gid)))
            for (slot,) in connection.execute(
                "select slot_name from pg_replication_slots where database = %s", (name,)
            ).fetchall():
                connection.execute(
                    "select pg_terminate_backend(active_pid, 10000) from pg_replication_slots"
                    " where slot_name = %s and active_pid is not null",
                    (slot,),
                )
                connection.execute(
                    "select pg_drop_replication_slot(slot_name) from pg_replication_slots"
                    " where slot_name = %s",
                    (slot,),
                )
            connection.execute(
                sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name))
            )

    def settings(self, database: str, clickhouse: ClickHouseSettings) -> Settings:
        number = next(self.numbers)
        return Settings(
            home=self.base / "homes" / str(number),
            environment="test",
            postgres=self.postgres.settings(database),
            clickhouse=clickhouse,
            redis=self.redis,
            object_store=self.buckets(number),
            opensearch=OpenSearchSettings(enabled=False),  # a test that searches says so
        )

    def buckets(self, number: int | None = None) -> ObjectStoreSettings:
        """Four empty buckets, on the session's object store."""
        from bilten_orchestration.stores.object_store import connect

        number = next(self.numbers) if number is None else number
        names = {
            f"bucket_{purpose}": f"test-{number}-{purpose.replace('_', '-')}"
            for purpose in ("backups", "backups_copy", "dagster", "assets")
        }
        settings = self.object_store.model_copy(update=names)
        client = connect(settings)
        for bucket in settings.buckets:
            client.create_bucket(Bucket=bucket)
        client.close()
        return settings


def tables(client: Client) -> dict[str, set[str]]:
    """Databases that are not the server's own, and their tables and views."""
    found: dict[str, set[str]] = {
        name: set()
        for (name,) in client.query(
            "select name from system.databases where name not in"
            " ('system', 'information_schema', 'INFORMATION_SCHEMA', 'default')"
        ).result_rows
    }
    for database, table in client.query(
        "select database, name from system.tables where not is_temporary"
    ).result_rows:
        if database in found:
            found[database].add(table)
    return found


def empty_clickhouse(client: Client, keep: dict[str, set[str]]) -> None:
    """Back to `keep`: what is not in it is dropped, what is in it holds no row."""
    for database, names in tables(client).items():
        if database not in keep:
            client.command(f"drop database `{database}` sync")
            continue
        for name in names - keep[database]:
            client.command(f"drop table `{database}`.`{name}` sync")
    filled = client.query(
        "select database, name from system.tables where has_own_data and total_rows > 0"
    ).result_rows
    for database, name in filled:
        if database in keep:
            client.command(f"truncate table `{database}`.`{name}` sync")


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    base = stack.make_base()
    with stack.stopping() as running:
        yield Servers(base, running)
    shutil.rmtree(base, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server(servers: Servers) -> PostgresSettings:
    return servers.postgres.superuser


@pytest.fixture
def settings(servers: Servers) -> Iterator[Settings]:
    migrated = servers.template
    database = f"test_{next(servers.numbers)}"
    servers.create_database(database, template=TEMPLATE)
    empty_clickhouse(servers.client(servers.clickhouse.settings), migrated)
    value = servers.settings(database, servers.clickhouse.settings)
    _flush(value.redis)
    yield value
    servers.drop_database(database)


@pytest.fixture(scope="session")
def parsed_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory whose manifest is prepared: dbt parses for some seconds, once for all workers."""
    from bilten_orchestration.metrics import manifest

    base = tmp_path_factory.getbasetemp()
    home = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "parsed"
    home.mkdir(exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        manifest.prepare(Settings(home=home))
    return home


@pytest.fixture(scope="session")
def dbt_forks(servers: Servers, parsed_project: Path) -> Iterator[Path]:
    from bilten_orchestration.metrics import manifest

    parsed = manifest.parsed(Settings(home=parsed_project))
    assert parsed is not None
    address = servers.base / "dbt"
    server = forks.start(address, parsed)
    yield address
    server.kill()
    server.wait()


@pytest.fixture
def stores(
    settings: Settings, parsed_project: Path, dbt_forks: Path, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    from bilten_orchestration.metrics import dbt_call, manifest

    fresh = dbt_call.DbtCall.argv.fget
    assert fresh is not None
    monkeypatch.setattr(dbt_call.DbtCall, "argv", property(lambda call: forks.argv(dbt_forks, fresh(call))))
    (settings.home / "dbt").mkdir(parents=True, exist_ok=True)
    (settings.home / "dbt" / "manifest").symlink_to(manifest.directory(Settings(home=parsed_project)))
    # some seconds of sqlglot, kept by what it is computed from
    (parsed_project / "dbt" / "lineage").mkdir(exist_ok=True)
    (settings.home / "dbt" / "lineage").symlink_to(parsed_project / "dbt" / "lineage")
    return settings


@pytest.fixture
def empty_settings(servers: Servers) -> Iterator[Settings]:
    database = f"test_{next(servers.numbers)}"
    servers.create_database(database)
    empty_clickhouse(servers.client(servers.empty_clickhouse.settings), {})
    value = servers.settings(database, servers.empty_clickhouse.settings)
    _flush(value.redis)
    yield value
    servers.drop_database(database)


@pytest.fixture
def own_postgres(servers: Servers) -> Iterator[stack.PostgresServer]:
    name = f"postgres-{next(servers.numbers)}"
    server = stack.start_postgres(servers.base, name, durable=True)
    yield server
    server.kill()
    shutil.rmtree(servers.base / name)


@pytest.fixture
def own_clickhouse(servers: Servers) -> Iterator[stack.ClickHouseServer]:
    name = f"clickhouse-{next(servers.numbers)}"
    server = stack.start_clickhouse(servers.base, name)
    yield server
    server.kill()
    shutil.rmtree(servers.base / name)


@pytest.fixture
def environment() -> Callable[[Settings], dict[str, str]]:
    """The process environment for a child that shall see exactly these settings."""

    def build(value: Settings) -> dict[str, str]:
        outside = {name: text for name, text in os.environ.items() if not name.startswith("BILTEN_")}
        return outside | as_environment(value)

    return build


def _flush(settings: RedisSettings) -> None:
    from bilten_orchestration.stores.redis import connect

    client = connect(settings)
    client.flushall()
    client.close()
