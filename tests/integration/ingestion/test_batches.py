"""Batches against real servers: what is new arrives, once, whoever else writes or reads meanwhile."""

from __future__ import annotations

import re
import subprocess
import threading
from collections import Counter
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from clickhouse_connect.driver.httpclient import HttpClient

from bilten_orchestration.errors import LockHeld
from bilten_orchestration.ingestion.sync import sync
from bilten_orchestration.ingestion.tables import TABLES
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.locks import advisory_lock
from tests.integration.ingestion.conftest import Ask
from tests.integration.ingestion.shop import NOON, Shop, owner
from tests.waiting import until

PAYMENTS = "select count() from bilten_raw.payments_payments final"


def test_first_load_and_increments_are_equal_to_postgres(
    settings: Settings, shop: Shop, equal: Callable[[], None]
) -> None:
    order = shop.order(tickets=2)
    shop.free_ticket(complimentary=True)
    first = sync(settings)
    assert first.kind == "first"
    assert set(first.touched_days) == {date(2026, 3, 10)}

    shop.order(NOON + timedelta(days=1))
    shop.set(
        "tickets.tickets", order.tickets[0], status="checked_in", checked_in_at=NOON + timedelta(days=80)
    )
    second = sync(settings)
    assert second.kind == "incremental"
    assert second.rows["payments.payments"] == 1
    assert set(second.touched_days) == {date(2026, 3, 11), date(2026, 5, 29)}

    third = sync(settings)
    assert (dict(third.rows), dict(third.deletes), dict(third.touched_days)) == ({}, {}, {})
    assert third.batch > second.batch > first.batch
    equal()


def test_batches_leave_neither_rows_in_the_stage_nor_empty_parts(
    settings: Settings, shop: Shop, ask: Ask
) -> None:
    """An empty part is moved like any other: each batch would take those of the one before along."""
    for number in range(4):
        shop.order(NOON + timedelta(days=number))
        sync(settings)
    left = """
        select database, table, name, rows from system.parts
        where active and table in (select name from system.tables where database = 'bilten_raw')
            and (database = 'bilten_stage' or database = 'bilten_raw' and rows = 0)
    """
    assert ask(left) == []


def test_a_writer_that_stays_open_over_two_batches_is_not_missed(
    settings: Settings, shop: Shop, ask: Ask, equal: Callable[[], None]
) -> None:
    sync(settings)
    with owner(settings) as slow:
        late = Shop(slow, organization=shop.organization, organizer=shop.organizer, buyer=shop.buyer)
        late.event, late.ticket_type = shop.event, shop.ticket_type
        with slow.transaction():
            late.order()
            shop.order(NOON + timedelta(days=1))
            assert sync(settings).rows["payments.payments"] == 1
            # the mark stands still behind the open writer; what was sent is not sent again
            again = sync(settings)
            assert dict(again.rows) == {}
            assert ask(PAYMENTS) == [(1,)]
    assert sync(settings).rows["payments.payments"] == 1
    assert ask(PAYMENTS) == [(2,)]
    equal()


def test_a_prepared_transaction_over_three_batches(
    settings: Settings, shop: Shop, ask: Ask, equal: Callable[[], None]
) -> None:
    sync(settings)
    with owner(settings) as connection:
        writer = Shop(connection, organization=shop.organization, organizer=shop.organizer, buyer=shop.buyer)
        writer.event, writer.ticket_type = shop.event, shop.ticket_type
        connection.execute("begin")
        connection.execute("delete from tickets.ticket_types where event_id = %s and false", (shop.event,))
        writer.free_ticket()
        gid = f"sync-{uuid4()}"
        connection.execute(f"prepare transaction '{gid}'")
    for number in range(1, 4):
        shop.order(NOON + timedelta(days=number))
        assert sync(settings).rows["payments.payments"] == 1
    assert ask("select count() from bilten_raw.tickets_tickets final") == [(3,)]
    shop.connection.execute(f"commit prepared '{gid}'")  # type: ignore[arg-type]
    assert sync(settings).rows == {"tickets.tickets": 1}
    equal()


def test_two_writers_where_the_second_waits_for_the_first(
    settings: Settings, shop: Shop, ask: Ask, equal: Callable[[], None]
) -> None:
    order = shop.order()
    sync(settings)
    with owner(settings) as first, owner(settings) as second:
        first.execute("begin")
        first.execute("update payments.payments set transaction_id = 'first' where id = %s", (order.payment,))
        waiting = threading.Thread(
            target=second.execute,
            args=("update payments.payments set transaction_id = 'second' where id = %s", (order.payment,)),
        )
        waiting.start()
        _until_waiting(shop.connection, second.info.backend_pid)
        assert dict(sync(settings).rows) == {}
        first.execute("commit")
        waiting.join(timeout=30)
        sync(settings)
    assert ask("select transaction_id from bilten_raw.payments_payments final") == [("second",)]
    equal()


