"""Months of the clickstream: archived, proven, dropped, restored; late rows, kills, what hinders."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import pytest

from bilten_orchestration.backups.copies.copy import copy
from bilten_orchestration.backups.repository.opened import Bucket, Opened
from bilten_orchestration.backups.retention.prune import prune
from bilten_orchestration.errors import Mismatch, Refused
from bilten_orchestration.partitions import archives, journal
from bilten_orchestration.partitions.bounds import Period
from bilten_orchestration.partitions.clickhouse import archive as archiving
from bilten_orchestration.partitions.clickhouse import ending, months
from bilten_orchestration.partitions.clickhouse.apply import apply, restore
from bilten_orchestration.partitions.clickhouse.preview import preview
from bilten_orchestration.partitions.declared import CLICKHOUSE, PartitionedTable
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse, object_store, postgres
from tests.kills import killed_at_store
from tests.waiting import until

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

TABLE = CLICKHOUSE[0]
CURRENT = Period.of(datetime.now(UTC))
OLDER, OLDEST, OLD = CURRENT.plus(-27), CURRENT.plus(-26), CURRENT.plus(-25)


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    with closing(clickhouse.connect(settings.clickhouse)) as client:
        yield client


def clicks(client: Client, period: Period, rows: int = 200, seed: int = 0) -> None:
    """Over the first days of the month, one of them delivered twice."""
    client.command(
        f"""
        insert into analytics.events (click_id, event_id, session_id, visitor_id, event_type, event_name,
                                      timestamp, local_date, properties, user_agent, page_url)
        select reinterpretAsUUID(sipHash128(number, {seed}, '{period}')),
               generateUUIDv4(1), generateUUIDv4(2), generateUUIDv4(3), 'page_view',
               concat('näme ', toString(number)),
               toDateTime64('{period.first} 10:00:00', 3, 'UTC') + toIntervalMinute(number * 30),
               toDate('{period.first}'), map('device', 'mobile', 'country', 'TH'), '', 'https://x.test/'
        from numbers({rows})
        """,
        settings={"insert_deduplicate": 0},
    )
    client.command(
        f"insert into analytics.events select * from analytics.events"
        f" where toYYYYMM(created_date) = {months.partition_id(period)} limit 1",
        settings={"insert_deduplicate": 0},
    )


def content(client: Client, period: Period) -> list[tuple[object, ...]]:
    names = ", ".join(name for name, _ in months.columns(client, TABLE.name))
    rows = client.query(
        f"select {names}, created_date from analytics.events final"
        f" where toYYYYMM(created_date) = {months.partition_id(period)} order by click_id"
    ).result_rows
    return sorted(tuple(str(value) for value in row) for row in rows)


def sums(client: Client) -> list[tuple[object, ...]]:
    return list(
        client.query(
            "select toYYYYMM(minute), sum(event_count) from analytics.realtime_minutes group by 1 order by 1"
        ).result_rows
    )


def recorded(settings: Settings) -> dict[str, str]:
    with postgres.connect(settings.postgres, autocommit=True) as connection:
        return dict(
            connection.execute(
                "select partition_name, state from system.partition_metadata where table_name = %s",
                (TABLE.name,),
            ).fetchall()
        )


def ends(settings: Settings) -> list[tuple[str, str | None]]:
    """What the journal says was done, in order."""
    with Opened.of(settings) as opened:
        return [
            (each.body["what"], each.ended["outcome"] if each.ended else None)
            for each in journal.read(opened)
        ]


def test_a_month_that_is_over_is_archived_and_dropped_and_comes_back(
    settings: Settings, client: Client
) -> None:
    clicks(client, OLDEST)
    clicks(client, CURRENT, 20)
    before, realtime = content(client, OLDEST), sums(client)
    assert len(before) == 200
    found = preview(settings)
    assert [(a.action, a.partition) for a in found.plan.actions] == [
        ("archive", months.name_of(TABLE, OLDEST)),
        ("drop", months.name_of(TABLE, OLDEST)),
    ]
    assert content(client, OLDEST) == before

    report = apply(settings, run="a run")
    assert [a.action.action for a in report.done] == ["archive", "drop"]
    assert report.problems == ()
    assert content(client, OLDEST) == []
    assert [m.period for m in report.months] == [CURRENT]
    assert [month for month, _ in sums(client)] == [int(months.partition_id(CURRENT))]
    assert recorded(settings) == {
        months.name_of(TABLE, OLDEST): "dropped",
        months.name_of(TABLE, CURRENT): "attached",
    }
    with Opened.of(settings) as opened:
        (archive,) = archives.read(opened.repository, opened.ring, "clickhouse").archives
    assert (archive.rows, archive.run, len(archive.objects)) == (200, "a run", 5)
    assert apply(settings).done == ()
    assert ends(settings) == [("drop", "done")]

    assert restore(settings, OLDEST)[1] == 200
    assert content(client, OLDEST) == before
    assert sums(client) == realtime
    assert restore(settings, OLDEST)[1] == 0
    assert content(client, OLDEST) == before
    assert [a.case for a in preview(settings).plan.actions] == [10]


def test_the_limit_the_newest_and_the_old_rows(settings: Settings, client: Client) -> None:
    clicks(client, OLDEST, 20)
    assert [a.case for a in preview(settings).plan.actions] == [13]
    clicks(client, OLD, 20)
    clicks(client, CURRENT, 20)
    assert [a.case for a in preview(settings, limit=1).plan.actions] == [6, 6, 11]
    assert [a.case for a in preview(settings, limit=2).plan.actions] == [6, 6, 6, 6]


def test_late_rows_in_an_archived_month(settings: Settings, client: Client) -> None:
    clicks(client, OLDEST)
    clicks(client, CURRENT, 20)
    before = content(client, OLDEST)
    apply(settings)
    clicks(client, OLDEST, 3, seed=1)
    report = apply(settings)
    assert report.done == ()
    assert [a.case for a in report.plan.actions] == [16]
    assert any("was archived and dropped" in problem.what for problem in report.problems)
    late = content(client, OLDEST)
    assert restore(settings, OLDEST)[1] == 200
    assert content(client, OLDEST) == sorted(before + late)
    with postgres.connect(settings.postgres, autocommit=True) as connection:
        connection.execute("update system.partition_metadata set hold_until = null")
    assert [a.action.action for a in apply(settings).done] == ["archive", "drop"]
    assert restore(settings, OLDEST)[1] == 203
    assert content(client, OLDEST) == sorted(before + late)


def test_rows_that_come_before_the_drop_are_not_lost(
    settings: Settings, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    clicks(client, OLDEST)
    clicks(client, CURRENT, 20)
    real = ending.drop

    def and_one_more(*arguments: object) -> None:
        clicks(client, OLDEST, 2, seed=2)
        real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(ending, "drop", and_one_more)
    with pytest.raises(Mismatch, match="is not what was archived"):
        apply(settings)
    assert len(content(client, OLDEST)) == 202
    assert ends(settings) == [("drop", "nothing")]
    monkeypatch.undo()
    assert [a.action.action for a in apply(settings).done] == ["archive", "drop"]


def test_a_month_is_dropped_only_while_its_archive_is_whole(
    settings: Settings, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every byte of it, right before; then the next run archives anew."""
    clicks(client, OLDEST)
    clicks(client, CURRENT, 20)
    before = content(client, OLDEST)
    real = ending.drop

    def damaged(*arguments: object) -> None:
        archive = arguments[3]
        assert isinstance(archive, archives.Archive)
        store = object_store.connect(settings.object_store)
        place = {"Bucket": settings.object_store.bucket_backups, "Key": archive.objects[0].name}
        body = bytearray(store.get_object(**place)["Body"].read())
        body[len(body) // 2] ^= 1
        store.put_object(**place, Body=bytes(body))
        store.close()
        real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(ending, "drop", damaged)
    with pytest.raises(Mismatch, match="is not the object that the manifest names"):
        apply(settings)
    assert content(client, OLDEST) == before
    monkeypatch.undo()
    assert [a.action.action for a in apply(settings).done] == ["archive", "drop"]
    assert restore(settings, OLDEST)[1] == 200
    assert content(client, OLDEST) == before


def test_two_runs_at_once_end_each_month_once(settings: Settings, client: Client) -> None:
    for period in (OLDER, OLDEST):
        clicks(client, period, 20)
    clicks(client, CURRENT, 20)
    with ThreadPoolExecutor(2) as pool:
        reports = [each.result() for each in [pool.submit(apply, settings) for _ in range(2)]]
    assert [report.problems for report in reports] == [(), ()]
    assert sorted(len(report.done) for report in reports) == [0, 4]
    assert [m.period for m in reports[0].months] == [m.period for m in reports[1].months] == [CURRENT]
    assert len(documents(settings)) == 2


def test_what_is_read_back_must_be_the_month(
    settings: Settings, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    clicks(client, OLDEST)
    clicks(client, CURRENT, 20)
    before = content(client, OLDEST)
    real = archiving._written
    monkeypatch.setattr(
        archiving, "_written", lambda kind, name: "lower(event_name)" if name == "event_name" else
        "'x'" if name == "page_url" else real(kind, name),
    )  # fmt: skip
    with pytest.raises(Mismatch, match="was read back from the bucket"):
        apply(settings)
    with Opened.of(settings) as opened:
        assert archives.read(opened.repository, opened.ring, "clickhouse").archives == ()
    assert content(client, OLDEST) == before
    assert client.query("select count() from system.tables where database = 'bilten_stage'"
                        " and name like '%proof'").result_rows == [(0,)]  # fmt: skip


def test_a_month_without_archive_cannot_be_restored(settings: Settings) -> None:
    apply(settings)  # which makes the keys of a new deployment
    with pytest.raises(Refused, match="no archive of 2020-01"):
        restore(settings, Period.of(date(2020, 1, 1)))


def test_what_hinders_is_told(settings: Settings, client: Client) -> None:
    client.command("system stop merges analytics.events")
    try:
        for _ in range(6):
            clicks(client, CURRENT, 2)
        few = settings.partitions.model_copy(update={"parts_limit": 10})
        told = preview(settings.model_copy(update={"partitions": few})).problems
        assert any("too many parts" in problem.what for problem in told)
    finally:
        client.command("system start merges analytics.events")
    client.command("alter table analytics.events modify ttl created_date + interval 9999 day")
    try:
        assert any("has a TTL" in problem.what for problem in preview(settings).problems)
    finally:
        client.command("alter table analytics.events remove ttl")


def test_a_mutation_that_fails_is_told_until_it_is_killed(settings: Settings, client: Client) -> None:
    clicks(client, CURRENT, 5)
    client.command(
        "alter table analytics.events update user_agent = 'x' where throwIf(event_name != '', 'planted') = 0",
        settings={"mutations_sync": 0},
    )
    try:
        until(
            lambda: any("planted" in problem.found for problem in preview(settings).problems),
            "the mutation that fails is told",
        )
        (problem,) = preview(settings).problems
        assert "a mutation of analytics.events does not end: " in problem.what
        assert "parts to do, failing: " in problem.found
        # maintenance tells it too, and is not hindered by it
        clicks(client, OLDEST, 5)
        report = apply(settings)
        assert [a.action.action for a in report.done] == ["archive", "drop"]
        assert problem.what in [each.what for each in report.problems]
    finally:
        (statement, _, _) = problem.next.partition(", or")
        client.command(statement)
    assert preview(settings).problems == ()


def test_a_mutation_that_waits_for_long_is_told(settings: Settings, client: Client) -> None:
    clicks(client, CURRENT, 5)
    client.command("system stop merges analytics.events")
    try:
        client.command(
            "alter table analytics.events update user_agent = 'x' where 1", settings={"mutations_sync": 0}
        )
        assert preview(settings).problems == ()
        short = settings.partitions.model_copy(update={"mutation_seconds": 0})
        impatient = settings.model_copy(update={"partitions": short})
        until(lambda: preview(impatient).problems, "the mutation that waits is told")
        assert "does not end: " in preview(impatient).problems[0].what
    finally:
        client.command("system start merges analytics.events")
    until(lambda: preview(impatient).problems == (), "the mutation has ended")


def short_lived(table: PartitionedTable = TABLE) -> PartitionedTable:
    """An archive is kept for a month after its partition was over."""
    return replace(table, archive_retention=table.retention + 1)


def documents(settings: Settings, bucket: Bucket = "first") -> list[str]:
    with Opened.of(settings, new=False, bucket=bucket) as opened:
        return [
            each.document for each in archives.read(opened.repository, opened.ring, "clickhouse").archives
        ]


def test_an_archive_ends_by_its_own_retention_alone(settings: Settings, client: Client) -> None:
    """The archive of OLDER was kept until the first of this month, that of OLDEST is for a month more."""
    clicks(client, OLDER, 20)
    clicks(client, OLDEST, 20)
    clicks(client, CURRENT, 20)
    apply(settings)
    assert len(documents(settings)) == 2
    assert copy(settings).problems == ()
    # retention by age does not know it, whatever it finds
    prune(settings, execute=True, by="test")
    assert apply(settings).done == ()
    before = documents(settings)
    planned = preview(settings, short_lived()).plan.actions
    assert [(a.action, a.partition, a.case) for a in planned] == [
        ("expire", months.name_of(TABLE, OLDER), 15)
    ]
    assert planned[0].reason == f"its archive was kept until {CURRENT.first}"
    assert documents(settings) == before
    assert [a.case for a in preview(settings, short_lived(), limit=0).plan.actions] == [11]

    report = apply(settings, short_lived())

    assert [a.action.action for a in report.done] == ["expire"]
    assert (documents(settings), documents(settings, "copy")) == (before[1:], before[1:])
    with Opened.of(settings, bucket="copy") as second:
        place = before[0].rpartition("/")[0]
        assert list(second.repository.list(f"{place}/")) == []
    assert ends(settings)[-1] == ("expire", "done")
    with postgres.connect(settings.postgres, autocommit=True) as connection:
        assert connection.execute(
            "select partition_name, archive_object is null from system.partition_metadata"
            " where state = 'dropped' order by 1"
        ).fetchall() == [(months.name_of(TABLE, OLDER), True), (months.name_of(TABLE, OLDEST), False)]
    with pytest.raises(Refused, match="no archive of"):
        restore(settings, OLDER)
    # rows that come into that month cannot become whole again: only deleting them is offered
    clicks(client, OLDER, 2)
    (late,) = [each for each in preview(settings).problems if "was archived and dropped" in each.what]
    assert "restore" not in late.next
    assert "drop partition" in late.next


def test_the_archive_of_a_month_that_is_there_again_stays(settings: Settings, client: Client) -> None:
    clicks(client, OLDER, 20)
    clicks(client, CURRENT, 20)
    apply(settings)
    restore(settings, OLDER)
    assert {a.case for a in apply(settings, short_lived()).plan.actions} == {10}
    assert len(documents(settings)) == 1


@pytest.mark.faults
def test_an_expiry_is_killed_at_every_turn_to_a_store(settings: Settings, client: Client) -> None:
    """Gone from both buckets, or there whole; the next run ends it, and settles what the journal says."""
    clicks(client, OLDER, 20)
    clicks(client, CURRENT, 20)
    apply(settings)
    number, killed = 1, True
    while killed:
        copy(settings)
        killed = killed_at_store(lambda: apply(settings, short_lived()), number)
        for document in documents(settings):
            with Opened.of(settings) as opened:
                archives.require_whole(opened, document, lambda _: None)
        report = apply(settings, short_lived())
        assert report.problems == ()
        assert (documents(settings), documents(settings, "copy")) == ([], [])
        assert None not in [end for _, end in ends(settings)]
        assert ("expire", "done") in ends(settings)
        with postgres.connect(settings.postgres, autocommit=True) as connection:
            assert connection.execute(
                "select count(*) from system.partition_metadata where archive_object is not null"
            ).fetchone() == (0,)
            connection.execute("delete from system.partition_metadata where state = 'dropped'")
        clicks(client, OLDER, 20)
        apply(settings)
        number += 7
    assert number > 8


def test_a_month_that_nobody_ended_is_told(settings: Settings, client: Client) -> None:
    clicks(client, CURRENT.plus(-27), 5)
    clicks(client, CURRENT, 5)
    assert any("nobody archived" in problem.what for problem in preview(settings, limit=0).problems)


def test_a_month_that_somebody_dropped_is_told(settings: Settings, client: Client) -> None:
    clicks(client, CURRENT.plus(-3), 5)
    clicks(client, CURRENT, 5)
    apply(settings)
    gone = months.partition_id(CURRENT.plus(-3))
    client.command(f"alter table analytics.events drop partition id '{gone}'")
    for _ in range(2):
        assert any("maintenance did not drop it" in problem.what for problem in apply(settings).problems)


def _killed(settings: Settings, client: Client, turns: range) -> None:
    """Whatever is killed, the month is in its table, or archived; and the next run ends it."""
    clicks(client, CURRENT, 20)
    clicks(client, OLDEST, 60)
    before = content(client, OLDEST)
    for number in turns:
        killed = killed_at_store(lambda: apply(settings), number)
        report = apply(settings)
        assert content(client, OLDEST) == []
        assert recorded(settings)[months.name_of(TABLE, OLDEST)] == "dropped"
        assert report.problems == ()
        assert None not in [end for _, end in ends(settings)]
        assert ("drop", "done") in ends(settings)
        assert restore(settings, OLDEST)[1] == 60
        assert content(client, OLDEST) == before
        with postgres.connect(settings.postgres, autocommit=True) as connection:
            connection.execute("update system.partition_metadata set hold_until = null")
        if not killed:
            return
    assert len(turns) < 50, "it never came to its end"


def test_killed_before_it_dropped(settings: Settings, client: Client) -> None:
    _killed(settings, client, range(17, 20, 2))


@pytest.mark.faults
def test_killed_at_turns_of_every_step(settings: Settings, client: Client) -> None:
    """The steps of archive.py and ending.py, requests of the object store among them."""
    _killed(settings, client, range(1, 2000, 11))
