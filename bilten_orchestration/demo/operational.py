"""The operational part of a demo load: everything in PostgreSQL, in one transaction.

Generated in one thread and copied from another, at most a few batches ahead, so memory does not grow with
the scale. A kill anywhere leaves no row; months of partitioned tables that were made stay, empty.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from queue import Full, Queue

import numpy as np

from bilten_orchestration.demo import late, objects, record
from bilten_orchestration.demo.aftermath import aftermath, standing
from bilten_orchestration.demo.background import foundation, month_numbers, surroundings
from bilten_orchestration.demo.bare import bare
from bilten_orchestration.demo.capacity import seats
from bilten_orchestration.demo.catalogue import Catalogue
from bilten_orchestration.demo.copying import Copier, Tuples
from bilten_orchestration.demo.people import Buyers
from bilten_orchestration.demo.plan import NONE, Ints, Plan
from bilten_orchestration.demo.rows import block_rows
from bilten_orchestration.demo.sales import Sales, sales
from bilten_orchestration.demo.validate import examine, require
from bilten_orchestration.partitions.bounds import Period
from bilten_orchestration.partitions.postgres.premake import ensure_months
from bilten_orchestration.progress import Progress
from bilten_orchestration.stores.postgres import Connection

FILLED = (
    "users.organizations", "users.users", "events.venues", "events.events", "tickets.ticket_types",
    "tickets.ticket_type_capacity_log", "payments.payments", "tickets.tickets", "payments.payment_items",
    "payments.refunds", "payments.chargebacks", "financial.exchange_rates", "financial.payouts",
    "branding.brand_settings", "users.user_preferences", "authentication.sessions",
    "authentication.login_attempts", "assets.files",
)  # fmt: skip
PARTITIONED = ("users.user_behavior", "events.event_analytics")


def _months(connection: Connection, plan: Plan, progress: Progress) -> None:
    now = max(plan.today, datetime.now(UTC).date())
    last = Period.of(now).plus(4).start.date()
    for table, first in (
        ("users.user_behavior", plan.today - timedelta(days=366)),
        ("events.event_analytics", plan.first_day),
        ("audit.audit_log", plan.today),
        ("system.slow_queries", plan.today),
    ):
        made = ensure_months(connection, table, first, last)
        if made:
            progress(f"{table}: made {len(made)} months")


def fill(
    connection: Connection, plan: Plan, offer: Catalogue, people: Buyers, bucket: str, progress: Progress
) -> record.Operational:
    """Load, change some rows after the fact, check every rule, record it; commit or leave nothing.

    `connection` is the owner's, in autocommit; `bucket` is where assets.files says the objects lie.
    Raises Mismatch when a rule is broken.
    """
    started = time.monotonic()
    _months(connection, plan, progress)
    with connection.transaction():
        connection.execute("set local maintenance_work_mem = '256MB'")
        connection.execute("set local synchronous_commit = on")
        copier = Copier(connection)
        with bare(connection, FILLED, progress):
            _copy(copier, generate(plan, offer, people), progress)
            copier.send(objects.file_rows(plan, offer, bucket), digested=False)
        for table in PARTITIONED:
            connection.execute(f"analyze {table}".encode())
        late_changes = late.change(connection)
        connection.execute("set constraints all immediate")
        progress(f"{sum(late_changes.values())} rows changed and deleted after the fact")
        at = time.monotonic()
        verdicts = examine(connection, progress)
        require(verdicts)
        progress(f"{len(verdicts)} rules hold, {time.monotonic() - at:.1f} s")
        done = record.Operational(
            digest=copier.digest,
            rows=dict(sorted(copier.rows.items())),
            late_changes=late_changes,
            rules={verdict.rule: verdict.offenders for verdict in verdicts},
            seconds=round(time.monotonic() - started, 3),
        )
        record.begin(connection, plan, done)
    progress(f"operational rows committed: {sum(done.rows.values()):,}, {time.monotonic() - started:.1f} s")
    return done


def generate(plan: Plan, offer: Catalogue, people: Buyers) -> Iterator[Tuples]:
    """Every row of the operational part, in the order that foreign keys ask for."""
    yield from foundation(plan, offer, people)
    months = int(month_numbers(plan, np.array([plan.cutoff]))[0]) + 1
    revenue = np.zeros((plan.organizations, months), dtype=np.int64)
    for block, (low, high) in enumerate(plan.blocks):
        sold = sales(plan, offer, people, block, low, high)
        refunds, chargebacks = aftermath(plan, offer, people, sold)
        _add_revenue(plan, offer, sold, standing(sold, refunds), revenue)
        yield from block_rows(
            plan, offer, people, sold, seats(plan, offer, sold, low, high), refunds, chargebacks, low, high
        )
    yield from surroundings(plan, offer, people, revenue)


def _add_revenue(plan: Plan, offer: Catalogue, sold: Sales, refunded: Ints, revenue: Ints) -> None:
    payments, events = sold.payments, offer.events
    organization = events.organization[payments.event]
    own = offer.organizations.currency[np.maximum(organization, 0)] == events.currency[payments.event]
    rows = (organization >= 0) & own & (payments.captured != NONE) & (payments.deleted == NONE)
    kept = payments.amount - payments.fee - refunded
    np.add.at(revenue, (organization[rows], month_numbers(plan, payments.captured[rows])), kept[rows])


def _copy(copier: Copier, batches: Iterator[Tuples], progress: Progress) -> None:
    """Send what another thread generates, at most a few batches ahead of the server."""
    queue: Queue[Tuples | BaseException | None] = Queue(maxsize=6)
    stop = threading.Event()

    def put(item: Tuples | BaseException | None) -> None:
        while not stop.is_set():
            try:
                return queue.put(item, timeout=0.5)
            except Full:
                continue

    def produce() -> None:
        try:
            for batch in batches:
                put(batch)
                if stop.is_set():
                    return
            put(None)
        except BaseException as error:  # noqa: BLE001 (raised again by the consumer)
            put(error)

    producer = threading.Thread(target=produce, name="demo generator", daemon=True)
    producer.start()
    told, started = time.monotonic(), time.monotonic()
    try:
        while (batch := queue.get()) is not None:
            if isinstance(batch, BaseException):
                raise batch
            copier.send(batch)
            if time.monotonic() - told > 2:
                told = time.monotonic()
                total = sum(copier.rows.values())
                progress(
                    f"{total:,} rows, {copier.bytes >> 20:,} MiB, {told - started:.0f} s ({batch.table})"
                )
    finally:
        stop.set()
        producer.join()