def test_a_long_pg_dump_holds_nothing_up(
    settings: Settings, shop: Shop, servers: object, tmp_path: Path, equal: Callable[[], None]
) -> None:
    sync(settings)
    binary = servers.postgres.cluster.bin / "pg_dump"  # type: ignore[attr-defined]
    with owner(settings) as locker:
        locker.execute("begin")
        locker.execute("lock table branding.brand_settings in access exclusive mode")
        dump = subprocess.Popen(
            [
                str(binary),
                "-Fc",
                "--no-sync",
                "-f",
                str(tmp_path / "dump"),
                "-h",
                str(settings.postgres.host),
                "-p",
                str(settings.postgres.port),
                "-U",
                settings.postgres.user,
                settings.postgres.database,
            ],
            env={"PGPASSWORD": settings.postgres.password.get_secret_value()},
        )
        try:
            until(
                lambda: shop.connection.execute(
                    "select 1 from pg_stat_activity where application_name = 'pg_dump' and wait_event_type = "
                    "'Lock' "
                    "and datname = current_database()"
                ).fetchone(),
                "pg_dump waits for the lock",
            )
            shop.order()
            assert sync(settings).rows["payments.payments"] == 1
            assert dict(sync(settings).rows) == {}
            equal()
            locker.execute("commit")
            assert dump.wait(timeout=60) == 0
        finally:
            dump.kill()
            dump.wait()


def test_deleted_and_inserted_again_under_the_same_id(
    settings: Settings, shop: Shop, ask: Ask, equal: Callable[[], None]
) -> None:
    gone, back, later = (shop.free_ticket() for _ in range(3))
    sync(settings)
    for ticket in (gone, back, later):
        shop.delete("tickets.tickets", ticket)
    shop._ticket(back, NOON + timedelta(days=3))
    report = sync(settings)
    assert report.deletes == {"tickets.tickets": 2}
    assert set(report.touched_days) == {date(2026, 3, 10), date(2026, 3, 13)}
    assert ask("select id from bilten_raw.tickets_tickets final") == [(back,)]
    shop._ticket(later, NOON)
    sync(settings)
    assert len(ask("select id from bilten_raw.tickets_tickets final")) == 2
    equal()


def test_truncate_is_refused(shop: Shop) -> None:
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="no tombstones"):
        shop.connection.execute("truncate payments.refunds")


def test_a_chunk_that_is_sent_again_counts_once(
    settings: Settings, shop: Shop, ask: Ask, equal: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the client does when an answer is lost: the same bytes under the same token, to the same table.

    Copies count rows as they lie there: FINAL would hide one that came twice.
    """
    in_pieces = settings.model_copy(
        update={"ingestion": settings.ingestion.model_copy(update={"chunk_rows": 2})}
    )
    sent: Counter[str] = Counter()
    insert = HttpClient.raw_insert

    def twice(client: HttpClient, table: str, *positional: Any, **named: Any) -> Any:
        sent[re.sub(r"control_totals_\d+", "control_totals", table)] += 1
        insert(client, table, *positional, **named)
        return insert(client, table, *positional, **named)

    def copied(table: str) -> int:
        return int(ask(f"select count() from bilten_raw.{table}")[0][0])

    def totals() -> list[tuple[Any, ...]]:
        return ask(
            "select metric_date, event_id, currency, metric, value from analytics.control_totals final "
            "where (metric_date, batch) in "
            "(select metric_date, max(batch) from analytics.control_days group by metric_date) order by all"
        )

    orders = [shop.order(NOON + timedelta(days=number), tickets=2) for number in range(5)]
    with monkeypatch.context() as patched:
        patched.setattr(HttpClient, "raw_insert", twice)
        first = sync(in_pieces)
        in_chunks = ("payments_payments", "payments_payment_items", "tickets_tickets", "control_totals")
        assert [name for name in in_chunks if sent[f"bilten_stage.{name}"] < 2] == []
        assert {table.source: copied(table.target) for table in TABLES} == {
            table.source: _rows(shop, table.source) for table in TABLES
        }
        assert first.control_cells == len(totals())
        sent.clear()
        shop.refund(orders[0], NOON + timedelta(days=1), amount="5.00")
        second = sync(in_pieces)
        assert set(sent) == {
            "bilten_stage.payments_refunds",
            "bilten_stage.control_totals",
            "analytics.sync_batches",
        }
        assert copied("payments_refunds") == 1
    assert ask("select batch, count() from analytics.sync_batches group by batch order by batch") == [
        (first.batch, 1),
        (second.batch, 1),
    ]
    equal()
    # undisturbed, of the same days
    found = totals()
    again = sync(settings, control_days=second.touched_days)
    assert (again.control_cells, totals()) == (second.control_cells, found)
    whole = sync(settings, full=True)
    assert (whole.control_cells, totals()) == (len(found), found)


def test_a_second_sync_waits_for_a_dead_one_only_and_a_build_that_reads_is_waited_for(
    settings: Settings, shop: Shop
) -> None:
    hasty = settings.model_copy(
        update={"ingestion": settings.ingestion.model_copy(update={"lock_wait_seconds": 0})}
    )
    with postgres.connect(settings.postgres, "etl", autocommit=True, application_name="other sync") as other:
        with advisory_lock(other, "sync-run"), pytest.raises(LockHeld, match="other sync"):
            sync(settings)
        with advisory_lock(other, "sync", shared=True):
            with pytest.raises(LockHeld, match="lock 'sync'"):
                sync(hasty)
            told: list[str] = []
            waiting = threading.Thread(target=lambda: sync(settings, progress=told.append))
            waiting.start()
            until(lambda: any("other sync" in text for text in told), "the second sync waits")
        waiting.join(timeout=60)
    assert told[-1].endswith("applied")


def _rows(shop: Shop, source: str) -> int:
    row = shop.connection.execute(f"select count(*) from {source}").fetchone()  # type: ignore[arg-type]
    assert row is not None
    return int(row[0])


def _until_waiting(connection: psycopg.Connection[tuple[object, ...]], pid: int) -> None:
    until(
        lambda: connection.execute(
            "select 1 from pg_stat_activity where pid = %s and wait_event_type = 'Lock'", (pid,)
        ).fetchone(),
        "it waits for a lock",
    )
