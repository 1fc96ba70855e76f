"""What each role can do, and that it can do nothing else; tried on a server, not read from grants.

bilten_etl really connects; the other two are put on, since only the application and people have their
passwords.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import sql

from bilten_orchestration.migrations import runner
from bilten_orchestration.settings import PostgresSettings, Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.postgres import Connection
from tests.integration.schema import rows

ROLES = ("bilten_app", "bilten_readonly", "bilten_etl")
SCHEMAS = (
    "users",
    "authentication",
    "events",
    "tickets",
    "payments",
    "financial",
    "branding",
    "assets",
    "system",
    "audit",
)

# table -> privileges; a set of columns where not the whole table is readable
USER_COLUMNS = {
    "id",
    "role",
    "status",
    "email_verified",
    "organization_id",
    "created_at",
    "updated_at",
    "deleted_at",
    "sync_xid",
}
PERSONAL = {
    "users.users": {
        "email",
        "password_hash",
        "first_name",
        "last_name",
        "phone",
        "date_of_birth",
        "profile_data",
        "preferences",
    },
    "payments.payments": {"gateway_response"},
    "users.user_behavior": {"metadata"},
}


@contextmanager
def acting_as(server: PostgresSettings, database: Settings, role: str) -> Iterator[Connection]:
    """A transaction as `role` that is rolled back."""
    place = server.model_copy(update={"database": database.postgres.database})
    with postgres.connect(place) as connection:
        connection.execute(sql.SQL("set session authorization {}").format(sql.Identifier(role)))
        yield connection
        connection.rollback()


@pytest.fixture(params=ROLES)
def role(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def granted(connection: Connection, role: str) -> dict[str, set[str]]:
    """Effective privileges per table (partitions left out), as the server answers for that role."""
    found = connection.execute(
        """
        select c.oid::regclass::text, p.privilege
        from pg_class c join pg_namespace n on n.oid = c.relnamespace,
             unnest(string_to_array('SELECT INSERT UPDATE DELETE TRUNCATE REFERENCES TRIGGER', ' '))
                 as p (privilege)
        where n.nspname = any(%(schemas)s) and c.relkind in ('r', 'p', 'v') and not c.relispartition
          and has_schema_privilege(%(role)s, n.oid, 'usage')
          and (has_table_privilege(%(role)s, c.oid, p.privilege)
               or p.privilege = 'SELECT' and has_any_column_privilege(%(role)s, c.oid, p.privilege))
        """,
        {"schemas": list(SCHEMAS), "role": role},
    ).fetchall()
    tables: dict[str, set[str]] = {}
    for table, privilege in found:
        tables.setdefault(table, set()).add(privilege)
    return tables


def test_the_application_has_its_tables_and_no_state_of_the_platform(owner: Connection) -> None:
    found = granted(owner, "bilten_app")
    everything = {"SELECT", "INSERT", "UPDATE", "DELETE"}
    assert found.pop("tickets.ticket_type_capacity_log") == {"SELECT"}
    for log in ("users.user_behavior", "events.event_analytics"):
        assert found.pop(log) == {"SELECT", "INSERT", "DELETE"}
    assert found.pop("financial.payouts") == {"SELECT", "INSERT", "UPDATE"}
    assert found.pop("financial.currencies") == found.pop("financial.exchange_rates") == {"SELECT"}
    assert {table.partition(".")[0] for table in found} == set(SCHEMAS) - {"system", "audit", "financial"}
    assert all(privileges == everything for privileges in found.values())


def test_people_who_look_change_nothing(owner: Connection) -> None:
    found = granted(owner, "bilten_readonly")
    assert {privilege for privileges in found.values() for privilege in privileges} == {"SELECT"}
    assert not [table for table in found if table.startswith(("authentication.", "audit."))]


def test_the_sync_reads_what_is_synced_and_writes_its_own_state(owner: Connection) -> None:
    found = granted(owner, "bilten_etl")
    assert {table for table, privileges in found.items() if privileges != {"SELECT"}} == {
        "system.sync_state",
        "system.metric_dirty_days",
        "system.build_journal",
        "system.event_popularity",
        "system.search_state",
        "system.search_indices",
        "system.search_ranges",
        "system.search_swaps",
        "system.search_dead_letters",
    }
    synced = {
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
    }
    read = {table for table, privileges in found.items() if privileges == {"SELECT"}}
    assert {table for table in read if not table.startswith("system.")} == synced
    assert {table for table in read if table.startswith("system.")} == {
        "system.deleted_rows",
        "system.restores",
        "system.migrations",
        "system.partition_metadata",
    }


@pytest.mark.parametrize("who", ["bilten_readonly", "bilten_etl"])
@pytest.mark.parametrize(
    ("table", "column"), [(t, c) for t, columns in PERSONAL.items() for c in sorted(columns)]
)
def test_nothing_personal_is_readable(
    postgres_server: PostgresSettings, operational: Settings, who: str, table: str, column: str
) -> None:
    with (
        acting_as(postgres_server, operational, who) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(f"select {column} from {table}")


@pytest.mark.parametrize("who", ["bilten_readonly", "bilten_etl"])
def test_of_people_only_ids_role_status_and_dates(
    postgres_server: PostgresSettings, operational: Settings, who: str
) -> None:
    with acting_as(postgres_server, operational, who) as connection:
        connection.execute(f"select {', '.join(sorted(USER_COLUMNS))} from users.users")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("select * from users.users")


def test_personal_columns_are_all_columns_but_the_named_ones(owner: Connection) -> None:
    """A column added later is personal until somebody says otherwise."""
    found = owner.execute(
        """
        select attname from pg_attribute
        where attrelid = 'users.users'::regclass and attnum > 0 and not attisdropped
        """
    ).fetchall()
    assert {name for (name,) in found} == USER_COLUMNS | PERSONAL["users.users"]


@pytest.mark.parametrize(
    "statement",
    [
        "update payments.payments set status = 'failed'",
        "delete from tickets.tickets",
        "insert into events.venues (name, address, city, country) values ('x', 'x', 'x', 'x')",
        "update system.migrations set status = 'failed'",
        "insert into system.deleted_rows (table_name, row_key, facts) values ('x', 'x', '{}')",
        "select * from authentication.sessions",
        "select * from audit.audit_log",
        "select * from users.user_behavior",
        "create table system.mine ()",
        "create table public.mine ()",
        "create schema mine",
        "alter table payments.payments disable trigger set_once",
        "set session_replication_role = replica",
        "select pg_read_file('/etc/passwd')",
        "copy (select 1) to program 'true'",
        "select audit.visible('{}')",
    ],
)
def test_what_the_sync_cannot_do(operational: Settings, statement: str) -> None:
    with (
        postgres.connect(operational.postgres, "etl") as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(statement)


def test_what_the_sync_needs(operational: Settings) -> None:
    with postgres.connect(operational.postgres, "etl") as connection:
        connection.execute("select nextval('system.batch_number')")
        connection.execute("insert into system.sync_state (consumer) values ('test')")
        connection.execute("update system.sync_state set mark = pg_snapshot_xmin(pg_current_snapshot())")
        connection.execute(
            "insert into system.metric_dirty_days (day, batch, reason) values ('2026-01-01', 1, 'test')"
            " on conflict (day) do update set generation = metric_dirty_days.generation + 1"
        )
        connection.execute("select * from system.deleted_rows where sync_xid >= '0'")
        connection.execute("select pg_export_snapshot(), pg_try_advisory_lock(1), pg_advisory_unlock(1)")
        connection.execute("select system.mask_email('a@b.org'), financial.minor_unit('JPY')")
        connection.rollback()


@pytest.mark.parametrize(
    "statement",
    [
        "select * from system.sync_state",
        "update system.metric_dirty_days set built_generation = 0",
        "insert into system.heartbeats (source) values ('x')",
        "select * from system.deleted_rows",
        "select * from audit.audit_log",
        "delete from audit.audit_log",
        "insert into tickets.ticket_type_capacity_log (quantity) values (1)",
        "update users.user_behavior set action = 'other'",
        "update events.event_analytics set metric_value = 0",
        "update financial.currencies set name = 'x'",
        "truncate users.user_preferences",
        "alter table payments.payments disable trigger all",
        "drop table users.user_preferences",
        "select nextval('system.batch_number')",
        "create table public.mine ()",
        "select system.set_once()",
    ],
)
def test_what_the_application_cannot_do(
    postgres_server: PostgresSettings, operational: Settings, statement: str
) -> None:
    with (
        acting_as(postgres_server, operational, "bilten_app") as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(statement)


def test_the_application_sells_edits_and_deletes_through_every_trigger(
    postgres_server: PostgresSettings, operational: Settings
) -> None:
    with acting_as(postgres_server, operational, "bilten_app") as connection:
        made: dict[str, UUID] = {
            "users.organizations": rows.organization(connection),
            "events.venues": rows.venue(connection),
            "events.events": rows.event(connection),
            "tickets.ticket_types": rows.ticket_type(connection),
            "tickets.tickets": rows.ticket(connection),
            "payments.payments": rows.payment(connection),
            "payments.refunds": rows.refund(connection),
            "payments.chargebacks": rows.chargeback(connection),
            "authentication.sessions": rows.session(connection),
            "authentication.login_attempts": rows.login_attempt(connection),
            "branding.brand_settings": rows.brand(connection),
            "assets.files": rows.file(connection),
        }
        connection.execute("set constraints all immediate")
        connection.execute("update tickets.ticket_types set quantity = 50")
        for table, row in made.items():
            connection.execute(f"update {table} set created_at = created_at where id = %s", (row,))
        for table, row in made.items():
            if table not in ("tickets.ticket_types", "users.organizations"):
                connection.execute(f"delete from {table} where id = %s", (row,))
        connection.execute("insert into users.user_behavior (action) values ('view')")
        rows.payout(connection, organization_id=made["users.organizations"])
        connection.execute("reset session authorization")
        counted = connection.execute(
            "select count(distinct table_name) from system.deleted_rows where sync_xid = pg_current_xact_id()"
        ).fetchone()
        assert counted is not None
        assert counted[0] >= 7
        actors = connection.execute(
            "select distinct actor from audit.audit_log where transaction_id = pg_current_xact_id()"
        ).fetchall()
        assert actors == [("bilten_app",)]


def test_no_role_has_what_a_role_must_not_have(owner: Connection, role: str) -> None:
    row = owner.execute(
        """
        select rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls,
               pg_has_role(oid, 'pg_read_all_data', 'member'), pg_has_role(oid, 'bilten_owner', 'member')
        from pg_roles where rolname = %s
        """,
        (role,),
    ).fetchone()
    assert row == (False,) * 7


def test_functions_are_for_those_who_need_them(owner: Connection, role: str) -> None:
    found = owner.execute(
        """
        select p.oid::regproc::text from pg_proc p join pg_namespace n on n.oid = p.pronamespace
        where n.nspname = any(%s) and has_function_privilege(%s, p.oid, 'execute')
        """,
        (list(SCHEMAS), role),
    ).fetchall()
    # triggers that run as the application ask whether rows are being copied back
    asked = {"system.recovering"} if role == "bilten_app" else set()
    assert {name for (name,) in found} == {"system.mask_email", "financial.minor_unit"} | asked


LATER = """
create table users.later (id uuid primary key default gen_random_uuid());
create table system.later (id int);
create function system.later_function() returns int language sql as $$ select 1 $$;
"""


def test_what_later_migrations_make(
    postgres_server: PostgresSettings, database: Settings, owner: Connection
) -> None:
    """The application gets its own tables; nobody else gets anything until a migration says so."""
    runner.up(database, store="postgres")
    with postgres.connect(database.postgres, autocommit=True) as connection:
        connection.execute(LATER)
        found: dict[str, Any] = {who: granted(connection, who) for who in ROLES}
    assert found["bilten_app"]["users.later"] == {"SELECT", "INSERT", "UPDATE", "DELETE"}
    for who, tables in found.items():
        assert "system.later" not in tables
        assert who == "bilten_app" or "users.later" not in tables
        with (
            acting_as(postgres_server, database, who) as acting,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            acting.execute("select system.later_function()")
