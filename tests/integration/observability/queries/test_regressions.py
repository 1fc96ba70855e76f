"""Two weeks compared, on totals of which the truth is known."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from bilten_orchestration.observability.queries import prerequisites, regressions
from bilten_orchestration.observability.queries.collect import collect
from bilten_orchestration.observability.queries.regressions import compare
from bilten_orchestration.observability.queries.text import EVICTED
from bilten_orchestration.settings import QuerySettings, Settings
from bilten_orchestration.stores.postgres import Connection

TODAY = date(2026, 11, 23)
QUERIES = QuerySettings()


def _day(
    owner: Connection, ago: int, query_id: int, calls: int, mean: float, database: str = "bilten"
) -> None:
    owner.execute(
        "insert into system.statement_days values (%s, %s, %s, %s, %s, 0, 0, 0, 0, 0)",
        (TODAY - timedelta(days=ago), database, query_id, calls, calls * mean),
    )


def _compare(owner: Connection, **values: Any) -> regressions.Weeks:
    return compare(owner, None, QuerySettings(**values), TODAY)


def test_what_became_slower_is_told_by_what_it_costs(owner: Connection) -> None:
    for ago in range(1, 15):
        _day(owner, ago, 1, 100, 10.0 if ago > 7 else 30.0)  # slower, 14 s more
        _day(owner, ago, 2, 1000, 10.0 if ago > 7 else 25.0)  # slower, 105 s more
        _day(owner, ago, 3, 100, 10.0)  # as ever
        _day(owner, ago, 4, 100, 30.0 if ago > 7 else 10.0)  # faster
        _day(owner, ago, 5, 100, 0.1 if ago > 7 else 0.9)  # nine times of nothing
        _day(owner, ago, 6, 7, 10.0 if ago > 7 else 90.0)  # 49 calls a week
    owner.execute(
        "insert into system.slow_queries (query_id, query_text, execution_time) values (2, 'select two', 1)"
    )
    weeks = _compare(owner)
    assert (weeks.first_day, weeks.until) == (date(2026, 11, 9), TODAY)
    assert (weeks.days_before, weeks.days_now, weeks.compared) == (7, 7, 5)
    assert [(each.query_id, each.query_text) for each in weeks.regressions] == [
        (2, "select two"),
        (1, EVICTED),
    ]
    [_, first] = weeks.regressions
    assert (first.calls_before, first.calls_now, first.mean_now_milliseconds) == (700, 700, 30.0)
    assert first.added_milliseconds == 14_000
    assert first.factor == 3
    assert len(_compare(owner, regression_calls=49).regressions) == 3
    assert len(_compare(owner, regression_factor=2.9).regressions) == 1
    assert len(_compare(owner, regression_milliseconds=0).regressions) == 3


def test_the_mean_is_of_calls_and_not_of_days(owner: Connection) -> None:
    _day(owner, 8, 1, 1000, 10.0)
    _day(owner, 7, 1, 990, 10.0)
    _day(owner, 6, 1, 10, 1000.0)  # one bad hour among a thousand calls: 19.9 ms
    [found] = _compare(owner).regressions
    assert found.mean_now_milliseconds == (990 * 10 + 10 * 1000) / 1000


def test_bounds_of_the_weeks(owner: Connection) -> None:
    _day(owner, 0, 1, 100, 900.0)  # today is not over
    _day(owner, 7, 1, 100, 10.0)
    _day(owner, 8, 1, 100, 10.0)
    _day(owner, 15, 1, 100, 1.0)  # before both
    weeks = _compare(owner)
    assert (weeks.compared, weeks.regressions) == (1, ())


def test_databases_are_not_mixed(owner: Connection) -> None:
    _day(owner, 8, 1, 100, 10.0, "one")
    _day(owner, 1, 1, 100, 90.0, "two")
    assert _compare(owner).compared == 0


def test_the_text_of_a_statement_that_was_never_slow_is_asked_of_the_server(
    database: Settings, owner: Connection
) -> None:
    none = database.model_copy(
        update={"queries": QuerySettings(top_statements=0, slow_milliseconds=3_600_000)}
    )
    collect(none)
    for number in range(3):
        owner.execute(f"select beat from system.heartbeats where source = 'text{number}'")
    collect(none)
    # those of today are moved to last week, and were faster the week before
    owner.execute(
        "insert into system.statement_days select day - 8, database_name, query_id, calls, 0, 0, 0, 0, 0, 0"
        " from system.statement_days"
    )
    owner.execute(
        "update system.statement_days set day = day - 1, total_milliseconds = total_milliseconds + 900"
        " where day = (select max(day) from system.statement_days)"
    )
    queries = QuerySettings(regression_calls=3, regression_milliseconds=0)
    today = owner.execute("select current_date").fetchone()
    assert today is not None
    found = compare(owner, prerequisites.read(owner), queries, today[0])
    texts = {each.query_text for each in found.regressions}
    assert "select beat from system.heartbeats where source = $1" in texts
    assert found.regressions[0].factor == float("inf")
