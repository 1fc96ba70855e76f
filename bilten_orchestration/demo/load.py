"""Loads the demo data: operational rows, then clickstream, cache and files.

What a kill leaves behind
1. While the months of partitioned tables are made: some months, which the next run completes.
2. While the operational rows are loaded: nothing. Rows, late changes, validation and the record in
   system.demo_loads are one transaction, and so are the triggers switched off and on again.
3. After that: the record, with the parts still missing. The same command goes on there. Clickstream is sent
   in blocks with deduplication tokens made of the plan and the block, and a block is recorded after it was
   written: one sent again is dropped by the server. Keys and objects are written again over themselves.

A database that holds events and no such record is not ours to fill: refused before anything is touched.
The table system.demo_loads is made here and not by a migration: it exists only where demo data does.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from queue import Full, Queue
from typing import Any

import numpy as np

from bilten_orchestration.demo import late
from bilten_orchestration.demo.aftermath import aftermath, standing
from bilten_orchestration.demo.bare import bare
from bilten_orchestration.demo.background import foundation, month_numbers, surroundings
from bilten_orchestration.demo.capacity import seats
from bilten_orchestration.demo.catalogue import Catalogue, catalogue
from bilten_orchestration.demo.copying import Copier, Tuples
from bilten_orchestration.demo.people import Buyers, buyers
from bilten_orchestration.demo.plan import NONE, Ints, Plan
from bilten_orchestration.demo.rows import block_rows
from bilten_orchestration.demo.sales import Sales, sales
from bilten_orchestration.demo.validate import examine, require
from bilten_orchestration.errors import Refused, UsageError
from bilten_orchestration.partitions.bounds import Month
from bilten_orchestration.partitions.premake import ensure_months
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.locks import advisory_lock
from bilten_orchestration.stores.postgres import Connection

FILLED = (
    "users.organizations", "users.users", "events.venues", "events.events", "tickets.ticket_types",
    "tickets.ticket_type_capacity_log", "payments.payments", "tickets.tickets", "payments.payment_items",
    "payments.refunds", "payments.chargebacks", "financial.exchange_rates", "financial.payouts",
    "branding.brand_settings", "users.user_preferences", "authentication.sessions", "authentication.login_attempts",
)  # fmt: skip
PARTITIONED = ("users.user_behavior", "events.event_analytics")

_RECORD = """
    create table if not exists system.demo_loads (
        seed bigint not null, scale double precision not null, today date not null,
        operational jsonb not null, finished jsonb not null default '{}', loaded_at timestamptz not null default now()
    );
    comment on table system.demo_loads is 'The demo load that filled this database, and which of its parts are done'
