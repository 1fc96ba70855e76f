"""The newest chain, stopped at the exact point of a snapshot, while people buy."""

from __future__ import annotations

from typing import Any

import pytest

from bilten_orchestration.drills.course import Course
from bilten_orchestration.drills.postgres import digests, locks, point, readers, slot
from bilten_orchestration.errors import LockHeld
from bilten_orchestration.stores import postgres
from tests.integration.backups.wal.conftest import Source
from tests.integration.drills.postgres.conftest import drilled, proof, selling, slots
from tests.waiting import until


@pytest.fixture(scope="module")
def first(shop: Source) -> Course:
    """One drill under traffic, which several tests look at."""
    before = slots(shop)
    with selling(shop):
        course = drilled(shop.settings, "exact")
    assert slots(shop) == before
    return course


def test_digests_are_equal_under_traffic(first: Course) -> None:
    assert [each for each in first.proofs if not each.ok] == []
    assert first.ok
    assert first.figures["writers_locked_out_seconds"] == 0
    equal = proof(first, "digests")
    assert equal.found == "equal"
    assert "public.scratchpad" in equal.expected
    # what was proven was there at all
    assert first.counts["payments.payments"] > 200


def test_it_tells_its_phases(first: Course) -> None:
    assert list(first.phases) == [
        "point", "digests", "wal", "find", "download", "decrypt", "verify", "start", "replay", "first_query",
        "proof",
    ]  # fmt: skip
    assert first.rto_seconds is not None
    assert 0 < first.rto_seconds < sum(first.phases.values())
    assert first.reached_lsn is not None
    assert first.stored_bytes > 0
    assert first.restored_bytes > first.stored_bytes
    assert first.figures["digest_bytes_per_second"] > 0


def test_a_table_that_was_emptied_warns_and_writers_are_locked_out_where_a_transaction_stays_open(
    shop: Source, first: Course, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fall against the drill before is told though digests are equal; and the other way to a point,
    which has a name."""
    find, points = locks.find, []

    def noted(*arguments: Any) -> Any:
        points.append(find(*arguments))
        return points[-1]

    monkeypatch.setattr(locks, "find", noted)
    drills = shop.settings.drills.model_copy(update={"slot_wait_seconds": 1})
    settings = shop.settings.model_copy(update={"drills": drills})
    course = Course()
    course.previous = first.counts
    shop.execute("delete from kept")
    with (
        postgres.connect(shop.settings.postgres, "dagster") as of_another_database,
        selling(shop, words=False),
    ):
        of_another_database.execute("select pg_current_xact_id()")
        drilled(settings, "exact", course)
    assert proof(course, "digests").ok
    fall = proof(course, "no fall of rows")
    assert (fall.ok, fall.warns) == (False, True)
    assert "public.kept" in fall.found
    assert "payments" not in fall.found
    assert course.ok
    assert 0 < course.figures["writers_locked_out_seconds"] < 0.2
    ((said, _),) = points
    assert said.how == "locks"
    assert str(said.lock[1]).startswith("bilten_drill_")


@pytest.mark.faults
def test_a_machine_that_is_too_slow_for_its_locks(shop: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server ends who holds them for longer than writers are to wait, and its snapshot with it: that is
    one attempt of many."""
    see, times = readers.see, iter(range(100))

    def slow(*arguments: Any) -> None:
        if next(times) == 0:
            until(lambda: not shop.execute(_HOLDS_LOCKS), "the server to end who holds the locks")
        see(*arguments)

    monkeypatch.setattr(slot, "find", lambda *_: None)
    monkeypatch.setattr(readers, "see", slow)
    told: list[str] = []
    with point.exact(shop.settings, told.append) as found:
        assert found.point.how == "locks"
        assert str(found.point.restore_point).startswith("bilten_drill_")
    assert any(line.startswith("locks, attempt 1 of") and "snapshot" in line for line in told), told


_HOLDS_LOCKS = "select pid from pg_stat_activity where application_name = 'bilten drill lock'"


@pytest.mark.faults
def test_no_point_where_everything_is_in_the_way(shop: Source) -> None:
    drills = shop.settings.drills.model_copy(update={"slot_wait_seconds": 1, "share_lock_attempts": 2})
    settings = shop.settings.model_copy(update={"drills": drills})
    course = Course()
    with postgres.connect(shop.settings.postgres, autocommit=True) as connection:
        connection.execute(
            "begin; insert into kept (words) values ('never'); prepare transaction 'forgotten'"
        )
        try:
            with pytest.raises(LockHeld, match="prepared transaction forgotten"):
                drilled(settings, "exact", course)
        finally:
            connection.execute("rollback prepared 'forgotten'")
    assert course.failed_phase == "point"
    assert slots(shop) == ["shipped", "stream"]


def test_digests_see_one_value_and_do_not_depend_on_settings(shop: Source) -> None:
    shop.execute("create table watched (n int, at timestamptz, price numeric, took interval, raw bytea)")
    shop.execute(
        "insert into watched select n, now(), n / 3.0, '1 day 2 h', '\\x00' from generate_series(1, 9) n"
    )

    def taken(*settings: str) -> digests.Digests:
        with postgres.connect(shop.settings.postgres, autocommit=True) as connection:
            for setting in settings:
                connection.execute(setting.encode())
            digests.pin(connection)
            found = [table for table in digests.tables(connection) if table.name == "watched"]
            return digests.compute([connection], found, lambda text: None)

    first = taken()
    assert first.counts == {"public.watched": 9}
    strange = taken(
        "set TimeZone = 'Asia/Kathmandu'",
        "set DateStyle = 'German'",
        "set IntervalStyle = 'iso_8601'",
        "set bytea_output = 'escape'",
    )
    assert digests.differences(first, strange) == ()
    shop.execute("update watched set price = price + 0.000000000000001 where n = 5")
    assert digests.differences(first, taken()) == ("public.watched: 9 rows on both sides, with other values",)
    shop.execute("drop table watched")
