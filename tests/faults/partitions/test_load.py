"""200 transactions a second on the parent, while partitions are made, attached, detached, archived, dropped:
no insert fails, no row is lost, and nobody waits over 200 ms because of maintenance.

Waits are taken from pg_locks (waitstart), and only those behind a session of maintenance; a control session
that waits for no lock tells how long this machine alone keeps a statement, which is added to the limit.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from bilten_orchestration.partitions.bounds import Period
from bilten_orchestration.partitions.postgres.premake import ensure_months
from bilten_orchestration.stores import postgres
from tests.integration.partitions.conftest import Shelf, months_ago
from tests.waiting import until

pytestmark = pytest.mark.faults
WRITERS = 4
PER_SECOND = 50
LIMIT_SECONDS = 0.2

_WAITS = """
    select extract(epoch from clock_timestamp() - l.waitstart)::float8
    from pg_locks l join pg_stat_activity a on a.pid = l.pid
    where not l.granted and l.waitstart is not null and a.application_name = 'load'
      and exists (select from unnest(pg_blocking_pids(l.pid)) b join pg_stat_activity m on m.pid = b
                  where m.application_name like 'bilten partitions%')
"""


@dataclass
class Load:
    """What writers and observers saw."""

    ends: threading.Event = field(default_factory=threading.Event)
    written: list[int] = field(default_factory=lambda: [0] * WRITERS)
    failures: list[BaseException] = field(default_factory=list)
    longest_wait_seconds: float = 0.0
    slowest_control_seconds: float = 0.0
    samples: int = 0


@contextmanager
def load(shelf: Shelf) -> Iterator[Load]:
    seen = Load()

    def guarded(work: object, *arguments: object) -> None:
        try:
            work(*arguments)  # type: ignore[operator]
        except BaseException as error:  # noqa: BLE001 told by the test
            seen.failures.append(error)

    threads = [
        threading.Thread(target=guarded, args=(_write, shelf, seen, number)) for number in range(WRITERS)
    ] + [threading.Thread(target=guarded, args=(look, shelf, seen)) for look in (_watch, _control)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        seen.ends.set()
        for thread in threads:
            thread.join(timeout=60)


def _write(shelf: Shelf, seen: Load, number: int) -> None:
    with postgres.connect(shelf.settings.postgres, application_name="load", autocommit=True) as connection:
        due = time.monotonic()
        while not seen.ends.is_set():
            connection.execute("insert into users.user_behavior (action) values ('load')")
            connection.execute(
                "select count(*) from users.user_behavior where created_at > now() - interval '1 second'"
            )
            seen.written[number] += 1
            due += 1 / PER_SECOND
            seen.ends.wait(max(0.0, due - time.monotonic()))


def _watch(shelf: Shelf, seen: Load) -> None:
    with postgres.connect(shelf.settings.postgres, application_name="watch", autocommit=True) as connection:
        while not seen.ends.is_set():
            for (seconds,) in connection.execute(_WAITS).fetchall():
                seen.longest_wait_seconds = max(seen.longest_wait_seconds, seconds)
            seen.samples += 1
            seen.ends.wait(0.005)


def _control(shelf: Shelf, seen: Load) -> None:
    with postgres.connect(shelf.settings.postgres, application_name="control", autocommit=True) as connection:
        while not seen.ends.is_set():
            began = time.monotonic()
            connection.execute("select pg_backend_pid()")
            seen.slowest_control_seconds = max(seen.slowest_control_seconds, time.monotonic() - began)
            seen.ends.wait(0.005)


def test_writers_notice_nothing(shelf: Shelf) -> None:
    old = [shelf.fill(months_ago(number), 2000) for number in (6, 5, 4)]
    shelf.fill(months_ago(0))
    current = Period.of(months_ago(0))
    with load(shelf) as seen:
        until(lambda: min(seen.written) > 20 or seen.failures, "every writer writes")
        ensure_months(shelf.owner, shelf.table.name, current.first, current.plus(6).first)
        report = shelf.apply(limit=10)
        reached = sum(seen.written)
        until(lambda: sum(seen.written) > reached + 50 or seen.failures, "writers go on")
    assert seen.failures == []
    assert report.problems == ()
    assert [report.count(action) for action in ("detach", "archive", "drop")] == [3, 3, 3]
    assert not any(shelf.exists(name) for name in old)
    assert shelf.owner.execute(
        "select count(*) from users.user_behavior where action = 'load'"
    ).fetchone() == (sum(seen.written),)
    assert seen.samples > 100
    assert seen.longest_wait_seconds <= LIMIT_SECONDS + seen.slowest_control_seconds


def test_the_watch_sees_who_waits_behind_maintenance(shelf: Shelf) -> None:
    """What it is to find: a lock that is held for long."""
    shelf.fill(months_ago(0))
    with load(shelf) as seen:
        until(lambda: min(seen.written) > 5 or seen.failures, "every writer writes")
        with postgres.connect(shelf.settings.postgres, application_name="bilten partitions bad") as holder:
            holder.execute("lock table users.user_behavior in access exclusive mode")
            until(
                lambda: seen.longest_wait_seconds > 2 * LIMIT_SECONDS or seen.failures,
                "the long wait is seen",
            )
    assert seen.failures == []
    assert seen.longest_wait_seconds > 2 * LIMIT_SECONDS
