"""Another PostgreSQL, or the same at an earlier moment: told what would change, and done on command only."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest

from bilten_orchestration.errors import Refused
from bilten_orchestration.ingestion.sync import reconcile, sync
from bilten_orchestration.ingestion.tables import TABLES
from bilten_orchestration.local import postgres as local_postgres
from bilten_orchestration.local.privileges import server_directory, server_user
from bilten_orchestration.migrations import runner
from bilten_orchestration.partitions.postgres.premake import premake
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse
from tests import stack
from tests.integration.ingestion.conftest import Ask
from tests.integration.ingestion.shop import NOON, Shop, owner


def _lines(refused: pytest.ExceptionInfo[Refused]) -> str:
    return "\n".join(str(problem) for problem in refused.value.problems)


def test_an_empty_postgres_never_empties_clickhouse(
    settings: Settings, shop: Shop, ask: Ask, servers: object
) -> None:
    shop.order()
    first = sync(settings)
    servers.create_database("test_wrong_address", template="bilten_template")  # type: ignore[attr-defined]
    try:
        wrong = settings.model_copy(
            update={"postgres": settings.postgres.model_copy(update={"database": "test_wrong_address"})}
        )
        for full in (False, True):
            with pytest.raises(Refused) as refused:
                sync(wrong, full=full)
            told = _lines(refused)
            assert "holds another batch" in told
            assert "a reconcile would change payments.payments" in told
            assert "add 0, change 0, remove 1" in told
            assert "1 local days (2026-03-10" in told
    finally:
        servers.drop_database("test_wrong_address")  # type: ignore[attr-defined]
    assert ask("select count() from bilten_raw.payments_payments final") == [(1,)]
    assert ask("select max(batch) from analytics.sync_batches") == [(first.batch,)]
    assert sync(settings).kind == "incremental"


def test_a_new_restore_id_stops_until_it_is_accepted(
    settings: Settings, shop: Shop, ask: Ask, equal: Callable[[], None]
) -> None:
    shop.order()
    sync(settings)
    shop.connection.execute("insert into system.restores (reason) values ('rehearsal')")
    with pytest.raises(Refused) as refused:
        sync(settings)
    assert "another epoch" in _lines(refused)
    accepted = sync(settings, accept_epoch=True)
    assert accepted.kind == "reconcile"
    # nothing differed, so no day is dirtied
    assert dict(accepted.touched_days) == {}
    assert sync(settings).kind == "incremental"
    equal()


def test_lost_clickhouse_is_filled_again_on_command(
    settings: Settings, shop: Shop, ask: Ask, equal: Callable[[], None]
) -> None:
    shop.order()
    sync(settings)
    client = clickhouse.connect(settings.clickhouse)
    for database, table in ask(
        "select database, name from system.tables where database in ('bilten_raw', 'analytics') and "
        "has_own_data"
    ):
        client.command(f"truncate table {database}.{table} sync")
    client.close()
    with pytest.raises(Refused, match="found:    no batch"):
        sync(settings)
    assert ask("select count() from bilten_raw.users_users") == [(0,)]
    report = sync(settings, full=True)
    assert set(report.touched_days) == {date(2026, 3, 10)}
    equal()


def test_postgres_restored_to_an_earlier_moment(
    own_postgres: stack.PostgresServer, servers: object, settings: Settings, tmp_path: Path
) -> None:
    """A real base backup, taken after batch 1, promoted after batch 3."""
    here = settings.model_copy(update={"postgres": own_postgres.settings()})
    runner.up(here, store="postgres")
    premake(here)
    with owner(here) as connection:
        shop = Shop(connection).open()
        kept, changed = shop.order(), shop.order(NOON + timedelta(days=1))
        sync(here)
        copy = _base_backup(own_postgres)
        shop.order(NOON + timedelta(days=2))
        sync(here)
        shop.set("payments.payments", changed.payment, deleted_at=NOON)
        with connection.transaction():
            connection.execute("delete from payments.payment_items where payment_id = %s", (kept.payment,))
            connection.execute("delete from tickets.tickets where payment_id = %s", (kept.payment,))
            connection.execute("delete from payments.payments where id = %s", (kept.payment,))
        last = sync(here)
    _restore(own_postgres, copy)

    with pytest.raises(Refused) as refused:
        sync(here)
    told = _lines(refused)
    assert f"found:    batch {last.batch}" in told
    assert "timeline 2" in told
    payments = next(
        p for p in refused.value.problems if p.what == "a reconcile would change payments.payments"
    )
    assert payments.found.endswith("add 1, change 1, remove 1")
    assert "3 local days (2026-03-10 to 2026-03-12)" in told

    accepted = sync(here, accept_epoch=True)
    assert accepted.batch > last.batch
    assert set(accepted.touched_days) == {date(2026, 3, 10), date(2026, 3, 11), date(2026, 3, 12)}
    assert reconcile(here).equal
    with owner(here) as connection:
        shop.connection = connection
        shop.order(NOON + timedelta(days=3))
    assert sync(here).rows["payments.payments"] == 1
    assert reconcile(here).equal


def _base_backup(server: stack.PostgresServer) -> Path:
    cluster = server.cluster
    copy = cluster.data.with_name("copy")
    server_directory(copy, cluster.user)
    subprocess.run(
        [
            str(cluster.bin / "pg_basebackup"),
            "-D",
            str(copy),
            "-h",
            str(cluster.socket_directory),
            "-p",
            str(cluster.port),
            "-U",
            local_postgres.SUPERUSER,
            "-X",
            "stream",
            "-c",
            "fast",
            "--no-sync",
        ],
        check=True,
        cwd="/",
        capture_output=True,
    )
    if cluster.user is not None:
        for path in [copy, *copy.rglob("*")]:
            shutil.chown(path, cluster.user.uid, cluster.user.gid)
    return copy


def _restore(server: stack.PostgresServer, copy: Path) -> None:
    """The copy in the server's place, promoted onto a timeline of its own."""
    server.stop()
    data = server.cluster.data
    data.rename(data.with_name("before"))
    copy.rename(data)
    (data / "recovery.signal").touch()
    user = server_user()
    if user is not None:
        shutil.chown(data / "recovery.signal", user.uid, user.gid)
    configuration = data / "postgresql.auto.conf"
    configuration.write_text(
        configuration.read_text()
        + "\nrestore_command = 'false'\nrecovery_target = 'immediate'\nrecovery_target_action = 'promote'\n"
    )
    server.start()


def test_stores_made_anew_begin_at_the_same_numbers_and_lose_nothing(
    settings: Settings, shop: Shop, equal: Callable[[], None]
) -> None:
    """The stage tables live on, and with them the tokens of the inserts they have seen."""
    shop.order()
    first = sync(settings)
    client = clickhouse.connect(settings.clickhouse)
    for table in (*(table.raw for table in TABLES), "analytics.sync_batches"):
        client.command(f"truncate table {table} sync")
    client.close()
    shop.connection.execute("delete from system.sync_state")
    shop.connection.execute("select setval('system.batch_number', %s, false)", (first.batch,))
    again = sync(settings)
    assert (again.kind, again.batch, again.rows) == ("first", first.batch, first.rows)
    equal()
