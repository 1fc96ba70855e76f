"""A bad statement, and everything that it changed put back."""

from __future__ import annotations

import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from bilten_orchestration.backups.postgres.base import take
from bilten_orchestration.backups.repository import opened as repository_opened
from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.errors import Mismatch, Refused, UsageError
from bilten_orchestration.recovery import beside, journal
from bilten_orchestration.recovery.comparison import ChangedSince
from bilten_orchestration.recovery.evidence import Evidence
from bilten_orchestration.recovery.images import Image
from bilten_orchestration.recovery.rows import RowsReport, find, recover
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.postgres import Connection
from tests.integration.backups.command import Environment, bilten, document
from tests.integration.metrics.world import later
from tests.integration.recovery.conftest import FIRST, Platform

BAD_UPDATE = "update payments.payments set amount = amount * 2, fee_amount = fee_amount * 2"
AND_ITEMS = "update payments.payment_items set amount = amount * 2"


def _run(
    platform: Platform,
    table: str,
    transaction: int,
    *,
    execute: bool = True,
    changed_since: ChangedSince = "refuse",
) -> RowsReport:
    return recover(
        platform.settings,
        table,
        transaction=transaction,
        execute=execute,
        changed_since=changed_since,
        rebuild=False,
        by="test",
    )


def test_a_bad_update(platform: Platform, environment: Environment) -> None:
    content = platform.content()
    ((before,),) = platform.ask("select clock_timestamp()")
    bad, _ = platform.execute(BAD_UPDATE, AND_ITEMS)
    platform.world.sync()
    platform.shipped()

    [candidate] = find(platform.settings, "payments.payments", before)
    assert (candidate.transaction, candidate.updated, candidate.deleted) == (bad, 8, 0)
    call = ("recover", "rows", "--table", "payments.payments")
    listed = bilten(platform, environment, *call, "--since", before.isoformat())
    assert f"{bad:>12}" in listed.stdout
    previewed = bilten(platform, environment, *call, "--before", before.isoformat(), "--json")
    preview = document(previewed)["result"]
    assert {each["table"]: each["updated"] for each in preview["tables"]} == {
        "payments.payments": 8,
        "payments.payment_items": 20,
    }
    assert preview["tables"][0]["sample"][0]["columns"] in (["amount", "fee_amount"], ["amount"])
    assert "@example.org" not in previewed.stdout
    assert max(map(len, listed.stdout.splitlines())) <= 80
    assert platform.content() != content  # a preview writes nothing

    report = recover(
        platform.settings, "payments.payments", before=before, execute=True, rebuild=False, by="test"
    )
    assert report.transaction == bad
    assert report.settled is not None
    assert report.settled.equal
    assert report.problems == ()
    assert platform.content() == content
    ((actions, actors),) = platform.ask(
        "select count(*), count(distinct actor) from audit.audit_log where action = 'RECOVER'"
        " and table_name in ('payments', 'recoveries')"
    )
    assert (actions, actors) == (9, 1)

    again = bilten(platform, environment, *call, "--before", before.isoformat(), "--execute", "--no-rebuild")
    assert again.returncode == 0, again.stderr
    assert "nothing to copy back" in again.stdout
    assert "PostgreSQL and ClickHouse: equal" in again.stdout
    assert max(map(len, again.stdout.splitlines())) <= 80
    assert platform.content() == content
    assert platform.ask("select count(*) from system.recoveries") == [(1,)]
    with Opened.of(platform.settings, new=False) as opened:
        [entry] = journal.read(opened)
    assert entry.id == report.recovery
    assert entry.ended is not None
    assert entry.ended["outcome"] == "done"


