"""Commits, open and prepared transactions, lock waits, deletes, moved zones, kills, in any order.

After every synchronisation that found nothing open: both sides are equal row by row, and the control
totals that ClickHouse holds for each day are those that PostgreSQL computes now over everything. The
latter fails when a batch misses a touched day.
"""

from __future__ import annotations

import os
import signal
import threading
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, Verbosity
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from bilten_orchestration.ingestion import controls
from bilten_orchestration.ingestion.sync import reconcile, sync
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse, postgres
from tests.integration.ingestion.shop import NOON, Order, Shop, owner
from tests.waiting import until

DAYS = st.integers(0, 12)
ZONES = ("UTC", "Pacific/Auckland", "America/New_York", "Asia/Kathmandu")


def _at(day: int) -> datetime:
    # late enough that a zone moves it
    return NOON + timedelta(days=day, hours=day % 12)


class Shops(RuleBasedStateMachine):
    settings: Settings

    @initialize()
    def open_shop(self) -> None:
        self.connection = owner(self.settings)
        self.shop = Shop(self.connection).open()
        self.event = self.shop.event
        self.orders: list[Order] = []
        self.free: list[UUID] = []
        self.gone: list[UUID] = []
        self.writer: Any = None
        self.prepared: list[str] = []

    # -- committed changes --------------------------------------------------------------------

    @rule(day=DAYS, tickets=st.integers(1, 3))
    def buy(self, day: int, tickets: int) -> None:
        self.orders.append(self.shop.order(_at(day), amount=str(1 + 10 * tickets), tickets=tickets))

    @rule(day=DAYS, complimentary=st.booleans())
    def give(self, day: int, complimentary: bool) -> None:
        self.free.append(self.shop.free_ticket(_at(day), complimentary=complimentary))

    @precondition(lambda self: self.orders)
    @rule(day=DAYS, data=st.data())
    def refund(self, day: int, data: st.DataObject) -> None:
        order = data.draw(st.sampled_from(self.orders))
        ticket = data.draw(st.sampled_from([None, *order.tickets]))
        at = order.at + timedelta(days=day)
        refund = self.shop.refund(order, at, amount="0.10", ticket=ticket)
        if data.draw(st.booleans()):
            self.shop.set("payments.refunds", refund, status="reversed", reversed_at=at + timedelta(days=1))

    @precondition(lambda self: self.orders)
    @rule(day=DAYS, data=st.data())
    def cancel_scan_or_hand_on(self, day: int, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from([t for order in self.orders for t in order.tickets]))
        match data.draw(st.sampled_from(["cancel", "scan", "hand on"])):
            case "cancel":
                self.shop.set("tickets.tickets", ticket, cancelled_at=_at(day))
            case "scan":
                self.shop.set("tickets.tickets", ticket, checked_in_at=_at(day))
            case _:
                self.connection.execute(
                    "insert into tickets.tickets (ticket_type_id, event_id, ticket_number, transferred_from, "
                    "purchased_at) "
                    "select ticket_type_id, event_id, %s, id, %s from tickets.tickets where id = %s on "
                    "conflict do nothing",
                    (uuid4().hex, _at(day), ticket),
                )

    @precondition(lambda self: self.orders)
    @rule(data=st.data())
    def soft_delete_or_bring_back(self, data: st.DataObject) -> None:
        self.connection.execute(
            "update payments.payments set deleted_at = case when deleted_at is null then now() end where id "
            "= %s",
            (data.draw(st.sampled_from(self.orders)).payment,),
        )

    @precondition(lambda self: self.free)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from(self.free))
        self.shop.delete("tickets.tickets", ticket)
        self.free.remove(ticket)
        self.gone.append(ticket)

    @precondition(lambda self: self.gone)
    @rule(day=DAYS)
    def insert_under_an_old_id(self, day: int) -> None:
        ticket = self.gone.pop()
        self.shop._ticket(ticket, _at(day))
        self.free.append(ticket)

    @rule(zone=st.sampled_from(ZONES))
    def move_zone(self, zone: str) -> None:
        self.shop.set("users.organizations", self.shop.organization, timezone=zone)

    @rule(without=st.booleans())
    def move_event(self, without: bool) -> None:
        self.shop.set(
            "events.events", self.event, organization_id=None if without else self.shop.organization
        )

    @rule(currency=st.sampled_from(["EUR", "USD"]))
    def change_currency_of_the_type(self, currency: str) -> None:
        # what was sold keeps its own; what is sold from then on is in the new one
        with self.shop.by_hand("tickets.ticket_types"):
            self.shop.set("tickets.ticket_types", self.shop.ticket_type, currency=currency)
        self.shop.currency = currency

    # -- open, prepared, waiting --------------------------------------------------------------

    @precondition(lambda self: self.writer is None)
    @rule(day=DAYS)
    def open_writer(self, day: int) -> None:
        self.writer = owner(self.settings)
        self.writer.execute("begin")
        self._write(self.writer, day)

    @precondition(lambda self: self.writer is not None)
    @rule(how=st.sampled_from(["commit", "rollback", "prepare"]))
    def end_writer(self, how: str) -> None:
        if how == "prepare":
            self.prepared.append(f"machine-{uuid4()}")
            self.writer.execute(f"prepare transaction '{self.prepared[-1]}'")
        else:
            self.writer.execute(how)
        self.writer.close()
        self.writer = None

    @precondition(lambda self: self.prepared)
    @rule(how=st.sampled_from(["commit", "rollback"]))
    def end_prepared(self, how: str) -> None:
        self.connection.execute(f"{how} prepared '{self.prepared.pop(0)}'")  # type: ignore[arg-type]

    @precondition(lambda self: self.orders)
    @rule(data=st.data())
    def sync_while_a_writer_waits_for_another(self, data: st.DataObject) -> None:
        payment = data.draw(st.sampled_from(self.orders)).payment
        statement = "update payments.payments set transaction_id = %s where id = %s"
        with owner(self.settings) as first, owner(self.settings) as second:
            first.execute("begin")
            first.execute(statement, (uuid4().hex, payment))
            waiting = threading.Thread(target=second.execute, args=(statement, (uuid4().hex, payment)))
            waiting.start()
            until(
                lambda: self.connection.execute(
                    "select 1 from pg_stat_activity where pid = %s and wait_event_type = 'Lock'",
                    (second.info.backend_pid,),
                ).fetchone(),
                "the second writer waits for the first",
            )
            sync(self.settings)
            first.execute("commit")
            waiting.join(timeout=30)
            assert not waiting.is_alive()

    # -- syncs --------------------------------------------------------------------------------

    @rule()
    def sync(self) -> None:
        sync(self.settings)

    @rule(words=st.integers(1, 12))
    def sync_killed(self, words: int) -> None:
        """It dies when it has said so many things; it may end before."""
        child = os.fork()
        if child == 0:
            said = 0

            def die(_: str) -> None:
                nonlocal said
                said += 1
                if said == words:
                    os.kill(os.getpid(), signal.SIGKILL)

            try:
                sync(self.settings, progress=die)
            except BaseException:  # noqa: BLE001 nothing of pytest may run in the child
                import traceback

                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0

    @rule()
    def compare(self) -> None:
        report = reconcile(self.settings)
        assert report.equal, report.sample
        # open and prepared transactions change nothing that is visible
        assert self._held() == self._computed()

    def teardown(self) -> None:
        if not hasattr(self, "connection"):
            return
        if self.writer is not None:
            self.writer.close()
        for gid in self.prepared:
            self.connection.execute(f"commit prepared '{gid}'")  # type: ignore[arg-type]
        try:
            self.compare()
        finally:
            self.connection.close()

    def _write(self, connection: Any, day: int) -> None:
        writer = Shop(connection, organization=self.shop.organization, organizer=self.shop.organizer)
        writer.buyer, writer.event, writer.ticket_type = self.shop.buyer, self.event, self.shop.ticket_type
        writer.free_ticket(_at(day))

    def _held(self) -> set[tuple[Any, ...]]:
        client = clickhouse.connect(self.settings.clickhouse)
        rows = client.query(
            "select t.metric_date, toString(t.event_id), t.currency, t.metric, toDecimalString(t.value, 3) "
            "from analytics.control_totals t final join (select metric_date, max(batch) as batch "
            "from analytics.control_days group by metric_date) d on d.metric_date = t.metric_date and "
            "d.batch = t.batch"
        ).result_rows
        client.close()
        return {tuple(row) for row in rows}

    def _computed(self) -> set[tuple[Any, ...]]:
        cells = ", ".join(f"('{metric}', {metric})" for metric in controls.METRICS)
        with postgres.connect(self.settings.postgres, "etl", autocommit=True) as connection:
            rows = connection.execute(
                "select metric_date, event_id::text, currency, metric, round(value, 3)::text "
                f"from ({controls.statement(None)}) c cross join lateral (values {cells}) v (metric, value) "
                "where value <> 0"
            )
            return {tuple(row) for row in rows}


def _run(settings: Settings, examples: int, steps: int) -> None:
    Shops.settings = settings
    run_state_machine_as_test(
        Shops,
        settings=hypothesis_settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            derandomize=examples < 10,
            suppress_health_check=list(HealthCheck),
            verbosity=Verbosity.quiet,
        ),
    )


def test_a_few_histories(settings: Settings) -> None:
    _run(settings, examples=3, steps=14)


@pytest.mark.faults
def test_many_histories(settings: Settings) -> None:
    _run(settings, examples=25, steps=40)
