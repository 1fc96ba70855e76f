from __future__ import annotations

from dataclasses import replace

import pytest

from bilten_orchestration.partitions.declared import (
    BY_NAME,
    CLICKHOUSE,
    DECLARED,
    PartitionedTable,
    problems,
)

BASE = PartitionedTable("shop.visits", retention=3)


def test_what_is_declared() -> None:
    assert {name: (t.premake, t.retention) for name, t in BY_NAME.items()} == {
        "users.user_behavior": (4, 13),
        "events.event_analytics": (4, 25),
        "audit.audit_log": (4, 84),
        "system.slow_queries": (4, 3),
    }


def test_names_leave_room_for_the_month() -> None:
    for table in DECLARED:
        assert len(f"{table.table}_p202601") <= 63
        assert (table.schema, table.table) == tuple(table.name.split("."))


def test_the_declaration_holds() -> None:
    assert problems((*DECLARED, *CLICKHOUSE)) == []
    assert {table.name: table.retention for table in CLICKHOUSE} == {"analytics.events": 25}
    assert problems([BASE]) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"name": "visits"}, "no name of a table"),
        ({"name": "Shop.visits"}, "no name of a table"),
        ({"name": "shop." + "v" * 47}, "would be cut"),
        ({"column": "created at"}, "no name of a column"),
        ({"interval": "year"}, "unknown interval"),
        ({"at_end": "forget"}, "unknown end"),
        ({"retention": 0}, "keeps not even the current"),
        ({"premake": 0}, "premake is too small"),
        ({"archive_retention": 3}, "gone as soon as they are made"),
        ({"archive_retention": 4, "at_end": "drop"}, "without archives"),
        ({"storage": {"fillfactor = 1); drop table x; --": "1"}}, "no storage parameters"),
    ],
)
def test_one_thing_wrong_is_one_problem(change: dict[str, object], told: str) -> None:
    (problem,) = problems([replace(BASE, **change)])  # type: ignore[arg-type]
    assert told in problem.what


def test_everything_wrong_is_told_at_once() -> None:
    bad = replace(BASE, retention=0, premake=0)
    assert len(problems([bad, bad])) == 5
