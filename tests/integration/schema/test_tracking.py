"""What the sync relies on (sync_xid, tombstones, set-once instants, no truncate), and the audit log."""

from __future__ import annotations

import threading
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.rows import dict_row

from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.postgres import Connection
from tests.integration.schema import rows

SYNCED = (
    "users.users",
    "users.organizations",
    "events.venues",
    "events.events",
    "tickets.ticket_types",
    "tickets.ticket_type_capacity_log",
    "tickets.tickets",
    "payments.payments",
    "payments.payment_items",
    "payments.refunds",
    "payments.chargebacks",
    "financial.currencies",
    "financial.exchange_rates",
    "financial.payouts",
)


def one(connection: Connection, query: str, *values: Any) -> dict[str, Any]:
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(query, values).fetchone()
    assert row is not None
    return row


def xid(connection: Connection) -> str:
    return str(one(connection, "select pg_current_xact_id()::text as xid")["xid"])


def test_what_is_synced_is_exactly_what_carries_sync_xid(owner: Connection) -> None:
    found = owner.execute(
        """
        select c.oid::regclass::text from pg_attribute a join pg_class c on c.oid = a.attrelid
        where a.attname = 'sync_xid' and c.relkind = 'r'
          and c.oid not in ('system.deleted_rows'::regclass, 'system.event_popularity'::regclass)
        """
    ).fetchall()
    assert {name for (name,) in found} == set(SYNCED)


@pytest.mark.parametrize("table", SYNCED)
def test_every_synced_table_is_tracked_and_indexed(owner: Connection, table: str) -> None:
    triggers = owner.execute(
        "select tgname, tgenabled::text from pg_trigger where tgrelid = %s::regclass and not tgisinternal",
        (table,),
    ).fetchall()
    assert {"track_change", "record_delete", "refuse_truncate"} <= {name for name, _ in triggers}
    assert {enabled for _, enabled in triggers} == {"O"}
    indexed = owner.execute(
        "select pg_get_indexdef(indexrelid) from pg_index where indrelid = %s::regclass", (table,)
    ).fetchall()
    # currencies are two dozen rows
    assert table == "financial.currencies" or any("(sync_xid)" in text for (text,) in indexed)


@pytest.mark.parametrize("table", SYNCED)
def test_truncate_is_refused(owner: Connection, table: str) -> None:
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="leaves no tombstones"):
        owner.execute(f"truncate {table} cascade")


def test_a_row_carries_the_transaction_that_last_wrote_it(operational: Settings) -> None:
    with postgres.connect(operational.postgres, autocommit=True) as connection:
        with connection.transaction():
            made = rows.venue(connection, sync_xid="1", name="Old")
            inserted = xid(connection)
        assert (
            one(connection, "select sync_xid::text x from events.venues where id = %s", made)["x"] == inserted
        )
        with connection.transaction():
            connection.execute("update events.venues set name = 'New', sync_xid = '1' where id = %s", (made,))
            updated = xid(connection)
        assert int(updated) > int(inserted)
        assert (
            one(connection, "select sync_xid::text x from events.venues where id = %s", made)["x"] == updated
        )
        with connection.transaction():
            connection.execute("delete from events.venues where id = %s", (made,))
            deleted = xid(connection)
        tombstone = one(
            connection,
            "select *, sync_xid::text as xid from system.deleted_rows where row_key = %s",
            str(made),
        )
        assert (tombstone["table_name"], tombstone["xid"]) == ("events.venues", deleted)


@pytest.mark.parametrize(
    ("table", "statement"),
    [
        ("events.venues", "update events.venues set id = gen_random_uuid() where id = %s"),
        ("users.users", "update users.users set id = gen_random_uuid() where id = %s"),
    ],
)
def test_an_id_stays(owner: Connection, table: str, statement: str) -> None:
    made = rows.venue(owner) if table == "events.venues" else rows.user(owner)
    with pytest.raises(psycopg.errors.RestrictViolation, match="cannot change"):
        owner.execute(statement, (made,))


