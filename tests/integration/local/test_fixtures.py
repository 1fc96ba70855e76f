"""The fixtures that every other test leans on: each test starts from the same migrated state."""

from __future__ import annotations

import psutil
import pytest

from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse, object_store, postgres, redis
from tests import stack
from tests.conftest import Servers, tables


def _litter(settings: Settings) -> None:
    with postgres.connect(settings.postgres, autocommit=True) as connection:
        connection.execute("create table public.litter (a int)")
    client = clickhouse.connect(settings.clickhouse)
    client.command("create table marts.litter (a Int32) engine = MergeTree order by a")
    client.command("create database litter")
    client.command(
        "insert into analytics.mart_days (mart, day, is_final, as_of, batch, rows, verdict, run_id)"
        " values ('m', '2026-01-01', true, now64(6), 1, 1, 'swapped', 'r')"
    )
    client.close()
    redis.connect(settings.redis).set("litter", 1)
    object_store.connect(settings.object_store).put_object(
        Bucket=settings.object_store.bucket_assets, Key="litter", Body=b"x"
    )


@pytest.mark.parametrize("turn", [1, 2])
def test_what_one_test_leaves_the_next_does_not_see(settings: Settings, servers: Servers, turn: int) -> None:
    with postgres.connect(settings.postgres) as connection:
        assert connection.execute("select to_regclass('public.litter')").fetchone() == (None,)
        assert connection.execute("select count(*) > 10 from system.migrations").fetchone() == (True,)
    assert tables(servers.client(settings.clickhouse)) == servers.template
    client = clickhouse.connect(settings.clickhouse)
    assert client.command("select count() from analytics.mart_days") == 0
    client.close()
    assert redis.connect(settings.redis).dbsize() == 0
    found = object_store.connect(settings.object_store).list_objects_v2(
        Bucket=settings.object_store.bucket_assets
    )
    assert found.get("Contents", []) == []
    _litter(settings)


def test_every_role_gets_in(settings: Settings) -> None:
    for role in ("owner", "etl", "dagster"):
        postgres.connect(settings.postgres, role).close()
    for reader in ("etl", "analyst"):
        clickhouse.connect(settings.clickhouse, reader).close()


def test_empty_settings_have_no_schema(servers: Servers, empty_settings: Settings) -> None:
    with postgres.connect(empty_settings.postgres) as connection:
        assert connection.execute("select to_regnamespace('system')").fetchone() == (None,)
    assert tables(servers.client(empty_settings.clickhouse)) == {}


def test_own_clickhouse_keeps_its_rows_over_a_kill(own_clickhouse: stack.ClickHouseServer) -> None:
    client = clickhouse.connect(own_clickhouse.settings)
    client.command("create database kept")
    client.command("create table kept.t (a Int32) engine = MergeTree order by a")
    client.command("insert into kept.t values (1), (2)")
    client.close()
    own_clickhouse.kill()
    own_clickhouse.start()
    client = clickhouse.connect(own_clickhouse.settings)
    assert client.command("select count() from kept.t") == 2
    client.close()


def test_secrets_are_in_no_process_list(settings: Settings, servers: Servers) -> None:
    words = " ".join(" ".join(psutil.Process(server.pid).cmdline()) for server in servers.running)
    assert "rclone" in words
    assert "redis-server" in words
    for secret in (stack.PASSWORD, settings.object_store.secret_access_key):
        assert secret.get_secret_value() not in words
