"""Tables that did not change are not read again on production; one that did, however, is."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from bilten_orchestration.drills.course import Course
from bilten_orchestration.drills.postgres import tail
from bilten_orchestration.drills.report import Seen
from bilten_orchestration.errors import Mismatch
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from tests.integration.backups.wal.conftest import Source
from tests.integration.drills.postgres.conftest import drilled, proof, selling

COLD, OTHER = "public.cold", "public.colder"


def checkpoint(shop: Source) -> None:
    """Until what was written so far is summarized."""
    with postgres.connect(
        shop.server.superuser.model_copy(update={"database": shop.settings.postgres.database}),
        autocommit=True,
    ) as connection:
        connection.execute("select pg_switch_wal()")
        connection.execute("checkpoint")


def again(shop: Source, before: Course, settings: Settings | None = None) -> Course:
    """The next drill, as the door holds it."""
    course = Course()
    course.previous, course.previous_seen = before.counts, before.seen
    drilled(settings or shop.settings, "exact", course)
    assert course.ok, [each for each in course.proofs if not each.ok]
    return course


def seen(course: Course) -> Seen:
    assert course.seen is not None
    return course.seen


def was_read(course: Course, before: Course, label: str) -> bool:
    """Or else it is as old as in the drill before."""
    return seen(course).tables[label].read_at != seen(before).tables[label].read_at


def lay(shop: Source) -> None:
    """Both tables anew; what a reader would leave in their pages is there already."""
    shop.execute(f"drop table if exists {COLD}, {OTHER}")
    shop.execute("drop type if exists mood")
    shop.execute("create type mood as enum ('calm', 'loud')")
    for label in (COLD, OTHER):
        shop.execute(
            f"create table {label} as select n, md5(n::text) as words, 'calm'::mood as mood"
            " from generate_series(1, 1000) n"
        )
        shop.execute(f"vacuum (freeze, analyze) {label}")
    checkpoint(shop)


@pytest.fixture(scope="module")
def settled(shop: Source) -> Course:
    """A drill behind which nothing writes to two tables."""
    lay(shop)
    course = drilled(shop.settings, "exact")
    assert course.ok
    assert course.figures["unchanged_tables"] == 0
    assert "no drill of this way has passed" in proof(course, "digests").expected
    checkpoint(shop)
    return course


def test_what_did_not_change_is_not_read_and_a_row_behind_the_last_summary_is(
    shop: Source, settled: Course
) -> None:
    shop.execute(f"update {OTHER} set n = -n where n = 7")  # no checkpoint follows
    course = again(shop, settled)
    assert not was_read(course, settled, COLD)
    assert was_read(course, settled, OTHER)
    assert seen(course).tables[OTHER].hash != seen(settled).tables[OTHER].hash
    assert course.figures["unchanged_tables"] >= 1
    assert course.figures["unchanged_bytes"] > 0
    assert course.figures["digest_bytes"] < settled.figures["digest_bytes"]
    assert course.counts[COLD] == 1000
    assert f"{course.figures['unchanged_tables']} of them unchanged" in proof(course, "digests").expected
    assert {"point", "digests", "wal", "tail"} <= set(course.phases)


def test_what_is_taken_is_compared(shop: Source, settled: Course) -> None:
    """A digest that is not what came back: the drill is red, so it was taken, and not computed."""
    wrong = replace(seen(settled).tables[COLD], hash="1")
    lied = Course()
    lied.counts = settled.counts
    lied.seen = replace(seen(settled), tables={**seen(settled).tables, COLD: wrong})
    with pytest.raises(AssertionError, match=r"public\.cold: 1,000 rows on both sides, with other values"):
        again(shop, lied)


@pytest.mark.faults
@pytest.mark.parametrize(
    "change",
    [
        f"update {COLD} set words = words where n = 1",
        f"delete from {COLD} where n = 2",
        f"truncate {COLD}",
        f"alter table {COLD} add column more int default 7",
        f"vacuum full {COLD}",
        "alter type mood rename value 'calm' to 'quiet'",
    ],
)
@pytest.mark.parametrize("summarized", [True, False])
def test_a_change_is_read(shop: Source, settled: Course, change: str, *, summarized: bool) -> None:
    lay(shop)
    before = again(shop, settled)
    checkpoint(shop)
    shop.execute(change)
    if summarized:
        checkpoint(shop)
    assert was_read(again(shop, before), before, COLD)


@pytest.mark.faults
def test_a_change_that_was_rolled_back_and_what_is_old_or_unknown(
    shop: Source, settled: Course, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay(shop)
    before = again(shop, settled)
    checkpoint(shop)
    with postgres.connect(shop.settings.postgres) as connection:
        connection.execute(f"truncate {OTHER}".encode())
        connection.rollback()
    without = shop.settings.drills.model_copy(update={"digest_reread_days": 0})
    course = again(shop, before, shop.settings.model_copy(update={"drills": without}))
    assert was_read(course, before, COLD)
    assert course.figures["unchanged_tables"] == 0
    table = seen(before).tables[OTHER]
    old = Course()
    old.counts = before.counts
    for read_at in (table.read_at - timedelta(days=7), table.read_at + timedelta(days=1)):
        tables = {**seen(before).tables, OTHER: replace(table, read_at=read_at)}
        old.seen = replace(seen(before), tables=tables)
        course = again(shop, old)
        assert was_read(course, old, OTHER)
        assert not was_read(course, old, COLD)
    for other in (
        replace(seen(before), timeline=seen(before).timeline + 1),
        replace(seen(before), system_identifier="7"),
        replace(seen(before), types="others"),
        replace(seen(before), since="FFFF/0"),
    ):
        old.seen = other
        assert again(shop, old).figures["unchanged_tables"] == 0

    def unreadable(*_: object) -> None:
        raise Mismatch("WAL cannot be read to its end", expected="exit 0", found="exit 1", next="nothing")

    monkeypatch.setattr(tail, "_named", unreadable)
    shop.execute(f"update {OTHER} set n = n where n = 9")
    assert again(shop, before).figures["unchanged_tables"] == 0


@pytest.mark.faults
def test_while_people_buy_it_never_calls_equal_what_is_not(shop: Source, settled: Course) -> None:
    """Each drill is compared with what came back: what was taken by mistake would be another digest."""
    course = settled
    with selling(shop):
        for number in range(3):
            if number == 1:
                checkpoint(shop)
            course = again(shop, course)
    assert course.counts["payments.payments"] > settled.counts["payments.payments"]
    assert course.figures["unchanged_tables"] > 0
