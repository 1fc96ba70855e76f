"""An ordinary table becomes partitioned and back: nothing is lost, nothing hangs on the wrong one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import psycopg
import pytest

from bilten_orchestration.errors import Refused, TransientError
from bilten_orchestration.partitions import locking, metadata
from bilten_orchestration.partitions.declared import PartitionedTable
from bilten_orchestration.partitions.locking import Patience
from bilten_orchestration.partitions.postgres.adoption import back as backward
from bilten_orchestration.partitions.postgres.adoption import check, forward, plan, shape, swap
from bilten_orchestration.partitions.postgres.adoption.back import back
from bilten_orchestration.partitions.postgres.adoption.forward import adopt
from bilten_orchestration.partitions.postgres.adoption.plan import kind
from bilten_orchestration.partitions.postgres.catalogue import attached
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import locks, postgres
from bilten_orchestration.stores.postgres import Connection
from tests.kills import killed_before_line
from tests.waiting import until

TABLE = PartitionedTable("events.visits", retention=12)
NOW = datetime(2026, 5, 17, 12, tzinfo=UTC)
LOW, HIGH = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture
def visits(owner: Connection) -> Connection:
    """A table with everything that hangs on tables here, and 300 rows from January to May 2026."""
    owner.execute(
        """
        create table events.visits (
            id uuid not null default gen_random_uuid(),
            number bigint generated always as identity,
            serial bigserial,
            organization_id uuid references users.organizations (id),
            price numeric(18,3) check (price >= 0),
            double_price numeric(18,3) generated always as (price * 2) stored,
            sync_xid xid8 not null default '0',
            updated_at timestamptz not null default now(),
            created_at timestamptz not null,
            primary key (id, created_at)
        );
        create index visits_price on events.visits (price) where price > 10;
        create index by_time on events.visits (created_at);
        comment on table events.visits is 'Visits';
        comment on column events.visits.price is 'Paid at the door';
        create trigger track_change before insert or update on events.visits
            for each row execute function system.track_change();
        create trigger record_delete after delete on events.visits
            for each row execute function system.record_delete('id');
        create trigger refuse_truncate before truncate on events.visits
            for each statement execute function system.refuse_truncate();
        grant select (id, created_at) on events.visits to bilten_etl;
        create view events.dear_visits with (security_barrier = true) as
            select * from events.visits where price > 10;
        create view events.dear_ids as select d.id from events.dear_visits d join events.visits v using (id);
        grant select on events.dear_visits to bilten_readonly;
        create function events.visit_count() returns bigint language sql stable
            begin atomic select count(*) from events.visits; end;
        alter table events.visits replica identity using index visits_pkey;
        create publication of_visits for table events.visits (id, price, created_at)
            with (publish_via_partition_root = true);
        insert into events.visits (price, created_at)
            select n, '2026-01-03 00:00+00'::timestamptz + n * interval '10 hours'
            from generate_series(1, 300) n;
        analyze events.visits;
        """
    )
    return owner


@contextmanager
def untouched(connection: Connection) -> Iterator[None]:
    before = _all(connection)
    yield
    assert _all(connection) == before


def _all(connection: Connection) -> list[tuple[object, ...]]:
    columns = "id, number, serial, price, double_price, sync_xid, updated_at, created_at"
    return connection.execute(f"select {columns} from events.visits order by id").fetchall()


def _hanging(connection: Connection) -> dict[str, object]:
    """What people and programs see of the table, by name."""
    return {
        name: connection.execute(query).fetchall()
        for name, query in {
            "columns": """
                select attname, format_type(atttypid, atttypmod), attnotnull, attidentity, attgenerated,
                       col_description(attrelid, attnum), pg_get_expr(adbin, adrelid)
                from pg_attribute left join pg_attrdef on adrelid = attrelid and adnum = attnum
                where attrelid = 'events.visits'::regclass and attnum > 0 order by 1
            """,
            "indexes": """
                select c.relname, indisunique, indisprimary
                from pg_index join pg_class c on c.oid = indexrelid
                where indrelid = 'events.visits'::regclass order by 1
            """,
            "constraints": """
                select conname, contype, pg_get_constraintdef(oid) from pg_constraint
                where conrelid = 'events.visits'::regclass and contype <> 'n' order by 1
            """,
            "triggers": """
                select tgname, pg_get_triggerdef(oid) from pg_trigger
                where tgrelid = 'events.visits'::regclass and not tgisinternal order by 1
            """,
            "table": """
                select obj_description(oid), relreplident, pg_get_userbyid(relowner) from pg_class
                where oid = 'events.visits'::regclass
            """,
            "privileges": """
                select a::text from pg_class c, aclexplode(relacl) a where c.oid = 'events.visits'::regclass
                union all
                select attname || a::text from pg_attribute, aclexplode(attacl) a
                where attrelid = 'events.visits'::regclass order by 1
            """,
            "view": """
                select c.reloptions::text, c.relacl::text, pg_get_viewdef(c.oid) from pg_class c
                where c.oid in ('events.dear_visits'::regclass, 'events.dear_ids'::regclass) order by 3
            """,
            "function": "select pg_get_functiondef('events.visit_count()'::regprocedure)",
            "publication": """
                select tablename, attnames::text from pg_publication_tables where pubname = 'of_visits'
            """,
            "serial": "select pg_get_serial_sequence('events.visits', 'serial')",
            "identity": "select pg_get_serial_sequence('events.visits', 'number')",
        }.items()
    }


def insert(connection: Connection, at: str, price: int = 11) -> tuple[object, ...]:
    row = connection.execute(
        "insert into events.visits (price, created_at) values (%s, %s)"
        " returning number, tableoid::regclass::text",
        (price, at),
    ).fetchone()
    assert row is not None
    return row


def test_the_preview_changes_nothing(visits: Connection, database: Settings) -> None:
    with untouched(visits):
        report = adopt(database, TABLE, now=NOW)
    assert not report.executed
    assert (report.plan.from_at, report.plan.to_at, report.plan.state) == (LOW, HIGH, "plain")
    assert (report.plan.first, report.plan.rows, len(report.plan.steps)) == ("events.visits_first", 300, 4)
    assert kind(visits, TABLE.name) == "r"


def test_it_becomes_the_first_partition_with_all_that_hangs_on_it(
    visits: Connection, database: Settings
) -> None:
    before = _hanging(visits)
    with untouched(visits):
        report = adopt(database, TABLE, execute=True, now=NOW)
    assert report.executed
    assert kind(visits, TABLE.name) == "p"
    (first,) = attached(visits, TABLE.name)
    assert (first.name, first.low, first.high) == ("events.visits_first", LOW, HIGH)
    assert _hanging(visits) == before
    assert insert(visits, "2026-05-20") == (301, "events.visits_first")
    # bound to the table and not to its first partition
    visits.execute(
        "create table events.june partition of events.visits for values from ('2026-06-01') to ('2026-07-01')"
    )
    assert insert(visits, "2026-06-02") == (302, "events.june")
    assert visits.execute("select events.visit_count()").fetchone() == (302,)
    assert visits.execute("select count(*) from events.dear_visits").fetchone() == (290 + 2,)
    recorded = visits.execute(
        "select partition_name, from_at, to_at, state from system.partition_metadata"
    ).fetchall()
    assert recorded == [("events.visits_first", LOW, HIGH, "attached")]
    checks = visits.execute(
        "select conname from pg_constraint where conname like '%adopt%'"
        " or conrelid = 'events.visits_first'::regclass"
        " and contype = 'c' and conislocal and not conname like '%price%'"
    ).fetchall()
    assert checks == []
    with pytest.raises(Refused, match="partitioned already"):
        adopt(database, TABLE, now=NOW)


def test_triggers_name_the_table_whatever_partition_fires(visits: Connection, database: Settings) -> None:
    """A tombstone under the name of a partition would never reach the sync."""
    adopt(database, TABLE, execute=True, now=NOW)
    visits.execute("delete from events.visits where price = 7")
    assert visits.execute("select distinct table_name from system.deleted_rows").fetchall() == [
        ("events.visits",)
    ]


def test_and_back(visits: Connection, database: Settings) -> None:
    before = _hanging(visits)
    adopt(database, TABLE, execute=True, now=NOW)
    visits.execute(
        "create table events.june partition of events.visits for values from ('2026-06-01') to ('2026-07-01')"
    )
    for _ in range(3):
        insert(visits, "2026-06-02")
    preview = back(database, TABLE)
    assert (preview.rows_to_move, preview.executed, kind(visits, TABLE.name)) == (3, False, "p")
    with pytest.raises(Refused, match="too many rows"):
        back(database, TABLE, execute=True, move_rows=2)
    with untouched(visits):
        assert back(database, TABLE, execute=True).executed
    assert kind(visits, TABLE.name) == "r"
    assert _hanging(visits) == before
    assert insert(visits, "2027-05-20") == (304, "events.visits")
    assert visits.execute(
        "select to_regclass('events.june'), to_regclass('events.visits_leaving')"
    ).fetchone() == (
        None,
        None,
    )
    with untouched(visits):
        assert adopt(database, TABLE, execute=True, now=NOW).executed
    with pytest.raises(Refused, match="no first partition"):
        back(database, PartitionedTable("users.user_behavior", retention=13))


def test_an_unfinished_one_goes_on_or_back(visits: Connection, database: Settings) -> None:
    with postgres.connect(database.postgres) as holder:
        chosen = plan.plan(visits, TABLE, now=NOW)
        check.add(visits, Patience(), TABLE, chosen)
        holder.rollback()
    assert plan.plan(visits, TABLE, now=datetime(2026, 5, 30, tzinfo=UTC)).state == "checked"
    assert back(database, TABLE, execute=True).executed
    assert plan.plan(visits, TABLE, now=NOW).state == "plain"
    with pytest.raises(Refused, match="was not adopted"):
        back(database, TABLE)
    check.add(visits, Patience(), TABLE, chosen)
    report = adopt(database, TABLE, execute=True, now=datetime(2026, 5, 30, tzinfo=UTC))
    assert report.plan.to_at == HIGH


_WAYS: dict[str, tuple[str, str]] = {
    "unique without the key": ("create unique index numbers on events.visits (number)", "numbers"),
    "primary key without it": (
        "alter table events.visits replica identity full;"
        " alter table events.visits drop constraint visits_pkey;"
        " alter table events.visits add primary key (id)",
        "does not contain created_at",
    ),
    "referred to": (
        "create table events.tips (id uuid, at timestamptz, foreign key (id, at) references events.visits)",
        "refers to events.visits",
    ),
    "nullable": (
        "alter table events.visits drop constraint visits_pkey;"
        " alter table events.visits alter created_at drop not null",
        "cannot decide partitions",
    ),
    "a materialized view": (
        "create materialized view events.seen as select id from events.visits",
        "events.seen",
    ),
    "its row type": ("create table events.copies (visit events.visits)", "depends on events.visits"),
    "a policy": ("alter table events.visits enable row level security", "of a kind that is not adopted"),
    "not validated": (
        "alter table events.visits add constraint cheap check (price < 10) not valid",
        "cheap",
    ),
    "an exclusion constraint": (
        "alter table events.visits add constraint alone exclude using btree (number with =)",
        "alone",
    ),
    "a transition table": (
        "create function events.noop() returns trigger language plpgsql as 'begin return null; end';"
        " create trigger seen after insert on events.visits referencing new table as n"
        " for each row execute function events.noop()",
        "seen",
    ),
    "a publication by partitions": (
        "alter publication of_visits set (publish_via_partition_root = false)",
        "of_visits",
    ),
    "the name is taken": ("create table events.visits_first ()", "cannot be named"),
    "another table's rule": (
        "create rule also as on insert to events.copied do also delete from events.visits",
        "also",
    ),
}


@pytest.mark.parametrize("way", _WAYS)
def test_what_cannot_be_kept_is_refused_with_the_way_out(
    visits: Connection, database: Settings, way: str
) -> None:
    statement, told = _WAYS[way]
    visits.execute("create table events.copied ()")
    visits.execute(statement.encode())
    with untouched(visits), pytest.raises(Refused, match=told) as caught:
        adopt(database, TABLE, execute=True, now=NOW)
    assert all(problem.next for problem in caught.value.problems)
    assert kind(visits, TABLE.name) == "r"
    assert plan.plan.__name__  # the table has no CHECK either
    assert visits.execute("select count(*) from pg_constraint where conname like '%adopt%'").fetchone() == (
        0,
    )


# the two that most tables have, and what whoever follows the way out does by hand
_WAYS_OUT: dict[str, tuple[list[str], list[str]]] = {
    "primary key without it": (
        [
            "create unique index concurrently visits_key on events.visits (id, created_at)",
            "alter table events.visits drop constraint visits_pkey,"
            " add constraint visits_pkey primary key using index visits_key",
        ],
        [],
    ),
    "referred to": (
        ["alter table events.tips drop constraint tips_id_at_fkey"],
        [
            "alter table events.tips add constraint tips_id_at_fkey"
            " foreign key (id, at) references events.visits (id, created_at) not valid",
            "alter table events.tips validate constraint tips_id_at_fkey",
        ],
    ),
}


@pytest.mark.parametrize("way", _WAYS_OUT)
def test_the_way_out_leads_there(visits: Connection, database: Settings, way: str) -> None:
    """The refusal is told at planning, and what it says to do makes the table one that is adopted."""
    visits.execute(_WAYS[way][0].encode())
    if way == "referred to":
        visits.execute("insert into events.tips select id, created_at from events.visits limit 5")
    with pytest.raises(Refused, match=_WAYS[way][1]):
        adopt(database, TABLE, now=NOW)
    before, after = _WAYS_OUT[way]
    for statement in before:
        visits.execute(statement.encode())
    with untouched(visits):
        assert adopt(database, TABLE, execute=True, now=NOW).executed
    for statement in after:
        visits.execute(statement.encode())
    assert kind(visits, TABLE.name) == "p"
    if way == "referred to":
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            visits.execute("insert into events.tips values (gen_random_uuid(), now())")


def test_everything_is_told_at_once(visits: Connection, database: Settings) -> None:
    for way in ("unique without the key", "referred to", "a materialized view", "not validated"):
        visits.execute(_WAYS[way][0].encode())
    with pytest.raises(Refused) as caught:
        adopt(database, TABLE, now=NOW)
    assert len(caught.value.problems) == 4


def test_rows_outside_that_come_meanwhile(visits: Connection, database: Settings) -> None:
    chosen = plan.plan(visits, TABLE, now=NOW)
    insert(visits, "2019-01-01")
    check.add(visits, Patience(), TABLE, chosen)
    with pytest.raises(TransientError, match="dropped again"):
        check.validate(visits, Patience(), TABLE)
    assert adopt(database, TABLE, execute=True, now=NOW).plan.from_at == datetime(2019, 1, 1, tzinfo=UTC)


def test_a_busy_table_is_given_up_and_stays_as_it_was(visits: Connection, database: Settings) -> None:
    short = database.partitions.model_copy(update={"lock_retry_seconds": 1})
    impatient = database.model_copy(update={"partitions": short})
    with postgres.connect(database.postgres) as holder:
        holder.execute("select from events.visits limit 1")
        with pytest.raises(TransientError, match=r"the CHECK on events\.visits had to wait"):
            adopt(impatient, TABLE, execute=True, now=NOW)
    assert plan.plan(visits, TABLE, now=NOW).state == "plain"


def test_writers_go_on(visits: Connection, database: Settings) -> None:
    """No failed insert, no lost row, none twice, there and back; prepared statements included."""
    ends = threading.Event()
    written: list[list[str]] = [[], [], []]
    failures: list[BaseException] = []

    def write(number: int) -> None:
        try:
            with postgres.connect(database.postgres, autocommit=True) as connection:
                connection.prepare_threshold = 2
                while not ends.is_set():
                    row = connection.execute(
                        "insert into events.visits (price, created_at) values (%s, '2026-05-20')"
                        " returning id",
                        (number,),
                    ).fetchone()
                    assert row is not None
                    written[number].append(str(row[0]))
        except BaseException as error:  # noqa: BLE001 told by the test
            failures.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        until(lambda: all(len(ids) > 5 for ids in written), "every writer writes")
        for step in (
            lambda: adopt(database, TABLE, execute=True, now=NOW),
            lambda: back(database, TABLE, execute=True, move_rows=10**9),
        ):
            step()
            until(_more(written, failures), "writers go on")
    finally:
        ends.set()
        for thread in threads:
            thread.join(timeout=60)
    assert failures == []
    found = visits.execute("select id::text from events.visits where created_at = '2026-05-20'").fetchall()
    assert sorted(name for (name,) in found) == sorted(name for ids in written for name in ids)


def _more(written: list[list[str]], failures: list[BaseException]) -> Callable[[], object]:
    reached = [len(ids) for ids in written]
    return lambda: failures or all(len(ids) > was + 5 for ids, was in zip(written, reached, strict=True))


@pytest.mark.faults
def test_killed_at_every_step_it_goes_on(visits: Connection, database: Settings) -> None:
    """Cases 1 to 5 of forward.py, and the same for the way back."""
    modules = (forward, check, swap, backward, plan, shape, locking, metadata, locks)
    seen: set[str] = set()
    for number in range(1, 100_000, 7):
        before = kind(visits, TABLE.name)
        with untouched(visits):
            killed = killed_before_line(
                lambda: adopt(database, TABLE, execute=True, now=NOW), modules, number
            )
            _gone(visits)
        after = kind(visits, TABLE.name)
        seen.add(f"{before}>{after}" if after == "p" else plan.plan(visits, TABLE, now=NOW).state)
        if after == "p":
            with untouched(visits):
                back(database, TABLE, execute=True)
        else:
            insert(visits, "2026-05-20")
            if number % 2:
                with untouched(visits):
                    adopt(database, TABLE, execute=True, now=NOW)
                    back(database, TABLE, execute=True)
            elif plan.plan(visits, TABLE, now=NOW).state != "plain":
                back(database, TABLE, execute=True)
        if not killed:
            break
    assert seen >= {"plain", "checked", "valid", "r>p"}


@pytest.mark.faults
def test_killed_at_every_step_back(visits: Connection, database: Settings) -> None:
    adopt(database, TABLE, execute=True, now=NOW)
    for number in range(1, 100_000, 9):
        visits.execute(
            "create table if not exists events.june partition of events.visits"
            " for values from ('2026-06-01') to ('2026-07-01')"
        )
        insert(visits, "2026-06-02")
        with untouched(visits):
            killed = killed_before_line(
                lambda: back(database, TABLE, execute=True),
                (forward, check, swap, backward, plan, shape, locks),
                number,
            )
            _gone(visits)
        if kind(visits, TABLE.name) == "r":
            visits.execute("delete from events.visits where created_at >= '2026-06-01'")
            adopt(database, TABLE, execute=True, now=NOW)
        if not killed:
            return
    raise AssertionError("it never came to its end")


def _gone(connection: Connection) -> None:
    """The server has noticed the death of the last one."""
    until(
        lambda: (
            connection.execute(
                "select count(*) from pg_stat_activity where datname = current_database()"
                " and application_name like 'bilten partitions%' and pid <> pg_backend_pid()"
            ).fetchone()
            == (0,)
        ),
        "the killed run's connections are gone",
    )


def test_a_partition_of_the_table_cannot_be_prepared_twice(visits: Connection, database: Settings) -> None:
    """Two at once: the second waits, and finds it done."""
    told: list[object] = []

    def run() -> None:
        try:
            told.append(adopt(database, TABLE, execute=True, now=NOW).executed)
        except Refused as error:
            told.append(str(error))
        except psycopg.Error as error:
            told.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert sorted(map(str, told))[0] == "True"
    assert "partitioned already" in sorted(map(str, told))[1]
