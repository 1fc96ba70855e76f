"""An archived month comes back: attached where it fits, beside where it does not, equal by digest."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bilten_orchestration.backups.copies.copy import copy
from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.errors import Mismatch, Refused, UsageError
from bilten_orchestration.partitions import journal
from bilten_orchestration.partitions.bounds import Period
from bilten_orchestration.partitions.postgres.restore import RestoreReport
from bilten_orchestration.partitions.postgres.restore import restore as bring_back
from bilten_orchestration.stores.object_store import connect
from tests.integration.partitions.conftest import Shelf, months_ago

MONTH = Period.of(months_ago(3))
NAME = f"users.user_behavior_{MONTH.suffix}"


@pytest.fixture
def gone(shelf: Shelf) -> tuple[Shelf, object]:
    """A month that was archived and dropped, and what it held."""
    shelf.fill(MONTH.first, 300)
    shelf.fill(months_ago(0))
    content = shelf.content(NAME)
    assert shelf.apply().count("drop") == 1
    return shelf, content


def restore(shelf: Shelf, period: str = str(MONTH), **more: Any) -> RestoreReport:
    return bring_back(shelf.settings, shelf.table.name, period, tables=[shelf.table], by="test", **more)


def test_it_comes_back_attached_like_any_other_and_is_held(gone: tuple[Shelf, object]) -> None:
    shelf, content = gone
    report = restore(shelf)
    assert (report.way, report.partition, report.reasons, report.notes) == ("attached", NAME, (), ())
    assert shelf.content(NAME) == content
    assert NAME in shelf.names()
    # as its parent says: indexes, privileges, no constraint left of the bounds
    (indexes, checks, readable) = shelf.owner.execute(
        """
        select (select count(*) from pg_index where indrelid = %(name)s::regclass),
               (select count(*) from pg_constraint where conrelid = %(name)s::regclass and contype = 'c'),
               has_table_privilege('bilten_app', %(name)s, 'select')
        """,
        {"name": NAME},
    ).fetchone() or (0, 0, False)
    assert (indexes, checks, readable) == (2, 0, True)
    assert report.hold_until is not None
    assert report.hold_until > datetime.now(UTC) + timedelta(days=29)
    (kept,) = [action for action in shelf.plan().actions if action.partition == NAME]
    assert (kept.action, kept.case) == ("keep", 10)
    with Opened.of(shelf.settings, new=False) as opened:
        entries = journal.read(opened)
    assert [(e.body["what"], e.ended and e.ended["outcome"]) for e in entries] == [
        ("drop", "done"),
        ("restore", "done"),
    ]


def test_when_the_hold_is_over_it_goes_by_the_archive_that_there_is(gone: tuple[Shelf, object]) -> None:
    shelf, _ = gone
    report = restore(shelf)
    shelf.owner.execute("update system.partition_metadata set hold_until = now() - interval '1 second'")
    again = shelf.apply()
    assert [each.action.action for each in again.done] == ["detach", "drop"]
    assert again.done[-1].archive == report.archive
    assert (shelf.exists(NAME), shelf.state(NAME)) == (False, "dropped")


def test_beside_when_it_is_asked_for(gone: tuple[Shelf, object]) -> None:
    shelf, content = gone
    report = restore(shelf, beside=True)
    assert (report.way, report.partition) == ("beside", f"{NAME}_restored")
    assert shelf.content(report.partition) == content
    row = shelf.owner.execute(
        "select has_table_privilege('bilten_app', %s, 'select')", (report.partition,)
    ).fetchone()
    assert row == (False,)
    assert shelf.plan().changes == ()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("add column tenant uuid not null", "tenant takes no NULL"),
        ("drop column resource_id", "no column resource_id"),
        ("alter column action type text", "action was character varying(100)"),
        ("add check (action <> 'view7') not valid", "user_behavior_action_check"),
    ],
)
def test_beside_where_the_table_has_changed_since(
    gone: tuple[Shelf, object], change: str, reason: str
) -> None:
    shelf, content = gone
    shelf.owner.execute("delete from users.user_behavior")
    shelf.owner.execute(f"alter table users.user_behavior {change}")
    report = restore(shelf)
    assert report.way == "beside"
    assert reason in "; ".join(report.reasons)
    assert shelf.content(report.partition) == content
    assert not shelf.exists(NAME)
    assert not shelf.exists(f"{NAME}_restoring")


def test_a_newer_column_that_takes_null_is_a_note(gone: tuple[Shelf, object]) -> None:
    shelf, _ = gone
    shelf.owner.execute("alter table users.user_behavior add column tenant uuid, add column n int default 7")
    report = restore(shelf)
    assert report.way == "attached"
    assert len(report.notes) == 2
    row = shelf.owner.execute(f"select count(*), count(tenant), sum(n) from {NAME}").fetchone()
    assert row == (300, 0, 2100)


def test_foreign_keys_are_validated_before_or_forbid_it(shelf: Shelf) -> None:
    shelf.owner.execute("create table users.actors (id uuid primary key)")
    shelf.owner.execute(
        "alter table users.user_behavior add foreign key (resource_id) references users.actors"
    )
    shelf.fill(MONTH.first, 30)
    shelf.fill(months_ago(0))
    shelf.owner.execute(
        f"""
        with new as (insert into users.actors select id from {NAME} returning id)
        update {NAME} b set resource_id = new.id from new where b.id = new.id
        """
    )
    shelf.owner.execute(f"insert into users.actors select id from {NAME} on conflict do nothing")
    shelf.owner.execute(f"update {NAME} set resource_id = id")
    content = shelf.content(NAME)
    shelf.apply()
    assert restore(shelf).way == "attached"
    assert shelf.content(NAME) == content
    shelf.owner.execute("update system.partition_metadata set hold_until = null")
    shelf.apply()
    assert not shelf.exists(NAME)
    shelf.owner.execute("delete from users.actors where id in (select id from users.actors limit 1)")
    report = restore(shelf)
    assert report.way == "beside"
    assert "user_behavior_resource_id_fkey" in report.reasons[0]
    assert shelf.content(report.partition) == content


def test_what_is_in_its_place_is_not_touched(gone: tuple[Shelf, object]) -> None:
    shelf, content = gone
    restore(shelf)
    with pytest.raises(Refused, match="is attached for these bounds"):
        restore(shelf)
    assert restore(shelf, beside=True).way == "beside"
    with pytest.raises(Refused, match="_restored exists"):
        restore(shelf, beside=True)
    assert shelf.content(NAME) == content


def test_wrong_calls_are_refused(gone: tuple[Shelf, object]) -> None:
    shelf, _ = gone
    with pytest.raises(UsageError, match="no month"):
        restore(shelf, "2026-13")
    with pytest.raises(Mismatch, match="there is no archive of"):
        restore(shelf, "2001-01")
    with pytest.raises(UsageError, match="not a declared"):
        bring_back(shelf.settings, "users.users", "2026-01", by="test")


def test_a_damaged_archive_is_refused_and_the_copy_restores(gone: tuple[Shelf, object]) -> None:
    shelf, content = gone
    assert copy(shelf.settings).problems == ()
    client = connect(shelf.settings.object_store)
    bucket = shelf.settings.object_store.bucket_backups
    (name,) = [
        each["Key"]
        for each in client.list_objects_v2(Bucket=bucket, Prefix="archives/")["Contents"]
        if each["Key"].endswith("/000000")
    ]
    body = bytearray(client.get_object(Bucket=bucket, Key=name)["Body"].read())
    body[-1] ^= 1
    client.put_object(Bucket=bucket, Key=name, Body=bytes(body))
    client.close()
    with pytest.raises(Mismatch):
        restore(shelf)
    assert not shelf.exists(NAME)
    assert not shelf.exists(f"{NAME}_restoring")
    assert restore(shelf, bucket="copy").way == "attached"
    assert shelf.content(NAME) == content


def test_weeks_and_days_come_back_too(shelf: Shelf) -> None:
    for interval in ("week", "day"):
        table = replace(shelf.table, interval=interval, retention=2)  # type: ignore[arg-type]
        one = replace(shelf, table=table)
        one.owner.execute("drop table if exists users.user_behavior cascade")
        one.owner.execute(
            "create table users.user_behavior (id uuid, action text, created_at timestamptz,"
            " primary key (id, created_at)) partition by range (created_at)"
        )
        one.owner.execute("delete from system.partition_metadata")
        here = Period.of(datetime.now(UTC), interval)  # type: ignore[arg-type]
        old = here.plus(-3)
        assert one.apply(first=old.start).count("create") == 5
        for period in (old, here):
            one.owner.execute(
                "insert into users.user_behavior values (gen_random_uuid(), 'x', %s)", (period.start,)
            )
        assert one.apply().count("drop") >= 1
        name = f"users.user_behavior_{old.suffix}"
        assert not one.exists(name)
        report = restore(one, str(old))
        assert (report.way, report.partition, report.rows) == ("attached", name, 1)