"""


@dataclass(frozen=True, slots=True)
class Phase:
    """One part of a load; `skipped` when an earlier run had done it."""

    name: str
    rows: int
    seconds: float
    skipped: bool = False


@dataclass(frozen=True, slots=True)
class LoadReport:
    """`rows` per table; `digest` is sha256 over every operational row sent, equal for equal plans."""

    seed: int
    scale: float
    today: date
    digest: str
    rows: dict[str, int]
    late_changes: dict[str, int]
    rules: dict[str, int]
    phases: tuple[Phase, ...]
    seconds: float = field(compare=False, default=0.0)


def load(
    settings: Settings,
    *,
    seed: int = 7,
    scale: float = 1.0,
    today: date | None = None,
    progress: Progress = silent,
) -> LoadReport:
    """Fill an empty, migrated database, or finish a load that was killed.

    `today` is the UTC day that the data ends before; default: the current one, or that of the load to finish.
    Raises Refused (events that are not ours, another plan, production, no schema), LockHeld, Mismatch (a rule
    is broken; nothing is kept), StoreUnavailable.
    """
    started = time.monotonic()
    with closing(
        postgres.connect(settings.postgres, application_name="bilten demo load", autocommit=True)
    ) as connection:
        with advisory_lock(connection, "demo"):
            plan, earlier = _admit(settings, connection, seed, scale, today)
            if earlier is None:
                earlier = _operational(connection, plan, progress)
                fresh = True
            else:
                fresh = False
                progress(
                    f"operational rows are there: seed {plan.seed}, scale {plan.scale:g}, up to {plan.today}"
                )
            phases = [
                Phase("operational", sum(earlier["rows"].values()), earlier["seconds"], skipped=not fresh)
            ]
    return LoadReport(
        seed=plan.seed,
        scale=plan.scale,
        today=plan.today,
        digest=earlier["digest"],
        rows=earlier["rows"],
        late_changes=earlier["late_changes"],
        rules=earlier["rules"],
        phases=tuple(phases),
        seconds=time.monotonic() - started,
    )


def _admit(
    settings: Settings, connection: Connection, seed: int, scale: float, today: date | None
) -> tuple[Plan, dict[str, Any] | None]:
    """The plan to load, and the record of its operational part if that is there already."""
    if not 0 < scale <= 1000:
        raise UsageError(
            "the scale is out of bounds",
            expected="above 0, at most 1000",
            found=f"{scale:g}",
            next="--scale 1",
        )
    if seed < 0:
        raise UsageError("the seed is negative", expected="0 or more", found=str(seed), next="--seed 7")
    utc_today = datetime.now(UTC).date()
    if today is not None and today > utc_today:
        raise UsageError(
            "the demo data would lie in the future", expected=f"at most {utc_today} (UTC)", found=str(today)
        )
    row = connection.execute(
        "select to_regclass('events.events') is not null, to_regclass('system.demo_loads') is not null"
    ).fetchone()
    assert row is not None
    if not row[0]:
        raise Refused(
            "the database has no schema",
            expected="table events.events",
            found="none",
            next="bilten migrate up",
        )
    found = connection.execute(
        "select exists (select from events.events), exists (select from users.users)"
    ).fetchone()
    assert found is not None
    record = None
    if row[1] and any(found):
        record = connection.execute(
            "select seed, scale, today, operational from system.demo_loads"
        ).fetchone()
    if record is None and any(found):
        raise Refused(
            f"{settings.postgres.database} already holds {'events' if found[0] else 'users'} that no demo load wrote",
            expected="an empty, migrated database",
            found=f"rows in {'events.events' if found[0] else 'users.users'}",
            next="use another database: BILTEN_POSTGRES__DATABASE",
        )
    if settings.environment == "production" and record is None:
        raise Refused(
            "demo data does not go into production",
            expected="BILTEN_ENVIRONMENT local, test or staging",
            found="production",
            next="check which server the settings name",
        )
    if record is None:
        return Plan(seed, scale, today or utc_today), None
    if (record[0], record[1]) != (seed, scale) or today not in (None, record[2]):
        raise Refused(
            "the database holds another demo load",
            expected=f"seed {record[0]}, scale {record[1]:g}, today {record[2]}",
            found=f"seed {seed}, scale {scale:g}, today {today or record[2]}",
            next=f"bilten demo load --seed {record[0]} --scale {record[1]:g}, or an empty database",
        )
    return Plan(seed, scale, record[2]), record[3]


def _months(connection: Connection, plan: Plan, progress: Progress) -> None:
    now = max(plan.today, datetime.now(UTC).date())
    last = Month.of(now).plus(4).start.date()
    for table, first in (
        ("users.user_behavior", plan.today - timedelta(days=366)),
        ("events.event_analytics", plan.first_day),
        ("audit.audit_log", plan.today),
        ("system.slow_queries", plan.today),
    ):
        made = ensure_months(connection, table, first, last)
        if made:
            progress(f"{table}: made {len(made)} months")


def _operational(connection: Connection, plan: Plan, progress: Progress) -> dict[str, Any]:
    """Everything in PostgreSQL, in one transaction. Returns what is recorded of it."""
    started = time.monotonic()
    _months(connection, plan, progress)
    offer = catalogue(plan)
    people = buyers(plan, offer)
    progress(
        f"{len(offer.events.ids):,} events and {len(people.ids):,} buyers planned, {time.monotonic() - started:.1f} s"
    )
    with connection.transaction():
        connection.execute("set local maintenance_work_mem = '256MB'")
        connection.execute("set local synchronous_commit = on")
        copier = Copier(connection)
        with bare(connection, FILLED, progress):
            _copy(copier, _generate(plan, offer, people), progress)
        for table in PARTITIONED:
            connection.execute(f"analyze {table}".encode())
        late_changes = late.change(connection)
        connection.execute("set constraints all immediate")
        progress(f"{sum(late_changes.values())} rows changed and deleted after the fact")
        at = time.monotonic()
        verdicts = examine(connection, progress)
        require(verdicts)
        progress(f"{len(verdicts)} rules hold, {time.monotonic() - at:.1f} s")
        record = {
            "digest": copier.digest,
            "rows": copier.rows,
            "late_changes": late_changes,
            "rules": {verdict.rule: verdict.offenders for verdict in verdicts},
            "seconds": round(time.monotonic() - started, 3),
        }
        connection.execute(_RECORD)
        connection.execute("delete from system.demo_loads")
        connection.execute(
            "insert into system.demo_loads (seed, scale, today, operational) values (%s, %s, %s, %s)",
            (plan.seed, plan.scale, plan.today, json.dumps(record)),
        )
    progress(
        f"operational data committed: {sum(copier.rows.values()):,} rows, {time.monotonic() - started:.1f} s"
    )
    return record


def _generate(plan: Plan, offer: Catalogue, people: Buyers) -> Iterator[Tuples]:
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
