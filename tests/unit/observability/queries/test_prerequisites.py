from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bilten_orchestration.observability.queries.prerequisites import Facts, problems

GOOD = Facts("bilten", "bilten", "1.12", "public", "1.12", "top", True, "auto")


def test_a_server_with_everything_has_no_problem() -> None:
    assert problems(GOOD) == []


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        ({"version": None, "schema": None}, "create extension pg_stat_statements"),
        ({"version": "1.8"}, "alter extension pg_stat_statements update"),
        ({"version": None, "schema": None, "offered": None}, "install the contrib package"),
        ({"track": None}, "alter system set shared_preload_libraries"),
        ({"track": "none"}, "alter system set pg_stat_statements.track"),
        ({"reads_all": False}, "grant pg_read_all_stats to bilten"),
        ({"query_ids": "off"}, "alter system set compute_query_id"),
    ],
)
def test_each_that_is_missing_is_said_with_its_statement(change: dict[str, Any], remedy: str) -> None:
    [problem] = problems(replace(GOOD, **change))
    assert problem.next.startswith(remedy)
    assert problem.expected
    assert problem.found


def test_all_are_said_at_once() -> None:
    bare = replace(GOOD, version=None, schema=None, offered=None, track=None, reads_all=False)
    assert len(problems(bare)) == 3
