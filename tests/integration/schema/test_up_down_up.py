"""Every migration's down takes back exactly what its up made."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from bilten_orchestration.migrations import runner
from bilten_orchestration.migrations.files import discover
from bilten_orchestration.partitions.postgres.premake import premake
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.postgres import Connection
from tests.integration.schema.catalogue import QUERIES, describe

VERSIONS = [migration.version for migration in discover()["postgres"]]


def described(settings: Settings) -> dict[str, list[str]]:
    with postgres.connect(settings.postgres, autocommit=True) as connection:
        return describe(connection)


def test_each_step_back_is_the_schema_before_it_and_forth_again_the_one_after(database: Settings) -> None:
    at: dict[int, dict[str, list[str]]] = {}
    runner.up(database, store="postgres", target=VERSIONS[0])
    runner.down(database, store="postgres", target=0, execute=True)
    at[0] = described(database)
    for version in VERSIONS:
        runner.up(database, store="postgres", target=version)
        at[version] = described(database)
        assert at[version] != at[version - 1], f"V{version:04d} changed nothing that the catalogues show"
        runner.down(database, store="postgres", target=version - 1, execute=True)
        assert described(database) == at[version - 1], f"V{version:04d}.down"
        runner.up(database, store="postgres", target=version)
        assert described(database) == at[version], f"V{version:04d}.up a second time"
    runner.down(database, store="postgres", target=0, execute=True)
    assert described(database) == at[0]
    runner.up(database, store="postgres")
    assert described(database) == at[VERSIONS[-1]]


def test_nothing_but_the_runners_own_is_left_at_zero(database: Settings) -> None:
    runner.up(database, store="postgres")
    premake(database)
    runner.down(database, store="postgres", target=0, execute=True)
    found = described(database)
    assert [line.split()[0] for line in found["schemas"]] == ["public", "system"]
    for kind in QUERIES.keys() - {"schemas", "schema privileges", "extensions", "roles"}:
        assert found[kind] == [], kind


def test_months_come_back_the_same(database: Settings) -> None:
    runner.up(database, store="postgres")
    premake(database, first=date(2026, 1, 1), today=date(2026, 6, 1))
    before = described(database)
    runner.down(database, store="postgres", target=0, execute=True)
    runner.up(database, store="postgres")
    premake(database, first=date(2026, 1, 1), today=date(2026, 6, 1))
    assert described(database) == before


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ("alter table users.users alter email type varchar(254)", "columns"),
        ("comment on column users.users.email is 'other'", "columns"),
        ("alter table users.users alter status set default 'inactive'", "columns"),
        ("grant select on authentication.sessions to bilten_etl", "privileges"),
        ("grant select (email) on users.users to bilten_etl", "column privileges"),
        ("alter table events.events drop constraint events_check", "constraints"),
        ("drop index tickets.tickets_user", "indexes"),
        ("alter table payments.refunds disable trigger set_once", "triggers"),
        ("alter type users.user_role add value 'guest'", "types"),
        ("grant execute on function audit.record_change() to public", "function privileges"),
        ("alter function system.record_delete() security invoker", "functions"),
        ("alter sequence system.batch_number increment 2", "sequences"),
        ("create policy p on users.users", "policies"),
        ("alter table users.users force row level security", "relations"),
        ("comment on table users.users is 'other'", "relations"),
        ("comment on index tickets.tickets_user is 'other'", "relations"),
        ("comment on schema users is 'other'", "schemas"),
        ("grant create on schema users to bilten_app", "schema privileges"),
        (
            "alter default privileges in schema system grant select on tables to bilten_app",
            "default privileges",
        ),
        ("comment on function system.mask_email(text) is 'other'", "functions"),
        ("comment on type users.user_role is 'other'", "types"),
        ("comment on trigger set_once on payments.refunds is 'other'", "triggers"),
        ("comment on constraint payments_scale on payments.payments is 'other'", "constraints"),
        ("drop trigger check_payment on payments.refunds", "triggers"),
        ("revoke usage on type users.user_role from public", "type privileges"),
        ("create rule r as on delete to users.users do instead nothing", "rules"),
        ("create statistics users.s on role, status from users.users", "statistics"),
        ("create publication p for table users.users", "publications"),
    ],
)
def test_the_comparison_sees(owner: Connection, change: str, kind: str) -> None:
    before = describe(owner)
    owner.execute(change)
    after = describe(owner)
    assert kind in {each for each in before if before[each] != after[each]}


def test_every_schema_table_column_type_and_function_is_described(operational: Settings) -> None:
    query = """
        with ours as (
            select oid, nspname from pg_namespace
            where nspname !~ '^pg_' and nspname not in ('information_schema', 'public')
        )
        select nspname from pg_namespace where oid in (select oid from ours) and obj_description(oid) is null
        union all
        select c.oid::regclass::text from pg_class c
        where c.relnamespace in (select oid from ours) and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
          and obj_description(c.oid, 'pg_class') is null
          and not exists (select from pg_depend d where d.objid = c.oid
                          and d.deptype = 'i' and c.relkind = 'S')
        union all
        select c.oid::regclass || '.' || a.attname from pg_class c join pg_attribute a on a.attrelid = c.oid
        where c.relnamespace in (select oid from ours) and c.relkind in ('r', 'p', 'v', 'm', 'f')
          and a.attnum > 0 and not a.attisdropped and col_description(c.oid, a.attnum) is null
        union all
        select p.oid::regprocedure::text from pg_proc p
        where p.pronamespace in (select oid from ours) and obj_description(p.oid, 'pg_proc') is null
        union all
        select t.oid::regtype::text from pg_type t
        where t.typnamespace in (select oid from ours) and t.typtype = 'e'
          and obj_description(t.oid, 'pg_type') is null
    """
    with postgres.connect(operational.postgres, autocommit=True) as connection:
        assert connection.execute(query).fetchall() == []


def test_partitions_are_as_their_parents(operational: Settings) -> None:
    """Owner, privileges, columns, defaults, checks, triggers and indexes."""
    query = """
        with shape as (
            select c.oid, concat_ws(
                chr(10),
                pg_get_userbyid(c.relowner),
                (select string_agg(a::text, ',' order by a::text) from aclexplode(c.relacl) a),
                (select string_agg(concat_ws('|', a.attname, a.atttypid, a.atttypmod, a.attnotnull, a.attacl,
                                             a.attstorage, pg_get_expr(d.adbin, d.adrelid),
                                             col_description(c.oid, a.attnum)), ',' order by a.attname)
                   from pg_attribute a
                   left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
                  where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped),
                (select string_agg(pg_get_expr(k.conbin, k.conrelid), ',' order by k.conname)
                   from pg_constraint k where k.conrelid = c.oid and k.contype = 'c'),
                (select string_agg(concat_ws('|', t.tgname, t.tgfoid, t.tgtype), ',' order by t.tgname)
                   from pg_trigger t where t.tgrelid = c.oid),
                (select string_agg(concat_ws('|', i.indkey, i.indisunique, i.indisprimary), ','
                                   order by i.indkey::text)
                   from pg_index i where i.indrelid = c.oid)
            ) as text
            from pg_class c
        )
        select i.inhrelid::regclass::text, parent.text, child.text
        from pg_inherits i join shape parent on parent.oid = i.inhparent
        join shape child on child.oid = i.inhrelid
        where i.inhrelid in (select oid from pg_class where relkind = 'r')
        order by 1
    """
    with postgres.connect(operational.postgres, autocommit=True) as connection:
        found = connection.execute(query).fetchall()
    assert len(found) == 4 * 5
    for name, parent, child in found:
        assert child == parent, name
    assert any(name.endswith(f"p{datetime.now(UTC):%Y%m}") for name, _, _ in found)
