"""What the checks say: a warning below two intervals ahead, a failure below one, and only of the table."""

from __future__ import annotations

from datetime import UTC, datetime

from bilten_orchestration.partitions.bounds import Period
from bilten_orchestration.partitions.declared import CLICKHOUSE, DECLARED
from bilten_orchestration.partitions.judged import judge
from bilten_orchestration.partitions.postgres.premake import premake
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres


def test_premake_warns_then_fails_and_the_rest_stands(settings: Settings) -> None:
    premake(settings)
    found = judge(settings)
    assert {table for table, _ in found} == {table.name for table in (*DECLARED, *CLICKHOUSE)}
    assert [problem for each in found.values() for problem in each.problems] == []
    here = Period.of(datetime.now(UTC))
    with postgres.connect(settings.postgres, autocommit=True) as connection:
        for number, fails in ((2, False), (1, True), (0, True)):
            for later in range(number, 5):
                name = f"users.user_behavior_{here.plus(later).suffix}"
                connection.execute(f"drop table if exists {name}")
                connection.execute("delete from system.partition_metadata where partition_name = %s", (name,))
            found = judge(settings)
            told = found["users.user_behavior", "premake"]
            assert (len(told.problems), told.fails) == (1, fails)
            assert told.numbers == {"ahead": number - 1}
            assert "bilten partitions apply" in told.problems[0].next
            others = [each.problems for key, each in found.items() if key[1] == "premake"]
            assert sum(map(len, others)) == 1
    premake(settings)
    assert judge(settings)["users.user_behavior", "premake"].problems == ()
