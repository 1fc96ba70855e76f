"""A server under traffic whose WAL is taken, with a full backup, and a drill of it."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bilten_orchestration.backups import scratch
from bilten_orchestration.backups.postgres.base import take
from bilten_orchestration.drills.course import Course
from bilten_orchestration.drills.postgres.drill import walk
from bilten_orchestration.drills.report import Proof
from bilten_orchestration.partitions.postgres.premake import premake
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from tests import stack
from tests.conftest import Servers
from tests.integration.backups.wal.conftest import Source, _source

PLACE = "drill-test"


@pytest.fixture(scope="package")
def shop(servers: Servers) -> Iterator[Source]:
    """One for all tests of a directory, none of which needs it as the others found it."""
    with stack.stopping() as running:
        server = stack.start_postgres(servers.base, f"postgres-{next(servers.numbers)}")
        running.append(server)
        made = _source(servers, server)
        premake(made.settings)
        made.execute(_WORLD)
        sell(made.settings, 200)
        made.execute("create unlogged table scratchpad as select 1 as n")
        made.stream.start()
        take(made.settings, "full")
        made.await_reach(made.now())  # or whoever comes first finds a backup that no WAL follows
        yield made
        made.stream.kill()
        shutil.rmtree(made.base, ignore_errors=True)


def sell(settings: Settings, payments: int) -> None:
    """So many payments of one event, each with its item and its ticket."""
    with postgres.connect(settings.postgres) as connection:
        for _ in range(payments):
            connection.execute(_SALE)


@contextmanager
def selling(source: Source, *, words: bool = True) -> Iterator[None]:
    """Two people have sold, and commit all the time, one in short transactions, one in longer ones; with
    `words` they add to public.kept too."""
    done = threading.Event()
    # what follows sees at least one sale of each, however slowly they begin
    sold = {number: threading.Event() for number in (1, 5)}
    failed: list[BaseException] = []

    def run(per_transaction: int) -> None:
        try:
            with postgres.connect(source.settings.postgres, autocommit=True) as connection:
                while not done.is_set():
                    with connection.transaction():
                        for _ in range(per_transaction):
                            connection.execute(_SALE)
                            if words:
                                connection.execute("insert into kept (words) values (md5(random()::text))")
                    sold[per_transaction].set()
        except BaseException as error:  # noqa: BLE001 told below
            failed.append(error)
            sold[per_transaction].set()

    threads = [threading.Thread(target=run, args=(number,)) for number in sold]
    for thread in threads:
        thread.start()
    try:
        for first in sold.values():
            assert first.wait(60)
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert failed == []


def drilled(settings: Settings, way: str, course: Course | None = None) -> Course:
    """Walks it in a place of its own, and sees to it that nothing stays."""
    course = course or Course()
    told: list[str] = []
    with scratch.place(settings, PLACE, "drill run", told.append) as place:
        try:
            walk(settings, way, place, course, progress=told.append)
        except BaseException as error:
            error.add_note("\n".join(told))
            raise
        finally:
            # no server of the drill lives, whatever became of it
            assert not list(place.glob("*/postmaster.pid"))
    assert not place.exists()
    return course


def proof(course: Course, name: str) -> Proof:
    (found,) = [each for each in course.proofs if each.name == name]
    return found


def slots(source: Source) -> list[str]:
    return [name for (name,) in source.execute("select slot_name from pg_replication_slots order by 1")]


_WORLD = """
    with person as (
        insert into users.users (email, password_hash, first_name, last_name, role, status)
        values ('buyer@example.org', 'x', 'A', 'B', 'organizer', 'active') returning id
    ), party as (
        insert into events.events (organizer_id, title, start_date, end_date)
        select id, 'A concert', now() + interval '30 days', now() + interval '31 days' from person
        returning id
    )
    insert into tickets.ticket_types (event_id, name, price, currency, quantity)
    select id, 'Seat', 10.50, 'EUR', 1000000 from party
"""
_SALE = """
    with seat as (
        select y.id, y.event_id, e.organizer_id as buyer from tickets.ticket_types y
        join events.events e on e.id = y.event_id limit 1
    ), paid as (
        insert into payments.payments (user_id, event_id, amount, currency, payment_method, status,
            captured_at)
        select buyer, event_id, 10.50, 'EUR', 'card', 'captured', clock_timestamp() from seat returning id
    ), given as (
        insert into tickets.tickets (ticket_type_id, event_id, user_id, payment_id, ticket_number)
        select seat.id, seat.event_id, seat.buyer, paid.id, gen_random_uuid()::text from seat, paid
        returning id, payment_id
    ), item as (
        insert into payments.payment_items (payment_id, ticket_id, item_type, amount)
        select payment_id, id, 'ticket', 10.50 from given
    )
    update tickets.ticket_types y set sold = sold + 1 from seat where y.id = seat.id
"""
