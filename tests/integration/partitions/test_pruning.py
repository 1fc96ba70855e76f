"""Every common query touches only the months that it asks for, and one that lost it is told."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime

import pytest

from bilten_orchestration.partitions.declared import CLICKHOUSE, DECLARED
from bilten_orchestration.partitions.pruning import PATTERNS, QueryPattern, judge
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse


def test_every_table_has_a_pattern() -> None:
    assert {each.table for each in PATTERNS} == {table.name for table in (*DECLARED, *CLICKHOUSE)}


def test_the_common_queries_touch_their_month_alone(settings: Settings) -> None:
    with closing(clickhouse.connect(settings.clickhouse)) as client:
        _clicks(client)
    found = judge(settings)
    assert [each.problem for each in found if each.problem] == []
    for each in found:
        assert 0 < each.scanned <= each.expected < each.all, each


LOST = {
    "a cast": QueryPattern(
        "by day",
        "users.user_behavior",
        "",
        "select count(*) from users.user_behavior where created_at::date = ({low}::timestamptz)::date",
    ),
    "a function": QueryPattern(
        "by month",
        "audit.audit_log",
        "",
        "select count(*) from audit.audit_log where date_trunc('month', created_at) = {low}",
    ),
    "another column": QueryPattern(
        "by sampling time",
        "system.slow_queries",
        "",
        'select count(*) from system.slow_queries where "timestamp" >= {low}',
    ),
    "another column of ClickHouse": QueryPattern(
        "by local day",
        "analytics.events",
        "",
        "select uniq(click_id) from analytics.events where local_date = '2026-01-05'",
    ),
    "a function in ClickHouse": QueryPattern(
        "as text",
        "analytics.events",
        "",
        "select uniq(click_id) from analytics.events where toString(created_date) like '2026-%'",
    ),
}


@pytest.mark.parametrize("way", LOST)
def test_a_query_that_lost_it_is_told(settings: Settings, way: str) -> None:
    with closing(clickhouse.connect(settings.clickhouse)) as client:
        _clicks(client)
    (found,) = judge(settings, [LOST[way]])
    assert found.problem is not None
    assert found.scanned == found.all > found.expected
    assert "reads periods that it does not ask for" in found.problem.what


def test_in_the_future_nothing_is_there(settings: Settings) -> None:
    found = judge(settings, store="postgres", now=datetime(2031, 1, 1, tzinfo=UTC))
    assert [each.problem for each in found if each.problem] == []


def _clicks(client: object) -> None:
    client.command(  # type: ignore[attr-defined]
        """
        insert into analytics.events (click_id, session_id, visitor_id, event_type, event_name, timestamp,
                                      local_date)
        select generateUUIDv4(), generateUUIDv4(1), generateUUIDv4(2), 'click', 'x',
               toDateTime64('2026-01-01 00:00:00', 3, 'UTC') + toIntervalMonth(number % 6),
               toDate('2026-01-05')
        from numbers(60)
        """
    )
