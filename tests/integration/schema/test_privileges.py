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

ALL = "SELECT INSERT UPDATE DELETE"
#: What each role can do with rows: a table by its name, else as its schema says; nothing else anywhere.
#: Of tables in PERSONAL the columns named there are readable to the application alone.
GRANTS = {
    "bilten_app": {
        "users": ALL,
        "users.user_behavior": "SELECT INSERT DELETE",
        "authentication": ALL,
        "events": ALL,
        "events.event_analytics": "SELECT INSERT DELETE",
        "tickets": ALL,
        "tickets.ticket_type_capacity_log": "SELECT",
        "payments": ALL,
        "financial": "SELECT",
        "financial.payouts": "SELECT INSERT UPDATE",
        "branding": ALL,
        "assets": ALL,
        "system": "",
        "audit": "",
    },
    "bilten_readonly": {
        "users": "SELECT",
        "authentication": "",
        "events": "SELECT",
        "tickets": "SELECT",
        "payments": "SELECT",
        "financial": "SELECT",
        "branding": "SELECT",
        "assets": "SELECT",
        "system": "SELECT",
        "audit": "",
    },
    "bilten_etl": {
        "users": "",
        "users.users": "SELECT",
        "users.organizations": "SELECT",
        "authentication": "",
        "events": "SELECT",
        "events.event_analytics": "",
        "tickets": "SELECT",
        "payments": "SELECT",
        "financial": "SELECT",
        "branding": "",
        "assets": "",
        "system": "",
        "system.deleted_rows": "SELECT",
        "system.restores": "SELECT",
        "system.migrations": "SELECT",
        "system.partition_metadata": "SELECT",
        "system.sync_state": ALL,
        "system.metric_dirty_days": ALL,
        "system.build_journal": ALL,
        "system.event_popularity": ALL,
        "system.search_state": ALL,
        "system.search_indices": ALL,
        "system.search_ranges": ALL,
        "system.search_swaps": ALL,
        "system.search_dead_letters": ALL,
        "audit": "",
    },
}
#: Schemas whose things each role can name at all.
USAGE = {
    "bilten_app": set(SCHEMAS) - {"audit"},
    "bilten_readonly": set(SCHEMAS) - {"authentication", "audit"},
    "bilten_etl": {"users", "events", "tickets", "payments", "financial", "system"},
}
SEQUENCES = {"bilten_etl": {("system.batch_number", each) for each in ("USAGE", "SELECT", "UPDATE")}}
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


def tables_of(connection: Connection, schema: str) -> dict[str, list[str]]:
    """Tables and views of a schema with their columns; partitions left out."""
    return {
        f"{schema}.{name}": columns
        for name, columns in connection.execute(
            """
            select c.relname, array_agg(a.attname::text order by a.attnum)
            from pg_class c join pg_attribute a on a.attrelid = c.oid
            where c.relnamespace = %s::regnamespace and c.relkind in ('r', 'p', 'v') and not c.relispartition
              and a.attnum > 0 and not a.attisdropped
            group by 1
            """,
            (schema,),
        ).fetchall()
    }


def may(connection: Connection, statement: str) -> bool:
    """Whether the server lets it begin: EXPLAIN asks for the same rights, and changes nothing."""
    try:
        with connection.transaction():
            connection.execute(f"explain {statement}")
    except psycopg.errors.InsufficientPrivilege:
        return False
    return True


@pytest.mark.parametrize("schema", SCHEMAS)
def test_each_role_can_do_with_rows_what_is_listed_and_nothing_else(
    postgres_server: PostgresSettings, operational: Settings, owner: Connection, role: str, schema: str
) -> None:
    tables = tables_of(owner, schema)
    assert tables
    expected, found = {}, {}
    with acting_as(postgres_server, operational, role) as connection:
        for table, columns in tables.items():
            granted_here = GRANTS[role].get(table, GRANTS[role][schema])
            hidden = PERSONAL.get(table, set()) if role != "bilten_app" else set()
            expected[table] = (
                set(columns) - hidden if "SELECT" in granted_here else set(),
                {each for each in ("INSERT", "UPDATE", "DELETE") if each in granted_here},
            )
            statements = {
                "INSERT": f"insert into {table} default values",
                "UPDATE": f"update {table} set {columns[0]} = default",
                "DELETE": f"delete from {table}",
            }
            if table == "system.index_usage":  # a view over catalogues: not to be written by anybody
                statements = {}
            found[table] = (
                {column for column in columns if may(connection, f"select {column} from {table}")},
                {each for each, statement in statements.items() if may(connection, statement)},
            )
    assert found == expected
    owners_only = {
        (table, privilege)
        for table, privileges in granted(owner, role).items()
        if table in tables
        for privilege in privileges & {"TRUNCATE", "REFERENCES", "TRIGGER"}
    }
    assert owners_only == set()


def test_the_lists_name_tables_that_are_there(owner: Connection) -> None:
    named = {name for role in GRANTS.values() for name in role if "." in name} | set(PERSONAL)
    assert named <= {table for schema in SCHEMAS for table in tables_of(owner, schema)}


def test_schemas_and_sequences_are_for_those_who_need_them(owner: Connection, role: str) -> None:
    schemas = owner.execute(
        """
        select nspname, p.privilege from pg_namespace n, unnest(array['USAGE', 'CREATE']) as p (privilege)
        where nspname !~ '^pg_' and nspname <> 'information_schema'
          and has_schema_privilege(%s, n.oid, p.privilege)
        """,
        (role,),
    ).fetchall()
    assert set(schemas) == {(schema, "USAGE") for schema in USAGE[role]}
    sequences = owner.execute(
        """
        select c.oid::regclass::text, p.privilege
        from pg_class c, unnest(array['USAGE', 'SELECT', 'UPDATE']) as p (privilege)
        where c.relkind = 'S' and c.relnamespace::regnamespace::text = any(%s)
          and has_sequence_privilege(%s, c.oid, p.privilege)
        """,
        (list(SCHEMAS), role),
    ).fetchall()
    assert set(sequences) == SEQUENCES.get(role, set())
    row = owner.execute("select has_database_privilege(%s, current_database(), 'create')", (role,)).fetchone()
    assert row == (False,)


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
