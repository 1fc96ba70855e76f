"""Old months leave: archived, proven, dropped; and only those that may."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pyarrow.parquet as pq
import pytest
from psycopg import sql

from bilten_orchestration.backups.copies.copy import copy
from bilten_orchestration.backups.repository.bucket import Repository
from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.backups.retention.prune import prune
from bilten_orchestration.errors import TransientError
from bilten_orchestration.partitions import archives, journal, metadata
from bilten_orchestration.partitions.archives import Archive
from bilten_orchestration.partitions.bounds import Period
from bilten_orchestration.partitions.declared import PartitionedTable
from bilten_orchestration.partitions.postgres import apply as maintenance
from bilten_orchestration.partitions.postgres import drop, parquet, premake
from bilten_orchestration.partitions.postgres.archive import fetched
from bilten_orchestration.partitions.postgres.catalogue import attached
from bilten_orchestration.partitions.postgres.columns import read as read_columns
from bilten_orchestration.partitions.postgres.restore import restore
from bilten_orchestration.settings import PartitionSettings
from bilten_orchestration.stores import locks, postgres
from bilten_orchestration.stores.object_store import connect
from tests.integration.partitions.conftest import Shelf, months_ago
from tests.kills import killed_before_line
from tests.waiting import until

NOW = datetime.now(UTC)


def listed(shelf: Shelf) -> tuple[Archive, ...]:
    with Opened.of(shelf.settings, new=False) as opened:
        found = archives.read(opened.repository, opened.ring, "postgres")
    assert found.problems == ()
    return found.archives


def test_an_old_month_is_archived_proven_and_dropped(shelf: Shelf) -> None:
    old, kept = shelf.fill(months_ago(3), 500), shelf.fill(months_ago(1))
    shelf.fill(months_ago(0))
    content = shelf.content(old)
    planned = shelf.plan()
    assert planned.problems == ()
    assert [(a.action, a.partition) for a in planned.changes if a.action != "create"] == [
        ("detach", old),
        ("archive", old),
        ("drop", old),
    ]
    assert shelf.exists(old)

    report = shelf.apply()

    assert report.problems == ()
    assert [each.action.action for each in report.done if each.action.partition == old] == [
        "detach",
        "archive",
        "drop",
    ]
    assert not shelf.exists(old)
    assert kept in shelf.names()
    (archive,) = listed(shelf)
    assert (archive.partition, archive.rows) == (old, 500)
    assert content == (500, archive.digest.partition(":")[2])
    row = shelf.owner.execute(
        """
        select state, archive_object, archive_digest, rows, run_id from system.partition_metadata
        where partition_name = %s
        """,
        (old,),
    ).fetchone()
    assert row == ("dropped", archive.document, archive.digest, 500, None)
    with Opened.of(shelf.settings, new=False) as opened:
        (entry,) = journal.read(opened)
    assert (entry.body["what"], entry.body["archive"]) == ("drop", archive.document)
    assert entry.ended is not None
    assert entry.ended["outcome"] == "done"
    again = shelf.apply()
    assert (again.done, again.problems) == ((), ())


def test_every_kind_of_value_comes_back_the_same(shelf: Shelf) -> None:
    """What has no exact match in Arrow is text, and the table tells by its values what that is."""
    owner = shelf.owner
    owner.execute("create type users.mood as enum ('good', 'so, so', 'ба\"д')")
    owner.execute(
        """
        create table users.everything (
            id bigint generated always as identity, created_at timestamptz not null,
            small smallint, whole integer, single real, twice double precision, flag boolean,
            price numeric(18, 3), wide numeric(40, 2), free numeric, percent numeric(3, 5),
            plain timestamp, until timestamptz, day date, at time, span interval,
            code char(3), label varchar(10), words text, mood users.mood, address inet, tags text[],
            moods users.mood[], body jsonb, old json, bits bytea, range int4range, period tstzrange,
            key uuid, spot point, doubled numeric generated always as (price * 2) stored,
            "Odd, 'name'" text, primary key (id, created_at)
        ) partition by range (created_at)
        """
    )
    table = PartitionedTable("users.everything", retention=1, premake=1)
    shelf = replace(shelf, table=table)
    old, now = Period.of(months_ago(2)), Period.of(NOW)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(premake, "BY_NAME", {table.name: table})
        premake.ensure_months(owner, table.name, old.first, old.first)
        premake.ensure_months(owner, table.name, now.first, now.first)
    owner.execute("insert into users.everything (created_at) values (now())")
    name = f"{table.name}_{old.suffix}"
    columns = [c for c in read_columns(owner, name) if not c.generated and c.name not in ("id", "created_at")]
    rows: list[list[object]] = [
        [None] * len(columns),
        [
            *(-32768, -2147483648, 1.17549435e-38, 5e-324, True, "-1.100", "12345678901234567890.12", "1.10"),
            *("0.00012", "2026-02-28 23:59:59.999999", "1970-01-01 00:00:00.000001+00", "0001-01-01"),
            *("24:00:00", "1 mon -2 days 00:00:01.5", "a", "", "", "so, so", "::ffff:1.2.3.4/96"),
            *('{"a,b",NULL,"\\"x\\""}', '{good,"so, so"}', '{"a": [1, null, "\\n"]}', '{"b":  1}', "\\x00ff"),
            *("[1,5)", '["2026-01-01 00:00:00+00",)', str(uuid4()), "(1.5,-2)", "\n"),
        ],
        [
            *(32767, 2147483647, float("nan"), float("inf"), False, "999999999999999.999", "0.00", "NaN"),
            *("-0.00999", "infinity", "-infinity", "infinity"),
            *("00:00:00", "-1 years", "abc", "a\tb", '"', "good", "10.0.0.0/8"),
            *("{}", "{}", "null", "[]", ""),
            *("empty", "(,)", str(uuid4()), "(0,-0)", "\\."),
        ],
        [
            *(0, 0, -0.0, 0.1, None, "NaN", "NaN", "1e-300"),
            *("0.00000", "4713-01-01 00:00:00 BC", "12026-01-01 00:00:00+00", "12026-01-01"),
            *("12:34:56.789012", "0", "", "ü€𝄞", "x" * 100_000, 'ба"д', "1.2.3.4"),
            *("{{a,b},{c,d}}", "{NULL}", '"text"', "1", "\\x" + "ab" * 9000),
            *("(,3]", "empty", str(uuid4()), "(1e300,1e-300)", "\r\n"),
        ],
    ]
    names = sql.SQL(", ").join(sql.Identifier(c.name) for c in columns)
    values = sql.SQL(", ").join(sql.SQL("%s::" + c.type) for c in columns)
    for row in rows:
        assert len(row) == len(columns)
        owner.execute(
            sql.SQL("insert into users.everything (created_at, {}) values (%s, {})").format(names, values),
            [old.start + timedelta(days=1), *row],
        )
    content = shelf.content(name)

    report = shelf.apply()

    assert report.problems == ()
    assert not shelf.exists(name)
    (archive,) = listed(shelf)
    kinds = {column.name: column.arrow for column in archive.columns}
    as_text = ("plain", "until", "day", "price", "wide", "free", "percent", "at", "mood", "body", "bits")
    assert {kinds[name] for name in as_text} == {"string"}
    assert (kinds["small"], kinds["single"]) == ("int16", "float")
    assert kinds["created_at"] == "timestamp[us, tz=UTC]"
    restored = restore(shelf.settings, table.name, str(old), tables=[table], by="test")
    assert (restored.way, restored.reasons) == ("attached", ())
    assert shelf.content(name) == content


def test_types_are_exact_where_the_values_are(shelf: Shelf) -> None:
    shelf.fill(months_ago(3))
    shelf.fill(months_ago(0))
    shelf.apply()
    (archive,) = listed(shelf)
    assert {c.name: (c.arrow, c.as_text) for c in archive.columns} == {
        "id": ("string", True),
        "user_id": ("string", True),
        "action": ("string", False),
        "resource_type": ("string", False),
        "resource_id": ("string", True),
        "metadata": ("string", True),
        "created_at": ("timestamp[us, tz=UTC]", False),
    }


def test_slices_are_whole_parquet_files(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP_BYTES", 10_000)
    sliced = PartitionSettings.model_construct(
        **{**shelf.settings.partitions.model_dump(), "archive_slice_bytes": 20_000}
    )
    shelf = replace(shelf, settings=shelf.settings.model_copy(update={"partitions": sliced}))
    shelf.fill(months_ago(3), 3000)
    shelf.fill(months_ago(0))
    assert shelf.apply().problems == ()
    (archive,) = listed(shelf)
    assert len(archive.objects) > 3
    with Opened.of(shelf.settings, new=False) as opened:
        rows = 0
        for each in archive.objects:
            with fetched(opened, shelf.settings, archive, each) as file:
                rows += pq.ParquetFile(file).metadata.num_rows
    assert rows == 3000


def test_what_nobody_asked_for_stays(shelf: Shelf) -> None:
    """Cases 9, 11: the newest rows, and more than the limit."""
    names = [shelf.fill(months_ago(number), 10) for number in (6, 5, 4, 3)]
    shelf.fill(months_ago(0))
    first = shelf.apply(limit=1)
    assert (first.count("drop"), shelf.exists(names[0]), shelf.exists(names[1])) == (1, False, True)
    assert first.problems == ()
    assert shelf.apply(limit=0).done == ()
    assert shelf.apply().count("drop") == 2
    assert [shelf.exists(name) for name in names] == [False, False, False, True]


def test_the_newest_rows_are_never_ended(shelf: Shelf) -> None:
    older, newest = shelf.fill(months_ago(5), 10), shelf.fill(months_ago(4), 10)
    settings = shelf.settings.partitions.model_copy(update={"silence_days": 3650})
    shelf = replace(shelf, settings=shelf.settings.model_copy(update={"partitions": settings}))
    shelf.apply()
    assert (shelf.exists(older), shelf.exists(newest)) == (False, True)
    assert shelf.apply().count("drop") == 0


def test_old_rows_alone_are_no_sign_that_time_has_passed(shelf: Shelf) -> None:
    """Case 13: as if all clocks were ahead. What is missing is made all the same."""
    old = shelf.fill(months_ago(9), 10)
    shelf.fill(months_ago(8), 10)
    report = shelf.apply()
    assert "newest rows are old" in report.problems[0].what
    assert shelf.exists(old)
    assert report.count("create") > 0
    assert report.count("detach") == 0


def test_what_cannot_be_made_stays_planned_until_it_can(shelf: Shelf) -> None:
    month = Period.of(NOW).plus(1)
    name = f"{shelf.table.name}_{month.suffix}"
    shelf.fill(months_ago(0))
    hurried = shelf.settings.partitions.model_copy(update={"lock_retry_seconds": 1})
    impatient = replace(shelf, settings=shelf.settings.model_copy(update={"partitions": hurried}))
    with postgres.connect(shelf.settings.postgres) as holder:
        holder.execute("lock table users.user_behavior in share update exclusive mode")
        report = impatient.apply()
        assert "could not be attached" in report.problems[0].what
        assert (shelf.state(name), shelf.exists(name)) == ("planned", False)
    assert [(a.action, a.partition) for a in shelf.plan().changes] == [("create", name)]
    # what is not to be made any more is not planned any more
    shelf.owner.execute("update system.partition_metadata set partition_name = 'users.user_behavior_old'"
                        " where state = 'planned'")  # fmt: skip
    assert shelf.apply().problems == ()
    assert (shelf.state(name), shelf.state("users.user_behavior_old")) == ("attached", None)


def test_a_table_that_somebody_keeps_locked_keeps_no_other_one_waiting(shelf: Shelf) -> None:
    hurried = shelf.settings.partitions.model_copy(update={"lock_retry_seconds": 1})
    settings = shelf.settings.model_copy(update={"partitions": hurried})
    shelf.fill(months_ago(0))
    other = PartitionedTable("events.event_analytics", retention=2, premake=1)
    with postgres.connect(settings.postgres) as holder:
        holder.execute("lock table users.user_behavior in access exclusive mode")
        report = maintenance.apply(settings, tables=[shelf.table, other], by="test")
    (problem,) = report.problems
    assert "reading the partitions of users.user_behavior" in problem.what
    assert report.count("create", other.name) == 2
    assert shelf.apply().problems == ()


def test_a_clock_that_is_ahead_ends_nothing(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    old = shelf.fill(months_ago(3), 10)
    shelf.fill(months_ago(0))
    real = Repository.clock
    monkeypatch.setattr(Repository, "clock", lambda self: real(self) + timedelta(days=365))
    report = shelf.apply()
    assert "do not agree on the time" in report.problems[0].what
    assert shelf.exists(old)


def test_a_bucket_that_is_away_stops_no_writer(shelf: Shelf) -> None:
    old = shelf.fill(months_ago(3), 10)
    shelf.fill(months_ago(0))
    store = shelf.settings.object_store.model_copy(update={"bucket_backups": "there-is-no-such-bucket"})
    away = replace(shelf, settings=shelf.settings.model_copy(update={"object_store": store}))
    report = away.apply()
    assert report.problems
    assert report.count("create") > 0
    assert (shelf.exists(old), shelf.state(old)) == (True, "attached")


def test_at_end_drop_and_keep_detached(shelf: Shelf) -> None:
    old = shelf.fill(months_ago(3), 10)
    shelf.fill(months_ago(0))
    keeping = replace(shelf, table=replace(shelf.table, at_end="keep_detached"))
    assert keeping.apply().problems == ()
    assert (shelf.exists(old), old in shelf.names(), shelf.state(old)) == (True, False, "detached")
    assert keeping.apply().done == ()
    dropping = replace(shelf, table=replace(shelf.table, at_end="drop"))
    assert [each.action.action for each in dropping.apply().done] == ["drop"]
    assert (shelf.exists(old), shelf.state(old)) == (False, "dropped")
    assert listed(shelf) == ()


def test_rows_written_into_a_detached_table_are_archived_anew(shelf: Shelf) -> None:
    old = shelf.fill(months_ago(3), 10)
    shelf.fill(months_ago(0))
    real = drop.archived

    def written(connection: Any, opened: Any, source: Any, *rest: Any) -> Archive:
        with postgres.connect(shelf.settings.postgres, autocommit=True) as other:
            other.execute(f"delete from {old} where action = 'view1'")
        return real(connection, opened, source, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drop, "archived", written)
        report = shelf.apply()
    assert "is not what the partition holds" in report.problems[0].what
    assert (shelf.exists(old), shelf.state(old)) == (True, "archived")
    again = shelf.apply()
    assert (again.problems, shelf.exists(old)) == ((), False)
    assert [archive.rows for archive in listed(shelf)] == [10, 9]


def test_a_month_is_dropped_only_while_its_archive_is_whole(shelf: Shelf) -> None:
    """Document and every byte of its objects, right then; what is damaged is told, and archived anew."""
    old = shelf.fill(months_ago(3), 10)
    shelf.fill(months_ago(0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drop, "_drop", lambda *_: (_ for _ in ()).throw(TransientError("not now")))
        assert shelf.apply().problems[0].what == "not now"
    (archive,) = listed(shelf)
    client = connect(shelf.settings.object_store)
    bucket, name = shelf.settings.object_store.bucket_backups, archive.objects[0].name
    body = bytearray(client.get_object(Bucket=bucket, Key=name)["Body"].read())
    body[len(body) // 2] ^= 1
    client.put_object(Bucket=bucket, Key=name, Body=bytes(body))
    client.close()
    report = shelf.apply()
    assert [problem.what for problem in report.problems] == [
        f"{name} is not the object that the manifest names"
    ]
    assert not shelf.exists(old)
    assert len(listed(shelf)) == 2


def test_what_was_detached_by_hand_or_renamed(shelf: Shelf) -> None:
    by_hand, renamed = shelf.fill(months_ago(4), 10), shelf.fill(months_ago(3), 10)
    shelf.fill(months_ago(0))
    shelf.owner.execute(f"alter table users.user_behavior detach partition {by_hand}")
    shelf.owner.execute(f"alter table {renamed} rename to autumn")
    report = shelf.apply()
    (problem,) = report.problems
    assert by_hand in problem.what
    assert "attach partition" in problem.next
    assert shelf.exists(by_hand)
    assert not shelf.exists("users.autumn")
    assert (shelf.state("users.autumn"), shelf.state(renamed)) == ("dropped", None)
    # a table that is renamed between two runs is known by its oid
    again = shelf.fill(months_ago(5), 10)
    keeping = replace(shelf, table=replace(shelf.table, at_end="keep_detached"))
    keeping.apply()
    shelf.owner.execute(f"alter table {again} rename to summer")
    shelf.apply()
    assert (shelf.exists("users.summer"), shelf.state("users.summer")) == (False, "dropped")


def test_rows_that_are_referenced_are_found_at_planning(shelf: Shelf) -> None:
    old = shelf.fill(months_ago(3), 10)
    shelf.fill(months_ago(0))
    shelf.owner.execute(
        """
        create table users.follow_up (
            id uuid, at timestamptz, foreign key (id, at) references users.user_behavior (id, created_at)
        )
        """
    )
    shelf.owner.execute(f"insert into users.follow_up select id, created_at from {old} limit 1")
    (problem,) = shelf.plan().problems
    assert "cannot be detached" in problem.what
    assert "users.follow_up" in problem.found
    assert shelf.apply().count("detach") == 0
    shelf.owner.execute("truncate users.follow_up")
    assert (shelf.apply().problems, shelf.exists(old)) == ((), False)


def test_a_default_partition_is_refused_with_the_way_out(shelf: Shelf) -> None:
    old = shelf.fill(months_ago(3), 10)
    shelf.owner.execute("create table users.rest partition of users.user_behavior default")
    report = shelf.apply()
    assert report.done == ()
    assert "adopt users.user_behavior --default" in report.problems[0].next
    assert shelf.exists(old)


def test_nothing_ends_while_a_transaction_is_old(shelf: Shelf) -> None:
    old = shelf.fill(months_ago(3), 10)
    shelf.fill(months_ago(0))
    settings = shelf.settings.partitions.model_copy(update={"oldest_transaction_seconds": 1})
    impatient = replace(shelf, settings=shelf.settings.model_copy(update={"partitions": settings}))
    with postgres.connect(shelf.settings.postgres) as reader:
        reader.execute("select 1")
        pid = reader.info.backend_pid
        until(
            lambda: (
                shelf.owner.execute(
                    "select exists (select 1 from pg_stat_activity where pid = %s"
                    " and xact_start < clock_timestamp() - interval '1.1 s')",
                    (pid,),
                ).fetchone()
                == (True,)
            ),
            "the transaction is old",
        )
        report = impatient.apply()
    assert "a transaction is old" in report.problems[0].what
    assert str(pid) in report.problems[0].found
    assert (old in shelf.names(), shelf.state(old)) == (True, "attached")


def test_a_reader_of_a_snapshot_is_waited_for(shelf: Shelf) -> None:
    old = shelf.fill(months_ago(3), 10)
    shelf.fill(months_ago(0))
    settings = shelf.settings.partitions.model_copy(update={"snapshot_wait_seconds": 0})
    impatient = replace(shelf, settings=shelf.settings.model_copy(update={"partitions": settings}))
    with locks.advisory_lock(shelf.owner, "snapshot", shared=True):
        report = impatient.apply()
    assert "the lock 'snapshot' is held" in report.problems[0].what
    assert (old in shelf.names(), shelf.state(old)) == (True, "attached")


def test_a_detach_that_cannot_end_stays_pending_and_the_next_run_ends_it(shelf: Shelf) -> None:
    old = shelf.fill(months_ago(3), 10)
    shelf.fill(months_ago(0))
    settings = shelf.settings.partitions.model_copy(update={"detach_wait_seconds": 1})
    impatient = replace(shelf, settings=shelf.settings.model_copy(update={"partitions": settings}))
    with postgres.connect(shelf.settings.postgres) as reader:
        reader.execute("set transaction isolation level repeatable read")
        reader.execute("select count(*) from users.user_behavior")
        report = impatient.apply()
        assert "stays half detached" in report.problems[0].what
        assert [p.detach_pending for p in attached(shelf.owner, shelf.table.name) if p.name == old] == [True]
        # it hinders no writer
        shelf.owner.execute("insert into users.user_behavior (action) values ('view')")
    again = shelf.apply()
    assert [each.action.action for each in again.done] == ["finalize", "archive", "drop"]
    assert (again.problems, shelf.exists(old)) == ((), False)


def test_two_runs_at_once_end_each_month_once(shelf: Shelf) -> None:
    names = [shelf.fill(months_ago(number), 10) for number in (5, 4)]
    shelf.fill(months_ago(0))
    with ThreadPoolExecutor(2) as pool:
        reports = [each.result() for each in [pool.submit(shelf.apply) for _ in range(2)]]
    assert [report.problems for report in reports] == [(), ()]
    assert sum(report.count("drop") for report in reports) == 2
    assert not any(shelf.exists(name) for name in names)
    assert len(listed(shelf)) == 2


def test_archives_are_copied_and_expire_by_their_own_time_alone(shelf: Shelf) -> None:
    shelf.fill(months_ago(5), 10)
    shelf.fill(months_ago(0))
    shelf.apply()
    (archive,) = listed(shelf)
    assert copy(shelf.settings).problems == ()
    with Opened.of(shelf.settings, new=False, bucket="copy") as second:
        assert archives.require_whole(second, archive.document, print) == archive
    # retention by age does not know it, whatever it finds
    prune(shelf.settings, execute=True, by="test")
    assert listed(shelf) == (archive,)
    longer = replace(shelf, table=replace(shelf.table, archive_retention=9))
    assert longer.apply().count("expire") == 0
    shorter = replace(shelf, table=replace(shelf.table, archive_retention=3))
    report = shorter.apply()
    assert (report.count("expire"), report.problems) == (1, ())
    assert listed(shelf) == ()
    with Opened.of(shelf.settings, new=False, bucket="copy") as second:
        assert list(second.repository.list("archives/")) == []


def test_an_expiry_is_previewed_limited_and_settled_after_a_kill(shelf: Shelf) -> None:
    old = [shelf.fill(months_ago(number), 10) for number in (6, 5)]
    shelf.fill(months_ago(0))
    shelf.apply()
    first, second = listed(shelf)
    short = replace(shelf, table=replace(shelf.table, archive_retention=3))
    assert [(a.action, a.partition, a.archive, a.case) for a in short.plan().actions] == [
        ("expire", old[0], first.document, 15),
        ("expire", old[1], second.document, 15),
    ]
    assert short.plan().actions[0].reason == f"its archive was kept until {months_ago(2)}"
    assert len(listed(shelf)) == 2

    def work() -> None:
        setattr(metadata, "expired", lambda *_: os.kill(os.getpid(), signal.SIGKILL))  # noqa: B010
        short.apply(limit=1)

    assert killed_before_line(work, [], 1)
    # the archive is gone, and what names it does so until the next run
    assert listed(shelf) == (second,)
    named = "select partition_name from system.partition_metadata where archive_object is not null order by 1"
    assert shelf.owner.execute(named).fetchall() == [(name,) for name in old]
    report = short.apply(limit=0)
    assert (report.done, report.problems, listed(shelf)) == ((), (), (second,))
    assert shelf.owner.execute(named).fetchall() == [(old[1],)]
    with Opened.of(shelf.settings, new=False) as opened:
        expiry = journal.read(opened)[-1]
    assert (expiry.body["what"], expiry.body["archive"]) == ("expire", first.document)
    assert expiry.ended is not None
    assert expiry.ended["outcome"] == "done"


def test_an_empty_database_ends_no_archive(shelf: Shelf) -> None:
    """A wrong address, or a server made anew beside the bucket of the old one."""
    shelf.fill(months_ago(6), 10)
    shelf.fill(months_ago(0))
    shelf.apply()
    shelf.owner.execute("truncate users.user_behavior")
    short = replace(shelf, table=replace(shelf.table, archive_retention=3))
    report = short.apply()
    assert [(a.action, a.case) for a in report.plan.actions] == [("keep", 9)]
    assert len(listed(shelf)) == 1


def test_a_kill_between_the_archive_and_the_drop(shelf: Shelf) -> None:
    """The archive is there, the table too: the next run drops by that archive, and writes none."""
    old = shelf.fill(months_ago(3), 10)
    shelf.fill(months_ago(0))

    def work() -> None:
        setattr(drop, "archived", lambda *_: os.kill(os.getpid(), signal.SIGKILL))  # noqa: B010
        shelf.apply()

    assert killed_before_line(work, [], 1)
    assert (shelf.exists(old), shelf.state(old)) == (True, "archived")
    (archive,) = listed(shelf)
    report = shelf.apply()
    assert [(each.action.action, each.archive) for each in report.done] == [("drop", archive.document)]
    assert (report.problems, shelf.exists(old), listed(shelf)) == ((), False, (archive,))


def test_a_kill_between_upload_and_document_leaves_no_archive_and_is_swept(shelf: Shelf) -> None:
    old = shelf.fill(months_ago(3), 10)
    shelf.fill(months_ago(0))

    def work() -> None:
        setattr(archives, "add", lambda *_: os.kill(os.getpid(), signal.SIGKILL))  # noqa: B010
        shelf.apply()

    assert killed_before_line(work, [], 1)
    assert (shelf.exists(old), shelf.state(old), listed(shelf)) == (True, "detached", ())
    report = shelf.apply()
    assert (report.problems, shelf.exists(old), len(listed(shelf))) == ((), False, 1)
    with Opened.of(shelf.settings) as opened:
        (left,) = archives.unfinished(opened.repository)
        assert archives.sweep(opened.repository, timedelta(hours=48), print, "postgres") == 0
        now = timedelta(seconds=-1)  # the store tells its time in whole seconds
        assert archives.sweep(opened.repository, now, print, "postgres") == left.bytes
        assert archives.unfinished(opened.repository) == ()
        assert len(listed(shelf)) == 1
