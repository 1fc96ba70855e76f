"""Months of the clickstream: archived, proven, dropped, restored; late rows, kills, what hinders."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import pytest

from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.errors import Mismatch, Refused
from bilten_orchestration.partitions import archives, journal
from bilten_orchestration.partitions.bounds import Period
from bilten_orchestration.partitions.clickhouse import archive as archiving
from bilten_orchestration.partitions.clickhouse import ending, months
from bilten_orchestration.partitions.clickhouse.apply import apply, look, restore
from bilten_orchestration.partitions.declared import CLICKHOUSE
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse, postgres
from tests.kills import killed_at_store

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

TABLE = CLICKHOUSE[0]
CURRENT = Period.of(datetime.now(UTC))
OLDEST, OLD = CURRENT.plus(-26), CURRENT.plus(-25)


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
    preview = look(settings)
    assert [(a.action, a.partition) for a in preview.plan.actions] == [
        ("archive", months.name_of(TABLE, OLDEST)),
        ("drop", months.name_of(TABLE, OLDEST)),
    ]
    assert content(client, OLDEST) == before

    report = apply(settings, run="a run")
    assert [a.action for a in report.done] == ["archive", "drop"]
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
    assert [a.case for a in look(settings).plan.actions] == [10]


def test_the_limit_the_newest_and_the_old_rows(settings: Settings, client: Client) -> None:
    clicks(client, OLDEST, 20)
    assert [a.case for a in look(settings).plan.actions] == [13]
    clicks(client, OLD, 20)
    clicks(client, CURRENT, 20)
    assert [a.case for a in look(settings, limit=1).plan.actions] == [6, 6, 11]
    assert [a.case for a in look(settings, limit=2).plan.actions] == [6, 6, 6, 6]


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
    assert [a.action for a in apply(settings).done] == ["archive", "drop"]
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
    assert [a.action for a in apply(settings).done] == ["archive", "drop"]


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
    with pytest.raises(Refused, match="no archive of 2020-01"):
        restore(settings, Period.of(date(2020, 1, 1)))


def test_what_hinders_is_told(settings: Settings, client: Client) -> None:
    client.command("system stop merges analytics.events")
    try:
        for _ in range(6):
            clicks(client, CURRENT, 2)
        few = settings.partitions.model_copy(update={"parts_limit": 10})
        told = look(settings.model_copy(update={"partitions": few})).problems
        assert any("too many parts" in problem.what for problem in told)
    finally:
        client.command("system start merges analytics.events")
    client.command("alter table analytics.events modify ttl created_date + interval 9999 day")
    try:
        assert any("has a TTL" in problem.what for problem in look(settings).problems)
    finally:
        client.command("alter table analytics.events remove ttl")


def test_a_month_that_nobody_ended_is_told(settings: Settings, client: Client) -> None:
    clicks(client, CURRENT.plus(-27), 5)
    clicks(client, CURRENT, 5)
    assert any("nobody archived" in problem.what for problem in look(settings, limit=0).problems)


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
