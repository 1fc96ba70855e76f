"""Slow and failing statements, from the query log of a real server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from bilten_orchestration.observability.queries import clickhouse
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores.clickhouse import connect
from tests.waiting import until


def test_slow_and_failing_without_any_literal(settings: Settings) -> None:
    client = connect(settings.clickhouse)
    # letters alone: normalizeQuery takes a name with three digits for a generated one, and writes `?`
    mark = "mark_" + settings.postgres.database.translate(str.maketrans("0123456789", "abcdefghij"))
    for secret in ("sesame-1", "sesame-2"):
        client.query(f"select sleep(0.6), '{secret}' as {mark}")
        client.query(f"select 1, '{secret}' as quick_{mark}")
    for _ in range(3):
        with pytest.raises(DatabaseError):
            client.query(f"select toUInt8('sesame-3') as failing_{mark}")
    client.command("system flush logs")

    def ours(top: int) -> list[clickhouse.ClickHouseSlow]:
        return [
            each
            for each in clickhouse.slow(client, hours=1, milliseconds=500, top=top)
            if mark in each.query_text
        ]

    until(lambda: [each.calls for each in ours(0)] == [2], "the log is written")
    [slow] = ours(0)
    assert slow.mean_milliseconds >= 600
    assert slow.total_milliseconds >= 1200
    assert (slow.user, slow.kind) == (settings.clickhouse.user, "Select")
    assert len(ours(100_000)) == 2  # the quick one too
    failing = [
        each for each in clickhouse.failing(client, hours=1, top=1000) if f"failing_{mark}" in each.query_text
    ]
    assert [(each.times, each.error) for each in failing] == [(3, "CANNOT_PARSE_TEXT")]
    assert timedelta(0) <= datetime.now(UTC) - failing[0].last_at < timedelta(hours=1)
    assert "sesame" not in repr([*ours(100_000), *failing])
    client.close()
