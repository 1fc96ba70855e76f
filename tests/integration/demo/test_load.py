"""The load as a whole: equal for equal plans, refused where it must be, whole after a kill."""

# ruff: noqa: E501 (statements and their bounds side by side)

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from bilten_orchestration.demo import operational
from bilten_orchestration.demo.load import LoadReport, load
from bilten_orchestration.demo.parts import PARTS
from bilten_orchestration.errors import LockHeld, Mismatch, Refused, UsageError
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse, postgres
from bilten_orchestration.stores.locks import advisory_lock

SMALL = 0.02
Fresh = Callable[[], Settings]

_CATALOGUE = """
    select 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid), convalidated::text
    from pg_constraint where connamespace::regnamespace::text in ('users', 'events', 'tickets', 'payments', 'financial')
      and conparentid = 0 and conrelid::regclass::text !~ '_p20'
    union all select 'index', tablename, indexname, indexdef, '' from pg_indexes
    where schemaname in ('users', 'events', 'tickets', 'payments', 'financial') and indexname !~ '_p20'
    union all select 'trigger', tgrelid::regclass::text, tgname, pg_get_triggerdef(oid), tgenabled::text
    from pg_trigger where not tgisinternal and tgrelid::regclass::text !~ '_p20'
    order by 1, 2, 3
"""
# sync_xid is the transaction's, and rows changed after the fact carry the clock of the moment they were changed at
_VOLATILE = "'sync_xid', 'updated_at', 'valid_from', 'deleted_at', 'cancelled_at', 'bucket'"


def digests(settings: Settings) -> dict[str, tuple[int, str]]:
    """Count and content of every table that was filled, whatever the order of rows."""
    found = {}
    with postgres.connect(settings.postgres) as connection:
        for table in (*operational.FILLED, *operational.PARTITIONED):
            row = connection.execute(
                f"select count(*), sum(hashtextextended((to_jsonb(t) - array[{_VOLATILE}] - case when '{table}'"
                " = 'tickets.ticket_type_capacity_log' then array['id', 'created_at'] else '{}' end)::text, 0)::numeric)"
                f" from {table} t".encode()
            ).fetchone()
            assert row is not None
            found[table] = (row[0], str(row[1]))
    return found


def rows(settings: Settings, table: str) -> int:
    with postgres.connect(settings.postgres) as connection:
        row = connection.execute(f"select count(*) from {table}".encode()).fetchone()
    assert row is not None
    return int(row[0])


def test_equal_plans_give_equal_rows(fresh: Fresh, today: date) -> None:
    one, other = fresh(), fresh()
    first = load(one, scale=SMALL, today=today, parts=())
    second = load(other, scale=SMALL, today=today, parts=())
    assert first.digest == second.digest
    assert first.rows == second.rows
    assert digests(one) == digests(other)
    assert min(first.late_changes.values()) > 0, first.late_changes


def test_tables_are_as_they_were_before(fresh: Fresh, today: date) -> None:
    settings = fresh()
    with postgres.connect(settings.postgres, autocommit=True) as connection:
        before = connection.execute(_CATALOGUE).fetchall()
        load(settings, scale=SMALL, today=today, parts=())
        assert connection.execute(_CATALOGUE).fetchall() == before
    assert {row[0] for row in before} == {"constraint", "index", "trigger"}


def test_a_second_load_finds_everything_done(fresh: Fresh, today: date) -> None:
    settings = fresh()
    first = load(settings, scale=SMALL, today=today, parts=())
    before = digests(settings)
    second = load(settings, scale=SMALL, parts=())
    assert [phase.skipped for phase in second.phases] == [True]
    assert (second.digest, second.today) == (first.digest, today)
    assert digests(settings) == before


@pytest.mark.parametrize("other", [{"seed": 8}, {"scale": 0.03}, {"today": date(2026, 6, 29)}])
def test_another_plan_is_refused(loaded: tuple[Settings, LoadReport], other: dict[str, Any]) -> None:
    with pytest.raises(Refused, match="another demo load"):
        load(loaded[0], **{"scale": 0.1, "parts": (), **other})


def test_events_that_are_not_ours_are_left_alone(fresh: Fresh, today: date) -> None:
    settings = fresh()
    with postgres.connect(settings.postgres) as connection:
        connection.execute(
            "with u as (insert into users.users (email, password_hash) values ('a@example.org', 'x') returning id)"
            " insert into events.events (organizer_id, title, start_date, end_date)"
            " select id, 'Ours', now(), now() + interval '1 hour' from u"
        )
    with pytest.raises(Refused, match="already holds events"):
        load(settings, scale=SMALL, today=today)
    assert rows(settings, "events.events") == 1
    assert rows(settings, "pg_tables where tablename = 'demo_loads'") == 0


def test_production_is_refused(fresh: Fresh, today: date) -> None:
    settings = fresh().model_copy(update={"environment": "production"})
    with pytest.raises(Refused, match="production"):
        load(settings, scale=SMALL, today=today)
    assert rows(settings, "users.users") == 0


