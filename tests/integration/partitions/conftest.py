from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from bilten_orchestration.migrations import runner
from bilten_orchestration.partitions.actions import Plan
from bilten_orchestration.partitions.bounds import Period
from bilten_orchestration.partitions.declared import PartitionedTable
from bilten_orchestration.partitions.postgres import apply as maintenance
from bilten_orchestration.partitions.postgres.apply import ApplyReport
from bilten_orchestration.partitions.postgres.catalogue import attached
from bilten_orchestration.partitions.postgres.premake import ensure_months
from bilten_orchestration.partitions.postgres.preview import preview
from bilten_orchestration.settings import PartitionSettings, Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.postgres import Connection
from tests.databases import Servers, empty_database


@pytest.fixture
def database(servers: Servers, tmp_path: Path) -> Iterator[Settings]:
    """Migrated, without any month."""
    with empty_database(servers, tmp_path) as settings:
        runner.up(settings, store="postgres")
        yield settings


@pytest.fixture
def owner(database: Settings) -> Iterator[Connection]:
    with postgres.connect(database.postgres, autocommit=True) as connection:
        yield connection


@dataclass(frozen=True)
class Shelf:
    """A migrated database with old months of users.user_behavior that hold rows, and buckets of its own."""

    settings: Settings
    owner: Connection
    table: PartitionedTable

    def fill(self, month: date, rows: int = 200) -> str:
        """The month, made where it is missing, with rows of every kind of value; its name."""
        ensure_months(self.owner, self.table.name, month, month)
        self.owner.execute(
            """
            insert into users.user_behavior (id, user_id, action, resource_type, metadata, created_at)
            select md5(%(month)s::text || n)::uuid, case when n %% 3 = 0 then gen_random_uuid() end,
                   'view' || n,
                   case n %% 4 when 0 then null when 1 then '' when 2 then %(odd)s else 'ü' end,
                   case when n %% 2 = 0 then jsonb_build_object('n', n, 'said', E'"\\\\ \\n') end,
                   %(month)s::date + interval '1 second' * n + interval '1 microsecond' * n
            from generate_series(1, %(rows)s) n
            """,
            {"month": month, "rows": rows, "odd": 'a,"b"\n\\.'},
        )
        return f"{self.table.name}_{Period.of(month).suffix}"

    def apply(self, **arguments: Any) -> ApplyReport:
        return maintenance.apply(self.settings, tables=[self.table], by="test", **arguments)

    def plan(self, **arguments: Any) -> Plan:
        return preview(self.settings, tables=[self.table], **arguments)

    def names(self) -> list[str]:
        return [each.name for each in attached(self.owner, self.table.name)]

    def content(self, relation: str) -> object:
        return self.owner.execute(
            f"select count(*), sum(hashtextextended(r::text, 0))::text from only {relation} r"
        ).fetchone()

    def state(self, partition: str) -> str | None:
        row = self.owner.execute(
            "select state from system.partition_metadata where partition_name = %s", (partition,)
        ).fetchone()
        return None if row is None else str(row[0])

    def exists(self, relation: str) -> bool:
        return self.owner.execute("select to_regclass(%s) is not null", (relation,)).fetchone() == (True,)


@pytest.fixture
def shelf(servers: Any, database: Settings, owner: Connection) -> Shelf:
    settings = database.model_copy(
        update={
            "object_store": servers.buckets(),
            # what an attempt to end has to wait for is there or not: tests do not wait for more
            "partitions": PartitionSettings(lock_retry_seconds=20, detach_wait_seconds=20),
        }
    )
    return Shelf(settings, owner, PartitionedTable("users.user_behavior", retention=2, premake=1))


def months_ago(number: int) -> date:
    """The first day of that month (UTC)."""
    return Period.of(datetime.now(UTC)).plus(-number).first