def test_a_natural_key_stays_and_its_value_may_change(owner: Connection) -> None:
    owner.execute("insert into financial.exchange_rates values ('2026-01-01', 'EUR', 'USD', 1.1)")
    owner.execute("update financial.exchange_rates set rate = 1.2")
    for change in ("rate_date = '2026-01-02'", "to_currency = 'GBP'"):
        with pytest.raises(psycopg.errors.RestrictViolation, match="part of the key"), owner.transaction():
            owner.execute(f"update financial.exchange_rates set {change}")
    owner.execute("delete from financial.exchange_rates")
    tombstone = one(owner, "select * from system.deleted_rows where table_name = 'financial.exchange_rates'")
    assert tombstone["row_key"] == "2026-01-01|EUR|USD"


def test_updated_at_never_runs_backwards(owner: Connection) -> None:
    made = rows.venue(owner, updated_at="2099-01-01 00:00+00")
    owner.execute("update events.venues set name = 'x', updated_at = '2000-01-01' where id = %s", (made,))
    after = one(owner, "select updated_at::text t from events.venues where id = %s", made)["t"]
    assert after == "2099-01-01 00:00:00.000001+00"


def test_updated_at_grows_in_the_order_of_commits_under_a_lock_wait(operational: Settings) -> None:
    """now() of the waiter is older than the commit it waited for; updated_at must not be."""
    with (
        postgres.connect(operational.postgres, autocommit=True) as first,
        postgres.connect(operational.postgres) as second,
    ):
        made = rows.venue(first)
        second_pid = second.info.backend_pid
        second.execute("select now()")  # its transaction begins before the first one writes
        with first.transaction():
            first.execute("update events.venues set name = 'first' where id = %s", (made,))
            waiter = threading.Thread(
                target=lambda: second.execute(
                    "update events.venues set name = 'second' where id = %s", (made,)
                )
            )
            waiter.start()
            while not one(first, "select cardinality(pg_blocking_pids(%s)) > 0 as waits", second_pid)[
                "waits"
            ]:
                assert waiter.is_alive()
            written = one(first, "select updated_at from events.venues where id = %s", made)["updated_at"]
        waiter.join(timeout=30)
        row = one(second, "select updated_at, now() as began, name from events.venues where id = %s", made)
        second.commit()
        assert row["name"] == "second"
        assert row["began"] < written < row["updated_at"]


def test_the_tombstone_keeps_parents_and_days(owner: Connection) -> None:
    paid = rows.payment(owner)
    refunded = rows.refund(owner, payment_id=paid)
    owner.execute("delete from payments.refunds where id = %s", (refunded,))
    facts = one(owner, "select facts from system.deleted_rows where row_key = %s", str(refunded))["facts"]
    assert facts["payment_id"] == str(paid)
    assert facts["refunded_at"].startswith("2026-04-02T10:00:00")
    assert {"ticket_id", "amount", "reversed_at"} <= facts.keys()


def test_no_tombstone_holds_anything_personal(owner: Connection) -> None:
    made = rows.user(owner, email="planted@example.org", first_name="Planted", phone="+43 1 234567")
    owner.execute("delete from users.users where id = %s", (made,))
    text = one(owner, "select deleted_rows::text t from system.deleted_rows where row_key = %s", str(made))[
        "t"
    ]
    assert "planted" not in text.lower()
    assert "234567" not in text


@pytest.mark.parametrize(
    ("table", "column", "make", "first"),
    [
        ("payments.payments", "captured_at", rows.payment, {}),
        ("payments.refunds", "refunded_at", rows.refund, {}),
        (
            "payments.refunds",
            "reversed_at",
            rows.refund,
            {"status": "reversed", "reversed_at": "2026-04-09 00:00+00"},
        ),
        ("payments.chargebacks", "charged_back_at", rows.chargeback, {}),
        (
            "payments.chargebacks",
            "reversed_at",
            rows.chargeback,
            {"status": "won", "reversed_at": "2026-06-01 00:00+00"},
        ),
    ],
)
@pytest.mark.parametrize("value", ["2030-01-01 00:00+00", None])
def test_an_instant_that_decides_a_day_is_set_once(
    owner: Connection, table: str, column: str, make: Any, first: dict[str, Any], value: str | None
) -> None:
    made = make(owner, **first)
    owner.execute(f"update {table} set {column} = {column} where id = %s", (made,))
    with pytest.raises(psycopg.errors.RestrictViolation, match=rf"{column} is set once"):
        owner.execute(f"update {table} set {column} = %s where id = %s", (value, made))


