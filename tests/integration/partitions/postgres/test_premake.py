"""Months made ahead: right bounds, like their parents, whole or not there, and nobody notices."""

from __future__ import annotations

import itertools
import threading
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import psycopg
import pytest

from bilten_orchestration.errors import LockHeld, Refused, TransientError
from bilten_orchestration.partitions.bounds import Interval
from bilten_orchestration.partitions.declared import BY_NAME
from bilten_orchestration.partitions.listing import list_partitions
from bilten_orchestration.partitions.locking import Patience
from bilten_orchestration.partitions.postgres import catalogue, creation, likeness
from bilten_orchestration.partitions.postgres import premake as engine
from bilten_orchestration.partitions.postgres.catalogue import attached
from bilten_orchestration.partitions.postgres.premake import ensure_months, premake
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import locks, postgres
from bilten_orchestration.stores.postgres import Connection
from tests.kills import killed_before_line
from tests.waiting import until

TABLE = "users.user_behavior"


def insert(connection: Connection, at: str) -> str:
    """Insert a row and return the partition it went to."""
    row = connection.execute(
        """
        insert into users.user_behavior (action, created_at) values ('view', %s)
        returning tableoid::regclass::text
        """,
        (at,),
    ).fetchone()
    assert row is not None
    return str(row[0])


def test_months_from_first_to_last_and_only_once(owner: Connection) -> None:
    made = ensure_months(owner, TABLE, date(2025, 11, 17), date(2026, 2, 1))
    assert made == [f"{TABLE}_p{month}" for month in (202511, 202512, 202601, 202602)]
    assert ensure_months(owner, TABLE, date(2025, 11, 1), date(2026, 2, 28)) == []
    assert ensure_months(owner, TABLE, date(2026, 3, 1), date(2026, 2, 1)) == []


def test_gaps_in_the_past_are_filled(owner: Connection) -> None:
    ensure_months(owner, TABLE, date(2026, 1, 1), date(2026, 1, 1))
    ensure_months(owner, TABLE, date(2026, 4, 1), date(2026, 4, 1))
    assert ensure_months(owner, TABLE, date(2025, 12, 1), date(2026, 5, 1)) == [
        f"{TABLE}_p{month}" for month in (202512, 202602, 202603, 202605)
    ]


@pytest.mark.parametrize(
    "zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago", "Asia/Kathmandu", "America/New_York"]
)
def test_bounds_are_utc_whatever_the_sessions_zone(owner: Connection, zone: str) -> None:
    owner.execute(f"set timezone = '{zone}'")
    owner.execute("set datestyle = 'German'")
    ensure_months(owner, TABLE, date(2023, 12, 1), date(2024, 3, 1))
    assert ensure_months(owner, TABLE, date(2023, 12, 1), date(2024, 3, 1)) == []
    found = {partition.name: (partition.low, partition.high) for partition in attached(owner, TABLE)}
    assert found["users.user_behavior_p202402"] == (
        datetime(2024, 2, 1, tzinfo=UTC),
        datetime(2024, 3, 1, tzinfo=UTC),
    )
    assert insert(owner, "2023-12-31 23:59:59.999999+00") == "users.user_behavior_p202312"
    assert insert(owner, "2024-01-01 00:00:00+00") == "users.user_behavior_p202401"
    assert insert(owner, "2024-02-29 23:59:59.999999+00") == "users.user_behavior_p202402"
    assert insert(owner, "2024-03-01 00:00:00+00") == "users.user_behavior_p202403"
    with pytest.raises(psycopg.errors.CheckViolation, match="no partition"):
        insert(owner, "2023-11-30 23:59:59.999999+00")


def test_every_declared_table_is_ready_ahead(database: Settings, owner: Connection) -> None:
    report = premake(database, first=date(2026, 3, 5), today=date(2026, 5, 31))
    assert report.first == "2026-03"
    assert report.last == dict.fromkeys(BY_NAME, "2026-09")
    assert {name: len(made) for name, made in report.made.items()} == dict.fromkeys(BY_NAME, 7)
    assert premake(database, first=date(2026, 3, 5), today=date(2026, 5, 31)).made == {
        name: [] for name in BY_NAME
    }
    recorded = owner.execute(
        """
        select table_name, partition_name, from_at, to_at, state, rows from system.partition_metadata
        where table_name = 'audit.audit_log' order by from_at
        """
    ).fetchall()
    assert len(recorded) == 7
    assert recorded[0] == (
        "audit.audit_log",
        "audit.audit_log_p202603",
        datetime(2026, 3, 1, tzinfo=UTC),
        datetime(2026, 4, 1, tzinfo=UTC),
        "attached",
        0,
    )
    further = premake(database, last=date(2026, 12, 31), today=date(2026, 5, 31))
    assert set(further.last.values()) == {"2026-12"}