@pytest.mark.faults
def test_deletes_with_all_that_hangs_on_them(platform: Platform) -> None:
    content = platform.content()
    day = later(FIRST, 2)
    paid = platform.world.orders[day].payment
    bad, _ = platform.execute(
        f"delete from payments.payment_items where payment_id = '{paid}'",
        f"delete from tickets.tickets where payment_id = '{paid}'",
        f"delete from payments.payments where id = '{paid}'",
        "savepoint one",
        # a subtransaction is another xid in the rows
        "update events.venues set name = name",
        "update events.events set title = 'gone'",
        "release savepoint one",
        # what is inserted goes again
        "insert into events.venues (name, address, city, country) values ('bad', 'x', 'y', 'z')",
    )
    platform.world.sync()
    platform.shipped()
    report = _run(platform, "tickets.tickets", bad)
    by_table = {each.table: each for each in report.tables}
    assert (by_table["payments.payments"].inserted, by_table["tickets.tickets"].inserted) == (1, 2)
    assert by_table["payments.payment_items"].inserted == 3
    assert by_table["events.venues"].deleted == 1
    assert by_table["events.events"].updated == 2
    order = [each.table for each in report.tables]
    assert order.index("payments.payments") < order.index("tickets.tickets")
    assert order.index("tickets.tickets") < order.index("payments.payment_items")
    assert platform.content() == content
    # tombstones of rows that came back are gone; the venue that was never there has one
    assert platform.ask(
        f"select table_name, count(*) from system.deleted_rows where sync_xid >= '{bad}' group by 1"
    ) == [("events.venues", 1)]
    assert report.settled is not None
    assert report.settled.equal


def test_rows_that_were_changed_again(platform: Platform) -> None:
    content = platform.content()
    a, b, c, d = (platform.world.orders[later(FIRST, number)].payment for number in range(4))
    names = ", ".join(f"'{each}'" for each in (a, b, c, d))
    bad, _ = platform.execute(
        "update payments.payments set payment_method = 'cash', transaction_id = id::text"
        f" where id in ({names})"
    )
    platform.execute(f"update payments.payments set payment_method = 'voucher' where id = '{a}'")
    platform.execute(f"update payments.payments set gateway_response = '{{}}' where id = '{b}'")
    platform.execute(
        f"update payments.payments set payment_method = 'card', transaction_id = null where id = '{c}'"
    )
    platform.shipped()
    preview = _run(platform, "payments.payments", bad, execute=False)
    [payments] = preview.tables
    assert (payments.as_before, payments.updated, payments.kept, payments.in_conflict) == (1, 1, 2, 1)
    conflict, mergeable = payments.sample[:2]
    assert (conflict.key, conflict.state, conflict.changed_again) == (str(a), "conflict", ("payment_method",))
    assert (mergeable.key, mergeable.state) == (str(b), "mergeable")
    [problem] = preview.problems
    assert "2 rows of payments.payments were changed again" in problem.what
    before = platform.content()
    with pytest.raises(Refused, match="changed again"):
        _run(platform, "payments.payments", bad)
    with pytest.raises(Refused, match="changed again"):  # one is in conflict still
        _run(platform, "payments.payments", bad, changed_since="merge")
    assert platform.content() == before

    kept = _run(platform, "payments.payments", bad, changed_since="keep")
    assert (kept.tables[0].updated, kept.tables[0].kept) == (1, 2)
    platform.execute(f"update payments.payments set payment_method = 'cash' where id = '{a}'")
    merged = _run(platform, "payments.payments", bad, changed_since="merge")
    assert (merged.tables[0].updated, merged.tables[0].merged) == (1, 1)
    assert platform.ask(
        "select payment_method::text, transaction_id, gateway_response from payments.payments"
        f" where id = '{b}'"
    ) == [("card", None, {})]
    platform.execute(f"update payments.payments set payment_method = 'voucher' where id = '{a}'")
    platform.execute(f"update payments.payments set gateway_response = null where id = '{b}'")
    overwritten = _run(platform, "payments.payments", bad, changed_since="overwrite")
    assert overwritten.tables[0].updated == 1
    assert platform.content() == content