def test_a_pending_payment_is_captured_once(owner: Connection) -> None:
    made = rows.payment(owner, status="pending", captured_at=None)
    owner.execute(
        "update payments.payments set status = 'captured', captured_at = now() where id = %s", (made,)
    )
    with pytest.raises(psycopg.errors.RestrictViolation):
        owner.execute("update payments.payments set captured_at = '2030-01-01' where id = %s", (made,))


def test_capacity_is_remembered(owner: Connection) -> None:
    kind = rows.ticket_type(owner, quantity=10)
    owner.execute("update tickets.ticket_types set quantity = 20 where id = %s", (kind,))
    owner.execute("update tickets.ticket_types set sold = 1, quantity = 20 where id = %s", (kind,))
    found = owner.execute(
        "select quantity from tickets.ticket_type_capacity_log where ticket_type_id = %s order by valid_from",
        (kind,),
    ).fetchall()
    assert found == [(10,), (20,)]


# -- the audit log -----------------------------------------------------------------------------------


def audited(connection: Connection, row: UUID) -> list[dict[str, Any]]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(
            "select * from audit.audit_log where row_key = %s order by created_at", (str(row),)
        ).fetchall()


def test_changes_and_deletes_are_audited_with_the_email_masked(owner: Connection) -> None:
    made = rows.user(owner, email="someone@example.org", password_hash="secret-hash", phone="+43 1 234567")
    owner.execute("select set_config('bilten.user_id', %s, true)", (str(made),))
    owner.execute(
        "update users.users set email = 'x@example.org', status = 'suspended' where id = %s", (made,)
    )
    owner.execute("delete from users.users where id = %s", (made,))
    changed, deleted = audited(owner, made)
    assert (changed["action"], changed["schema_name"], changed["table_name"]) == ("UPDATE", "users", "users")
    assert (changed["actor"], changed["app_user_id"]) == ("bilten_owner", made)
    assert changed["before"]["email"] == "so***@example.org"
    assert changed["after"]["email"] == "***@example.org"
    assert (changed["before"]["status"], changed["after"]["status"]) == ("active", "suspended")
    assert (deleted["action"], deleted["after"]) == ("DELETE", None)
    for text in (str(changed), str(deleted)):
        for secret in ("someone@", "secret-hash", "234567"):
            assert secret not in text


def test_every_table_is_audited_but_those_that_are_not(owner: Connection) -> None:
    found = owner.execute(
        """
        select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.relkind in ('r', 'p') and not c.relispartition
          and n.nspname !~ '^pg_' and n.nspname not in ('information_schema', 'public', 'system', 'audit')
          and (select count(*) from pg_trigger t
               where t.tgrelid = c.oid and t.tgname in ('audit_update', 'audit_delete')) <> 2
        """
    ).fetchall()
    assert {name for (name,) in found} == {
        "tickets.tickets",
        "tickets.ticket_type_capacity_log",
        "payments.payment_items",
        "users.user_behavior",
        "events.event_analytics",
    }


@pytest.mark.parametrize(
    ("email", "masked"),
    [
        ("a@x.org", "***@x.org"),
        ("ab@x.org", "a***@x.org"),
        ("abc@x.org", "ab***@x.org"),
        ("somebody@x.org", "so***@x.org"),
        ("@x.org", "***@x.org"),
        ("no address", "***"),
        ("", "***"),
        (None, None),
    ],
)
def test_mask_email(owner: Connection, email: str | None, masked: str | None) -> None:
    assert one(owner, "select system.mask_email(%s) as m", email)["m"] == masked


@pytest.mark.parametrize(
    "table", ["users.user_behavior", "events.event_analytics", "audit.audit_log", "system.slow_queries"]
)
def test_created_at_of_a_partitioned_table_stays(owner: Connection, table: str) -> None:
    values = {
        "users.user_behavior": "(action) values ('view')",
        "events.event_analytics": "(event_id, metric_name, metric_value) select gen_random_uuid(), 'a', 1",
        "audit.audit_log": "(schema_name, table_name, row_key, action) values ('a', 'b', 'c', 'UPDATE')",
        "system.slow_queries": "(query_text, execution_time) values ('select 1', 1)",
    }
    row = owner.execute(f"insert into {table} {values[table]} returning id").fetchone()
    assert row is not None
    with pytest.raises(psycopg.errors.RestrictViolation, match="decides the partition"):
        owner.execute(
            f"update {table} set created_at = created_at + interval '1 second' where id = %s", (row[0],)
        )