def test_privileges_of_columns_and_grant_options_come_along_and_others_do_not(owner: Connection) -> None:
    owner.execute("alter default privileges in schema users grant select on tables to bilten_etl")
    owner.execute("grant select on users.user_behavior to bilten_app with grant option")
    owner.execute("grant update (action) on users.user_behavior to bilten_readonly")
    ensure_months(owner, TABLE, date(2026, 1, 1), date(2026, 1, 1))
    query = """
        select string_agg(a::text, ' ' order by a::text)
        from pg_class c, aclexplode(c.relacl) a where c.oid = %s::regclass
        union all
        select string_agg(t.attname || a::text, ' ' order by t.attname || a::text)
        from pg_attribute t, aclexplode(t.attacl) a where t.attrelid = %s::regclass
    """
    child = f"{TABLE}_p202601"
    assert owner.execute(query, (child, child)).fetchall() == owner.execute(query, (TABLE, TABLE)).fetchall()
    row = owner.execute("select has_table_privilege('bilten_etl', %s, 'select')", (child,)).fetchone()
    assert row == (False,)


def test_no_check_is_left_behind(owner: Connection) -> None:
    ensure_months(owner, TABLE, date(2026, 1, 1), date(2026, 1, 1))
    rows = owner.execute(
        """
        select conname from pg_constraint
        where conrelid = 'users.user_behavior_p202601'::regclass and contype = 'c'
        """
    ).fetchall()
    assert rows == []


def test_a_renamed_month_is_the_month_still(owner: Connection) -> None:
    ensure_months(owner, TABLE, date(2026, 1, 1), date(2026, 1, 1))
    owner.execute("alter table users.user_behavior_p202601 rename to january")
    assert ensure_months(owner, TABLE, date(2026, 1, 1), date(2026, 1, 1)) == []


def test_what_stands_in_the_way_is_told_all_at_once_and_nothing_is_made(owner: Connection) -> None:
    ensure_months(owner, TABLE, date(2026, 1, 1), date(2026, 1, 1))
    owner.execute("alter table users.user_behavior detach partition users.user_behavior_p202601")
    owner.execute(
        """
        create table users.half partition of users.user_behavior
        for values from ('2026-02-10+00') to ('2026-03-10+00')
        """
    )
    owner.execute("create table users.rest partition of users.user_behavior default")
    with pytest.raises(Refused) as caught:
        ensure_months(owner, TABLE, date(2025, 12, 1), date(2026, 4, 1))
    told = [problem.what for problem in caught.value.problems]
    assert len(told) == 4
    assert any("default partition, users.rest" in what for what in told)
    assert any("2026-02" in what and "in part" in what for what in told)
    assert any("2026-03" in what and "in part" in what for what in told)
    assert any("users.user_behavior_p202601 exists and is no partition" in what for what in told)
    assert {partition.name for partition in attached(owner, TABLE)} == {"users.half", "users.rest"}


def test_a_table_that_nobody_declared_is_refused(owner: Connection) -> None:
    with pytest.raises(Refused, match="not a declared"):
        ensure_months(owner, "users.users", date(2026, 1, 1), date(2026, 1, 1))


def test_a_table_that_is_not_there_is_refused(owner: Connection) -> None:
    owner.execute("drop table users.user_behavior")
    with pytest.raises(Refused, match="not partitioned"):
        ensure_months(owner, TABLE, date(2026, 1, 1), date(2026, 1, 1))


def test_a_connection_inside_a_transaction_is_refused(database: Settings) -> None:
    with postgres.connect(database.postgres) as connection, pytest.raises(ValueError, match="autocommit"):
        ensure_months(connection, TABLE, date(2026, 1, 1), date(2026, 1, 1))


