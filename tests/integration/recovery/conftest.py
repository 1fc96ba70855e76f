"""A platform whose PostgreSQL is backed up and its WAL streamed: one for a module."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bilten_orchestration.backups.clickhouse import disks
from bilten_orchestration.backups.postgres.base import take
from bilten_orchestration.backups.repository import keys
from bilten_orchestration.metrics.build import build
from bilten_orchestration.migrations import runner
from bilten_orchestration.partitions.postgres.premake import premake
from bilten_orchestration.settings import BackupSettings, OpenSearchSettings, PostgresSettings, Settings
from bilten_orchestration.settings.loading import as_environment
from bilten_orchestration.stores import clickhouse, postgres
from tests import stack
from tests.conftest import Servers
from tests.integration.backups.wal.conftest import Stream
from tests.integration.drills.conftest import cache, here  # noqa: F401
from tests.integration.ingestion.shop import owner
from tests.integration.metrics.world import FIRST, World, later
from tests.waiting import until

LAST = later(FIRST, 3)


@dataclass
class Platform:
    """`world` is its trade from FIRST to LAST, published in the marts; `full` the backup behind it."""

    settings: Settings
    stream: Stream
    world: World
    full: str = field(default="")
    superuser: PostgresSettings | None = None

    def execute(self, *statements: str) -> tuple[int, list[tuple[Any, ...]]]:
        """All in one transaction, whose id comes back with the rows of the last one."""
        with postgres.connect(self.settings.postgres) as connection:
            row = connection.execute("select pg_current_xact_id()::text").fetchone()
            assert row is not None
            cursor = None
            for statement in statements:
                cursor = connection.execute(statement)  # type: ignore[arg-type]
            rows = cursor.fetchall() if cursor is not None and cursor.description else []
        return int(row[0]), rows

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        return self.execute(statement)[1]

    def shipped(self, bucket: int = 0) -> None:
        """Until what was committed so far is in the repository (1: the second), with a heartbeat behind."""
        ((now,),) = self.ask("select clock_timestamp()")

        def reached() -> bool:
            found, _ = self.stream.status()
            at = None if found is None else found.buckets[bucket].reachable_until
            return at is not None and at >= now

        until(reached, f"WAL of {now} in the repository")

    def content(self) -> dict[str, str]:
        """A digest of every table of the application, without what triggers write anew."""
        found = {}
        for schema, name in self.ask(
            "select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace"
            " where c.relkind in ('r', 'p') and not c.relispartition and n.nspname in ('users',"
            " 'authentication', 'events', 'tickets', 'payments', 'financial', 'branding', 'assets')"
        ):
            ((digest,),) = self.ask(
                "select md5(coalesce(string_agg(r, '|' order by r), ''))"
                " from (select (to_jsonb(t) - 'sync_xid' - 'updated_at')::text as r"
                f" from {schema}.{name} t) s"
            )
            found[f"{schema}.{name}"] = digest
        return found

    def marts(self) -> dict[str, Any]:
        """Content of all daily marts."""
        client = clickhouse.connect(self.settings.clickhouse)
        try:
            names = client.query(
                "select distinct table from system.columns where database = 'marts' and name = 'metric_date'"
                " and table like 'fct_%' order by table"
            ).result_rows
        finally:
            client.close()
        return {name: self.world.digest(name) for (name,) in names}


def make(servers: Servers, running: list[stack.Server]) -> Platform:
    number = next(servers.numbers)
    server = stack.start_postgres(servers.base, f"postgres-{number}")
    running.append(server)
    base = servers.base / f"recovery-{number}"
    base.mkdir(mode=0o755)
    store, ring = servers.buckets(), keys.ensure(base / "home" / "backup-keys.json")
    engine = stack.start_clickhouse(
        servers.base, f"clickhouse-{number}", disks=disks.configuration(store, ring)
    )
    running.append(engine)
    settings = Settings(
        home=base / "home",
        environment="test",
        postgres=server.settings(),
        clickhouse=engine.settings,
        redis=servers.redis,
        object_store=store,
        opensearch=OpenSearchSettings(enabled=False),
        backups=BackupSettings(
            slice_bytes=16 << 20, lock_wait_seconds=0, wal_ship_seconds=1, heartbeat_seconds=1
        ),
    )
    runner.up(settings)
    premake(settings)
    outside = {name: text for name, text in os.environ.items() if not name.startswith("BILTEN_")}
    stream = Stream(settings, outside | as_environment(settings), base / "stream.log")
    stream.start()
    connection = owner(settings)
    world = World(settings, connection).trade(FIRST, LAST)
    connection.close()
    made = Platform(settings, stream, world)
    made.superuser = server.superuser.model_copy(update={"database": settings.postgres.database})
    made.full = take(settings, "full").manifest.id
    world.sync()
    return made


def publish(platform: Platform, parsed_project: Path) -> None:
    """Build the marts of all days."""
    from bilten_orchestration.metrics import manifest

    home = platform.settings.home
    (home / "dbt").mkdir(parents=True)
    (home / "dbt" / "manifest").symlink_to(manifest.directory(Settings(home=parsed_project)))
    build(platform.settings, FIRST, LAST, refresh_whole=False)


@pytest.fixture(scope="module")
def platform(servers: Servers) -> Iterator[Platform]:
    with stack.stopping() as running:
        made = make(servers, running)
        try:
            yield made
        finally:
            made.stream.kill()
            shutil.rmtree(made.settings.home.parent, ignore_errors=True)