def _looked_at(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str, str]]:
    """Who may enter the place of the rows, and what memory the server beside production has."""
    found = []
    narrow = beside.narrow

    def looking(connection: Connection, image: Image, evidence: Evidence) -> None:
        row = connection.execute(
            "select current_setting('shared_buffers'), current_setting('huge_pages')"
        ).fetchone()
        assert row is not None
        found.append((stat.S_IMODE(image.before.parent.stat().st_mode), row[0], row[1]))
        narrow(connection, image, evidence)

    monkeypatch.setattr(beside, "narrow", looking)
    return found


def _patience_of_the_journal(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """How long its writing waits for a bucket that does not answer."""
    found: list[float | None] = []
    given: dict[int, float | None] = {}
    connect, begin = repository_opened.connect, journal.begin

    def connecting(*arguments: Any, patience_seconds: float | None = None, **named: Any) -> Any:
        client = connect(*arguments, patience_seconds=patience_seconds, **named)
        given[id(client)] = patience_seconds
        return client

    def beginning(opened: Opened, *arguments: Any) -> str:
        found.append(given[id(opened.repository._client)])
        return begin(opened, *arguments)

    monkeypatch.setattr(repository_opened, "connect", connecting)
    monkeypatch.setattr(journal, "begin", beginning)
    return found


def test_a_row_that_was_replaced_and_one_whose_place_is_taken(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = _looked_at(monkeypatch)
    ((user,),) = platform.ask("select id from users.users order by id limit 1")

    def prefers(words: str) -> str:
        return (
            "insert into users.user_preferences (user_id, preference_key, preference_value)"
            f" values ('{user}', 'theme', '\"{words}\"')"
        )

    gone = f"delete from users.user_preferences where user_id = '{user}'"
    platform.execute(prefers("dark"))
    content = platform.content()
    bad, _ = platform.execute(gone, prefers("light"))
    platform.shipped()
    report = _run(platform, "users.user_preferences", bad)
    assert seen == [(0o700, f"{platform.settings.drills.shared_buffers_megabytes}MB", "off")]
    assert [(each.inserted, each.deleted) for each in report.tables] == [(1, 1)]
    assert platform.content() == content

    bad, _ = platform.execute(gone)
    platform.execute(prefers("red"))
    platform.shipped()
    # the journal of both buckets is read, past what cannot be
    with Opened.of(platform.settings, new=False) as opened:
        opened.repository.write_small("journal/recover/20200101T000000000000Z-gone.json", b"{}")
    with Opened.of(platform.settings, new=False, bucket="copy") as opened:
        body = {"what": "rows", "at": "2026-11-21T03:00:00+00:00", "transaction": bad}
        journal.begin(opened, killed := uuid4(), body)
    preview = _run(platform, "users.user_preferences", bad, execute=False)
    assert [(each.id, each.done) for each in preview.killed] == [(killed, False)]
    assert ["was altered" in each.what for each in preview.unread] == [True]
    [problem] = preview.problems
    assert (
        problem.what == "1 rows of users.user_preferences would come back with what others have taken since"
    )
    assert "red" not in str(problem)
    with pytest.raises(Refused, match="what others have taken"):
        _run(platform, "users.user_preferences", bad)
    platform.execute(gone)
    waits = _patience_of_the_journal(monkeypatch)
    _run(platform, "users.user_preferences", bad)
    assert waits == [5]  # rows are locked meanwhile
    assert platform.content() == content
    platform.execute(gone)
    with Opened.of(platform.settings, new=False) as opened:
        opened.repository.remove("journal/recover/20200101T000000000000Z-gone.json")
    with Opened.of(platform.settings, new=False, bucket="copy") as opened:
        ended = {each.id: each.ended and each.ended["outcome"] for each in journal.read(opened)}
    assert ended[killed] == "nothing"


@pytest.mark.faults
def test_what_is_set_once_goes_back(platform: Platform) -> None:
    content = platform.content()
    refund = platform.ask(
        "insert into payments.refunds (payment_id, amount)"
        f" values ('{platform.world.orders[FIRST].payment}', 1) returning id"
    )[0][0]
    quantity = "update tickets.ticket_types set quantity = quantity + 5"
    bad, _ = platform.execute(
        f"update payments.refunds set status = 'succeeded', refunded_at = now() where id = '{refund}'",
        quantity,
    )
    with pytest.raises(psycopg.errors.RestrictViolation, match="is set once"):
        platform.execute(f"update payments.refunds set refunded_at = null where id = '{refund}'")
    platform.shipped()
    report = _run(platform, "payments.refunds", bad)
    assert {each.table: (each.updated, each.deleted) for each in report.tables} == {
        "payments.refunds": (1, 0),
        "tickets.ticket_types": (2, 0),
        "tickets.ticket_type_capacity_log": (0, 2),
    }
    platform.execute(f"delete from payments.refunds where id = '{refund}'")
    assert platform.content() == content
    # the setting is nobody's but the owner's
    app = platform.settings.postgres.model_copy(
        update={"user": "bilten_app", "password": platform.settings.postgres.app_password}
    )
    with postgres.connect(app) as connection:
        connection.execute("set bilten.recovery = 'on'")
        with pytest.raises(psycopg.errors.RestrictViolation, match="is set once"):
            connection.execute("update payments.payments set captured_at = now()")


@pytest.mark.faults
def test_one_that_was_at_work_while_the_backup_began(platform: Platform) -> None:
    content = platform.content()
    began, over = threading.Event(), threading.Event()
    transactions: list[int] = []

    def work() -> None:
        with postgres.connect(platform.settings.postgres) as connection:
            row = connection.execute("select pg_current_xact_id()::text").fetchone()
            assert row is not None
            transactions.append(int(row[0]))
            connection.execute("update payments.payments set payment_method = 'cash'")
            # on both sides of the position at which replay of the backup begins
            while not over.is_set():
                connection.execute("update events.events set title = 'damaged ' || clock_timestamp()")
                began.set()

    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(work)
        try:
            assert began.wait(60), working.result(0)
            within = take(platform.settings, "full").manifest.id
        finally:
            over.set()
        working.result(60)
    platform.shipped()
    damaged = platform.content()
    with pytest.raises(Mismatch, match="may have begun before the WAL"):
        recover(
            platform.settings,
            "events.events",
            transaction=transactions[0],
            backup=within,
            execute=True,
            rebuild=False,
            by="test",
        )
    assert platform.content() == damaged
    report = _run(platform, "events.events", transactions[0])
    assert {each.table for each in report.tables} == {"events.events", "payments.payments"}
    assert platform.content() == content


def test_refused_before_anything_is_written(platform: Platform) -> None:
    with pytest.raises(UsageError, match="there is no table"):
        _run(platform, "payments.nothing", 1000)
    with pytest.raises(UsageError, match="own record"):
        _run(platform, "system.heartbeats", 1000)
    with pytest.raises(Refused, match="not yet given"):
        _run(platform, "payments.payments", 1 << 31)
    other, _ = platform.execute("update events.venues set name = name || '!' where false", "select 1")
    ((now,),) = platform.ask("select clock_timestamp()")
    with pytest.raises(Refused, match="is not clear") as told:
        recover(platform.settings, "payments.payments", before=now, by="test")
    assert told.value.problems[0].found == "none"
    platform.execute("update users.organizations set name = name || '.'")
    platform.execute("update users.organizations set name = rtrim(name, '.')")
    with pytest.raises(Refused, match="is not clear") as told:
        recover(platform.settings, "users.organizations", before=now, by="test")
    assert told.value.problems[0].found.startswith("2: ")
    wrong, _ = platform.execute("update users.organizations set name = name")
    platform.shipped()
    with pytest.raises(Refused, match=r"did not write payments\.payments"):
        _run(platform, "payments.payments", wrong)
    truncated, _ = platform.execute("truncate branding.brand_settings")
    platform.shipped()
    with pytest.raises(Refused, match="for itself alone"):
        _run(platform, "branding.brand_settings", truncated)
    assert isinstance(now, datetime)
    assert other
