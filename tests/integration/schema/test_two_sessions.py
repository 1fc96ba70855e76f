"""What two sessions could break together, each alone in the right: one waits for the other, is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from uuid import UUID

import psycopg
import pytest

from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.postgres import Connection
from tests.integration.schema import rows
from tests.waiting import until

Change = Callable[[Connection, UUID], object]


@pytest.fixture
def sessions(settings: Settings) -> Iterator[tuple[Connection, Connection]]:
    with postgres.connect(settings.postgres) as first, postgres.connect(settings.postgres) as second:
        yield first, second
        first.rollback()


def isolated(connection: Connection, level: str) -> None:
    """Begin, with the snapshot taken where the level keeps one."""
    connection.execute(f"set transaction isolation level {level}")
    connection.execute("select from payments.payments limit 1")


def waits(settings: Settings, connection: Connection, running: Future[object]) -> None:
    with postgres.connect(settings.postgres, autocommit=True) as watcher:
        until(
            lambda: (
                running.done()
                or watcher.execute(
                    "select 1 where cardinality(pg_blocking_pids(%s)) > 0", (connection.info.backend_pid,)
                ).fetchone()
            ),
            "the second session waits for the first",
        )
    assert not running.done(), "the second session did not wait"


def refund(connection: Connection, payment: UUID) -> None:
    rows.refund(connection, payment_id=payment, amount="60.00")


def chargeback(connection: Connection, payment: UUID) -> None:
    rows.chargeback(connection, payment_id=payment, amount="60.00")


def lowered(connection: Connection, payment: UUID) -> None:
    connection.execute("update payments.payments set amount = 50 where id = %s", (payment,))
    connection.execute("update payments.payment_items set amount = 50 where payment_id = %s", (payment,))


@pytest.mark.parametrize("level", ["read committed", "repeatable read", "serializable"])
@pytest.mark.parametrize(
    ("one", "other", "rule"),
    [
        (refund, refund, "payments_refunds_within"),
        (chargeback, chargeback, "payments_chargebacks_within"),
        (lowered, refund, "payments_refunds_within"),
    ],
    ids=["two refunds", "two chargebacks", "a refund of what is lowered"],
)
def test_a_payment_is_judged_by_one_session_at_a_time(
    settings: Settings,
    sessions: tuple[Connection, Connection],
    level: str,
    one: Change,
    other: Change,
    rule: str,
) -> None:
    first, second = sessions
    payment = rows.payment(first)
    first.commit()
    for connection, change in ((first, one), (second, other)):
        isolated(connection, level)
        change(connection, payment)
    first.execute("set constraints all immediate")  # as at its commit, which is still to come
    with ThreadPoolExecutor(1) as pool:
        committing: Future[object] = pool.submit(second.commit)
        waits(settings, second, committing)
        first.commit()
        with pytest.raises((psycopg.errors.CheckViolation, psycopg.errors.SerializationFailure)) as refused:
            committing.result(60)
    if level == "read committed":
        assert refused.value.diag.constraint_name == rule
    else:
        assert isinstance(refused.value, psycopg.errors.SerializationFailure)  # tried again, it is refused
        second.rollback()
        other(second, payment)
        with pytest.raises(psycopg.errors.CheckViolation):
            second.commit()


def test_the_second_passes_where_the_first_gave_up(
    settings: Settings, sessions: tuple[Connection, Connection]
) -> None:
    first, second = sessions
    payment = rows.payment(first)
    first.commit()
    refund(first, payment)
    refund(second, payment)
    first.execute("set constraints all immediate")
    with ThreadPoolExecutor(1) as pool:
        committing: Future[object] = pool.submit(second.commit)
        waits(settings, second, committing)
        first.rollback()
        committing.result(60)


@pytest.mark.parametrize(
    "sale_first", [True, False], ids=["sold, then another currency", "and the other way"]
)
def test_a_sale_and_a_change_of_currency(
    settings: Settings, sessions: tuple[Connection, Connection], sale_first: bool
) -> None:
    first, second = sessions
    payment = rows.payment(first)
    event = first.execute("select event_id from payments.payments where id = %s", (payment,)).fetchone()
    assert event is not None
    kind = rows.ticket_type(first, event_id=event[0])
    first.commit()

    def sell(connection: Connection) -> object:
        return rows.ticket(connection, ticket_type_id=kind, payment_id=payment)

    def change(connection: Connection) -> object:
        return connection.execute("update tickets.ticket_types set currency = 'USD' where id = %s", (kind,))

    ours, theirs = (sell, change) if sale_first else (change, sell)
    ours(first)
    with ThreadPoolExecutor(1) as pool:
        running: Future[object] = pool.submit(theirs, second)
        waits(settings, second, running)
        first.commit()
        with pytest.raises(psycopg.errors.IntegrityError) as refused:
            running.result(60)
    assert refused.value.diag.constraint_name == (
        "ticket_types_currency_of_payments" if sale_first else "tickets_payment_in_currency"
    )
