"""kill -9 at every step: no row is lost, and the next run goes on where that one ended.

After each kill the month is somewhere whole: a table with all its rows, attached, half detached or detached;
or an archive that is proven, and no table.
"""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.partitions import archives, journal
from bilten_orchestration.partitions.bounds import Period
from bilten_orchestration.partitions.postgres.catalogue import attached
from bilten_orchestration.partitions.postgres.restore import restore
from bilten_orchestration.stores import postgres
from tests.integration.partitions.conftest import Shelf, months_ago
from tests.kills import killed_at_store
from tests.waiting import until

pytestmark = pytest.mark.faults

MONTH = Period.of(months_ago(3))
NAME = f"users.user_behavior_{MONTH.suffix}"


def _free(shelf: Shelf) -> bool:
    """The server saw that the one that was killed is gone."""
    row = shelf.owner.execute(
        "select count(*) from pg_stat_activity where datname = current_database()"
        " and application_name = 'bilten partitions'"
    ).fetchone()
    return row == (0,)


def _archived(shelf: Shelf) -> list[str]:
    """Digests of the archives of the month, each of which is whole."""
    with Opened.of(shelf.settings) as opened:
        found = archives.read(opened.repository, opened.ring, "postgres")
        assert found.problems == ()
        ours = found.of(shelf.table.name, MONTH.start, MONTH.end)
        return [
            archives.require_whole(opened, each.document, lambda _: None).digest.partition(":")[2]
            for each in ours
        ]


def _open_entries(shelf: Shelf) -> int:
    with Opened.of(shelf.settings) as opened:
        return len(journal.read(opened, open_only=True))


def test_apply_is_killed_at_every_turn_to_a_store(shelf: Shelf) -> None:
    shelf.fill(months_ago(0))
    shelf.apply()  # what is ahead, and the keys
    seen: set[str | None] = set()
    number = 1
    while True:
        shelf.fill(MONTH.first, 30)
        content = shelf.content(NAME)
        assert isinstance(content, tuple)
        killed = killed_at_store(lambda: shelf.apply(), number)
        until(lambda: _free(shelf), "the killed run's lock is free")
        if shelf.exists(NAME):
            assert shelf.content(NAME) == content
            seen.add(shelf.state(NAME))
        else:
            assert content[1] in _archived(shelf)
            assert shelf.state(NAME) == "dropped"
            seen.add("dropped")
        if not killed:
            break
        report = shelf.apply()
        assert report.problems == ()
        assert (shelf.exists(NAME), shelf.state(NAME)) == (False, "dropped")
        assert content[1] in _archived(shelf)
        assert shelf.apply().done == ()
        shelf.owner.execute("delete from system.partition_metadata where state = 'dropped'")
        number += 3
    assert seen <= {"attached", "detaching", "detached", "archived", "dropped"}
    assert len(seen) >= 4
    shelf.fill(MONTH.first, 10)
    shelf.apply()
    assert _open_entries(shelf) == 0


def test_killed_between_the_two_transactions_of_a_detach(shelf: Shelf) -> None:
    shelf.fill(months_ago(0))
    shelf.fill(MONTH.first, 30)
    content = shelf.content(NAME)
    with postgres.connect(shelf.settings.postgres) as reader:
        reader.execute("set transaction isolation level repeatable read")
        reader.execute("select count(*) from users.user_behavior")
        child = os.fork()
        if child == 0:
            try:
                shelf.apply()
            finally:
                os._exit(1)
        try:
            until(
                lambda: any(p.detach_pending for p in attached(shelf.owner, shelf.table.name)),
                "the detach is pending",
            )
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        until(lambda: _free(shelf), "the killed run's lock is free")
        assert shelf.state(NAME) == "detaching"
        # nobody who writes is hindered, and the planned next step is to finish it
        shelf.owner.execute("insert into users.user_behavior (action) values ('view')")
        assert [a.action for a in shelf.plan().changes] == ["finalize", "archive", "drop"]
    report = shelf.apply()
    assert (report.problems, report.count("finalize")) == ((), 1)
    assert not shelf.exists(NAME)
    assert isinstance(content, tuple)
    assert _archived(shelf) == [content[1]]


def test_a_restore_is_killed_at_every_turn_to_a_store(shelf: Shelf) -> None:
    shelf.fill(months_ago(0))
    shelf.fill(MONTH.first, 30)
    content = shelf.content(NAME)
    shelf.apply()

    def bring_back() -> Any:
        return restore(shelf.settings, shelf.table.name, str(MONTH), tables=[shelf.table], by="test")

    number, left = 1, 0
    while killed_at_store(bring_back, number):
        until(lambda: _free(shelf), "the killed run's lock is free")
        if shelf.exists(NAME):  # whole, or not there
            assert NAME in shelf.names()
            assert shelf.content(NAME) == content
        else:
            left += shelf.exists(f"{NAME}_restoring")
            assert bring_back().way == "attached"
            assert shelf.content(NAME) == content
        assert not shelf.exists(f"{NAME}_restoring")
        shelf.owner.execute("update system.partition_metadata set hold_until = null")
        assert shelf.apply().problems == ()
        assert not shelf.exists(NAME)
        assert _open_entries(shelf) == 0
        number += 2
    assert number > 10
    assert left > 0


def test_what_a_killed_restore_left_goes_with_the_next_maintenance(shelf: Shelf) -> None:
    shelf.fill(months_ago(0))
    shelf.fill(MONTH.first, 30)
    shelf.apply()

    def bring_back() -> Any:
        return restore(shelf.settings, shelf.table.name, str(MONTH), tables=[shelf.table], by="test")

    number = 1
    while not shelf.exists(f"{NAME}_restoring"):
        assert killed_at_store(bring_back, number)
        number += 2
        until(lambda: _free(shelf), "the killed run's lock is free")
    shelf.apply()
    assert not shelf.exists(f"{NAME}_restoring")
    assert not shelf.exists(NAME)
    assert _open_entries(shelf) == 0