def test_four_runners_at_once_make_each_month_once(database: Settings) -> None:
    reports: list[engine.PremakeReport] = []
    threads = [
        threading.Thread(
            target=lambda: reports.append(premake(database, first=date(2026, 1, 1), today=date(2026, 2, 1)))
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    made = [name for report in reports for names in report.made.values() for name in names]
    assert len(reports) == 4
    assert len(made) == len(set(made)) == 4 * 6


def test_a_runner_that_waits_too_long_names_the_holder(
    database: Settings, owner: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "LOCK_WAIT_SECONDS", 0.2)
    with locks.advisory_lock(owner, engine.LOCK), pytest.raises(LockHeld, match="bilten_owner"):
        premake(database)


@pytest.mark.parametrize(
    ("holds", "writes"),
    [
        (
            "lock table users.user_behavior in share update exclusive mode",
            "insert into users.user_behavior (action, created_at) values ('seen', '2026-01-15 00:00+00')",
        ),
        # ATTACH locks what a foreign key of the parent refers to, and there writers would queue behind it
        ("insert into users.actions values ('held')", "insert into users.actions values (gen_random_uuid())"),
    ],
    ids=["the parent", "a referenced table"],
)
def test_who_is_busy_is_tried_again_and_writers_do_not_queue_behind(
    database: Settings, owner: Connection, holds: str, writes: str
) -> None:
    """Writers go on for as long as somebody keeps what ATTACH needs: nothing here asks how fast."""
    owner.execute(
        "create table users.actions (action text primary key); insert into users.actions values ('seen')"
    )
    owner.execute("alter table users.user_behavior add foreign key (action) references users.actions")
    ensure_months(owner, TABLE, date(2026, 1, 1), date(2026, 1, 1))
    made: list[str] = []
    attempts: set[datetime] = set()
    with (
        postgres.connect(database.postgres) as holder,
        postgres.connect(database.postgres, autocommit=True) as writer,
        postgres.connect(database.postgres, application_name="maker", autocommit=True) as maker,
    ):
        holder.execute(holds.encode())
        # one that queues for longer than an attempt may take is stuck: the holder ends after it
        writer.execute("set lock_timeout = '20s'")
        thread = threading.Thread(
            target=lambda: made.extend(ensure_months(maker, TABLE, date(2026, 2, 1), date(2026, 2, 1)))
        )
        thread.start()
        while len(attempts) < 3:
            writer.execute(writes.encode())
            attempts |= {
                since
                for (since,) in owner.execute(
                    "select waitstart from pg_locks join pg_stat_activity using (pid)"
                    " where application_name = 'maker' and not granted and waitstart is not null"
                ).fetchall()
            }
            assert thread.is_alive()
        assert made == []
        holder.rollback()
        thread.join(timeout=60)
    assert made == [f"{TABLE}_p202602"]


def test_a_lock_that_is_never_to_be_had_ends_in_a_message(database: Settings, owner: Connection) -> None:
    with postgres.connect(database.postgres) as holder:
        holder.execute("lock table users.user_behavior in share update exclusive mode")
        with pytest.raises(TransientError, match="could not be attached"):
            ensure_months(
                owner, TABLE, date(2026, 2, 1), date(2026, 2, 1), patience=Patience(retry_seconds=1)
            )
    assert attached(owner, TABLE) == []
    assert owner.execute("select to_regclass('users.user_behavior_p202602')").fetchone() == (None,)


def test_a_long_reader_hinders_nothing(database: Settings, owner: Connection) -> None:
    with postgres.connect(database.postgres) as reader:
        reader.execute("set transaction isolation level repeatable read")
        reader.execute("select count(*) from users.user_behavior")
        reader.execute("lock table users.user_behavior in access share mode")
        assert len(ensure_months(owner, TABLE, date(2026, 1, 1), date(2026, 1, 1))) == 1


def test_a_kill_leaves_a_month_whole_or_not_there(database: Settings, owner: Connection) -> None:
    def work() -> None:
        with postgres.connect(database.postgres, autocommit=True) as connection:
            ensure_months(connection, TABLE, date(2026, 1, 1), date(2026, 2, 1))

    killed = 0
    for number in range(1, 100_000, 11):
        if not killed_before_line(work, (engine, creation, likeness, catalogue, locks), number):
            break
        killed += 1
        until(lambda: _free(owner), "the killed run's lock is free")
        names = {partition.name for partition in attached(owner, TABLE)}
        for month in ("202601", "202602"):
            there = owner.execute(
                f"select to_regclass('users.user_behavior_p{month}') is not null"
            ).fetchone()
            assert there == (f"users.user_behavior_p{month}" in names,)
        recorded = owner.execute("select partition_name from system.partition_metadata").fetchall()
        assert {name for (name,) in recorded} == names
        work()
        assert len(attached(owner, TABLE)) == 2
        owner.execute("drop table users.user_behavior_p202601, users.user_behavior_p202602")
        owner.execute("delete from system.partition_metadata")
    assert killed >= 5


def _free(connection: Connection) -> bool:
    try:
        with locks.advisory_lock(connection, engine.LOCK):
            return True
    except LockHeld:
        return False


def test_the_list_warns_when_the_next_month_is_not_there(database: Settings) -> None:
    premake(database, first=date(2026, 1, 1), today=date(2026, 1, 15))
    rows, problems = list_partitions(database, now=datetime(2026, 1, 20, tzinfo=UTC))
    assert (len(rows), problems) == (4 * 5, [])
    assert rows[0].partition == "users.user_behavior_p202601"
    assert (rows[0].from_at, rows[0].state) == (datetime(2026, 1, 1, tzinfo=UTC), "attached")
    assert rows[0].bytes > 0
    _, problems = list_partitions(database, now=datetime(2026, 5, 31, 23, tzinfo=UTC))
    assert [problem.what for problem in problems] == [
        f"{name} has no partition for 2026-06" for name in BY_NAME
    ]


def test_a_partition_is_like_its_parent_in_everything(
    owner: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What LIKE and ATTACH do not bring is brought; what somebody added to the parent comes along."""
    owner.execute(
        """
        alter table users.user_behavior alter column action set statistics 500;
        alter table users.user_behavior alter column user_id set (n_distinct = -0.5);
        alter table users.user_behavior alter column metadata set storage external;
        alter table users.user_behavior add constraint some_action check (action <> '');
        create statistics users.both_ids on user_id, resource_id from users.user_behavior;
        alter table users.user_behavior enable row level security;
        create policy own on users.user_behavior for select to bilten_readonly using (user_id is null);
        create unique index behavior_identity on users.user_behavior (id, created_at);
        alter table users.user_behavior replica identity using index behavior_identity;
        """
    )
    table = replace(BY_NAME[TABLE], storage={"autovacuum_vacuum_scale_factor": "0.05", "fillfactor": "90"})
    monkeypatch.setattr(engine, "BY_NAME", {TABLE: table})
    (name,) = ensure_months(owner, TABLE, date(2024, 2, 1), date(2024, 2, 1))

    def of(relation: str) -> list[object]:
        queries = (
            """select attname, format_type(atttypid, atttypmod), attnotnull, attstorage::text,
                      attoptions, to_jsonb(a) ->> 'attstattarget', col_description(attrelid, attnum),
                      pg_get_expr(d.adbin, d.adrelid)
               from pg_attribute a left join pg_attrdef d on (d.adrelid, d.adnum) = (attrelid, attnum)
               where attrelid = %s::regclass and attnum > 0 order by attnum""",
            """select relrowsecurity, relforcerowsecurity, relreplident::text, relowner
               from pg_class where oid = %s::regclass""",
            """select polname, polpermissive, polroles, polcmd::text, pg_get_expr(polqual, polrelid)
               from pg_policy where polrelid = %s::regclass""",
            """select contype::text, pg_get_constraintdef(oid) from pg_constraint
               where conrelid = %s::regclass and contype in ('c', 'p') order by 1, 2""",
            """select indisprimary, indisunique, indisreplident, indkey::text from pg_index
               where indrelid = %s::regclass order by 1, 2, 3, 4""",
            """select stxkind::text, stxkeys::text from pg_statistic_ext where stxrelid = %s::regclass""",
            """select tgname, tgfoid::regproc::text, tgenabled::text from pg_trigger
               where tgrelid = %s::regclass and tgtype & 1 = 1 order by 1""",
        )
        return [owner.execute(query, (relation,)).fetchall() for query in queries]  # type: ignore[call-overload]

    assert of(name) == of(TABLE)
    row = owner.execute(
        "select reloptions, obj_description(oid) from pg_class where oid = %s::regclass", (name,)
    ).fetchone()
    assert row == (
        ["autovacuum_vacuum_scale_factor=0.05", "fillfactor=90"],
        f"{TABLE} of 2024-02 (UTC)",
    )


@pytest.mark.parametrize(
    ("interval", "first", "last", "made"),
    [
        ("week", date(2026, 12, 27), date(2027, 1, 4), ["p2026w52", "p2026w53", "p2027w01"]),
        ("day", date(2024, 2, 28), date(2024, 3, 1), ["p20240228", "p20240229", "p20240301"]),
        # in the session's zone the one in the middle has 23 hours, and 25
        ("day", date(2026, 3, 7), date(2026, 3, 9), ["p20260307", "p20260308", "p20260309"]),
        ("day", date(2026, 10, 31), date(2026, 11, 2), ["p20261031", "p20261101", "p20261102"]),
    ],
)
def test_weeks_and_days(
    owner: Connection,
    monkeypatch: pytest.MonkeyPatch,
    interval: Interval,
    first: date,
    last: date,
    made: list[str],
) -> None:
    monkeypatch.setattr(engine, "BY_NAME", {TABLE: replace(BY_NAME[TABLE], interval=interval)})
    owner.execute("set timezone = 'America/New_York'")
    assert ensure_months(owner, TABLE, first, last) == [f"{TABLE}_{suffix}" for suffix in made]
    assert ensure_months(owner, TABLE, first, last) == []
    bounds = [(p.low, p.high) for p in attached(owner, TABLE)]
    assert all(one[1] == other[0] for one, other in itertools.pairwise(bounds))
    long = timedelta(days=7 if interval == "week" else 1)
    assert all(low and high and high - low == long for low, high in bounds)
    for name, (low, high) in zip(made, bounds, strict=True):
        assert low and high
        for at in (low, high - timedelta(microseconds=1)):
            assert insert(owner, at.isoformat()) == f"{TABLE}_{name}"