def test_a_database_without_a_schema_is_refused(empty_settings: Settings) -> None:
    with pytest.raises(Refused, match="no schema") as caught:
        load(empty_settings)
    assert caught.value.problems[0].next == "bilten migrate up"


@pytest.mark.parametrize(
    "wrong",
    [{"scale": 0.0}, {"scale": -1.0}, {"scale": float("nan")}, {"seed": -1}, {"parts": ("cache", "nothing")}],
)
def test_wrong_arguments_are_refused_first(fresh: Fresh, wrong: dict[str, Any]) -> None:
    settings = fresh()
    with pytest.raises(UsageError):
        load(settings, **{"scale": SMALL, **wrong})
    assert rows(settings, "users.users") == 0


def test_tomorrow_is_refused_first(fresh: Fresh) -> None:
    settings = fresh()
    with pytest.raises(UsageError):
        load(settings, scale=SMALL, today=datetime.now(UTC).date() + timedelta(days=1))
    assert rows(settings, "users.users") == 0


def test_two_loads_exclude_each_other(fresh: Fresh) -> None:
    settings = fresh()
    with (
        postgres.connect(settings.postgres, autocommit=True) as holder,
        advisory_lock(holder, "demo"),
        pytest.raises(LockHeld),
    ):
        load(settings, scale=SMALL)


def test_a_broken_rule_keeps_nothing(fresh: Fresh, today: date, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = fresh()
    change = operational.late.change

    def spoil(connection: Any) -> dict[str, int]:
        connection.execute(
            "update tickets.ticket_types set sold = sold + 1, quantity = quantity + 1"
            " where id = (select id from tickets.ticket_types order by id desc limit 1)"
        )
        return change(connection)

    monkeypatch.setattr(operational.late, "change", spoil)
    with pytest.raises(Mismatch, match="sold counts the tickets") as caught:
        load(settings, scale=SMALL, today=today, parts=())
    assert len(caught.value.problems) == 1
    assert rows(settings, "users.users") == 0
    monkeypatch.undo()
    load(settings, scale=SMALL, today=today, parts=())


def kill_at(environment: dict[str, str], today: date, word: str, scale: float, nth: int = 1) -> bool:
    """Run a load in a process of its own that is killed as its progress says `word` for the nth time, and
    does nothing more: a kill from here would come after a commit that follows."""
    child = [sys.executable, "-c", _KILLED, word, str(nth), str(scale), str(today)]
    return subprocess.run(child, env=environment, check=False).returncode == -signal.SIGKILL


_KILLED = """
import datetime, os, signal, sys
from bilten_orchestration.demo.load import load
from bilten_orchestration.settings.loading import load_settings

word, left = sys.argv[1], int(sys.argv[2])

def progress(text):
    global left
    left -= word in text
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

load(load_settings(), scale=float(sys.argv[3]), today=datetime.date.fromisoformat(sys.argv[4]), progress=progress)
"""


@pytest.mark.parametrize(
    "word", ["made", "planned", "indexes made", "foreign keys checked", "rows changed", "rules hold"]
)
def test_killed_while_operational_rows_are_loaded(
    fresh: Fresh, environment: Callable[[Settings], dict[str, str]], today: date, word: str,
    loaded_small: LoadReport,
) -> None:  # fmt: skip
    settings = fresh()
    assert kill_at(environment(settings), today, word, SMALL)
    # the server notices the broken connection within moments; until then the dead load's lock is held
    report = _again(settings, today, parts=())
    assert report.digest == loaded_small.digest
    assert report.rows == loaded_small.rows
    assert not report.phases[0].skipped, "nothing of the killed load was kept"


@pytest.fixture(scope="module")
def loaded_small(servers: Any, today: date) -> Any:
    from tests.integration.demo.conftest import database

    with database(servers) as settings:
        yield load(settings, scale=SMALL, today=today, parts=())


def _again(settings: Settings, today: date, **arguments: Any) -> LoadReport:
    import tenacity

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(LockHeld),
        wait=tenacity.wait_fixed(0.1),
        stop=tenacity.stop_after_delay(30),
    )
    return retrying(load, settings, scale=SMALL, today=today, **arguments)


def test_killed_in_a_later_part_it_goes_on_there(
    settings: Settings, environment: Callable[[Settings], dict[str, str]], today: date
) -> None:
    assert kill_at(environment(settings), today, "operational rows committed", SMALL)
    again = _again(settings, today)
    skipped = {phase.name: phase.skipped for phase in again.phases}
    assert skipped == {"operational": True, **dict.fromkeys(PARTS, False)}
    client = clickhouse.connect(settings.clickhouse)
    counted = "select count(), uniqExact(click_id) from analytics.events"
    first = client.query(counted).result_rows
    # the batch was written and its record was lost: sent again, it must not count twice
    with postgres.connect(settings.postgres) as connection:
        connection.execute("update system.demo_loads set finished = finished - 'clickstream' - 'cache'")
    load(settings, scale=SMALL, today=today)
    assert client.query(counted).result_rows == first
    assert first[0][0] > first[0][1] > 30_000
    client.close()
