"""Published marts against PostgreSQL's own totals: every published day, in one query.

Independent of the gates: these judge a build before it is published, this looks at what readers see.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import UUID

from bilten_orchestration.metrics.dirty import dirty_days
from bilten_orchestration.metrics.locks import SYNC
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse, postgres
from bilten_orchestration.stores.driver_errors import translated
from bilten_orchestration.stores.locks import advisory_lock

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

LOCK_SECONDS = 300
MART = "fct_event_sales_daily"
METRICS = (
    "gross_sales",
    "refunds",
    "refund_reversals",
    "chargebacks",
    "chargeback_reversals",
    "fees",
    "tax",
    "refunded_fees",
    "refunded_tax",
    "dispute_fees",
    "net_revenue",
    "paid_orders",
    "tickets_sold",
    "comp_tickets",
    "tickets_cancelled",
    "check_ins",
)

# A dirty day has changed since it was built: it is compared with the totals that held for its batch.
# Any other day must equal the newest totals there are, also those computed afresh by a later batch: a
# difference there is a change that the sync did not see.
_DIFFERENCES = """
    with
        published as (
            select day, batch from analytics.mart_days final where mart = {mart:String} and batch > 0
        ),
        held as (
            select control.metric_date as day, max(control.batch) as batch
            from analytics.control_days as control
            inner join published on control.metric_date = published.day
            where control.batch <= published.batch or control.metric_date not in {dirty:Array(Date32)}
            group by control.metric_date
        ),
        cells as (
            select totals.metric_date as day, totals.event_id as event_id,
                   toString(totals.currency) as currency, toString(totals.metric) as metric,
                   totals.value as expected, toDecimal128(0, 3) as found
            from (select * from analytics.control_totals final) as totals
            inner join held on totals.metric_date = held.day and totals.batch = held.batch
            where totals.metric in {metrics:Array(String)}
            union all
            select metric_date as day, event_id, toString(currency) as currency, cell.1 as metric,
                   toDecimal128(0, 3) as expected, cell.2 as found
            from marts.fct_event_sales_daily
            array join [COLUMNS] as cell
            where metric_date in (select day from held)
        )
    select day, event_id, currency, metric, sum(expected) as expected, sum(found) as found
    from cells
    group by day, event_id, currency, metric
    having expected <> found
    order by day, event_id, currency, metric
    limit {limit:UInt32}
"""


@dataclass(frozen=True, slots=True)
class Difference:
    """A published cell that is not what PostgreSQL computed in the snapshot it shows."""

    day: date
    event_id: UUID
    currency: str
    metric: str
    expected: Decimal
    found: Decimal


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """`days` were compared, of which `behind` are dirty and wait to be built again.

    `unproven` are published days without any control totals. `differences` is bounded, by `limit`.
    """

    days: int
    behind: int
    unproven: tuple[date, ...]
    differences: tuple[Difference, ...]

    @property
    def equal(self) -> bool:
        return not self.differences and not self.unproven


def reconcile(settings: Settings, *, limit: int = 1000) -> Reconciliation:
    """Compare every published day of the sales mart. Reads only, under the shared lock `sync`.

    Raises LockHeld when a batch is being applied for longer than LOCK_SECONDS.
    """
    with (
        translated("the reconciliation"),
        postgres.connect(
            settings.postgres, "etl", application_name="bilten reconciliation", autocommit=True
        ) as pg,
        advisory_lock(pg, SYNC, shared=True, wait_seconds=LOCK_SECONDS),
    ):
        behind = [found.day for found in dirty_days(pg)]
        client = clickhouse.connect(settings.clickhouse)
        try:
            return compare(client, behind, limit=limit)
        finally:
            client.close()


def compare(client: Client, dirty: Collection[date], *, limit: int) -> Reconciliation:
    published = client.query(
        """
        select published.day, published.batch, minIf(control.batch, control.batch > 0)
        from (
            select day, batch from analytics.mart_days final where mart = {mart:String} and batch > 0
        ) as published
        left join analytics.control_days as control on control.metric_date = published.day
        group by published.day, published.batch order by published.day
        """,
        {"mart": MART},
    ).result_rows
    if not published:
        return Reconciliation(0, 0, (), ())
    columns = ", ".join(f"('{metric}', toDecimal128({metric}, 3))" for metric in METRICS)
    rows = client.query(
        _DIFFERENCES.replace("COLUMNS", columns),
        {"mart": MART, "metrics": list(METRICS), "dirty": list(dirty), "limit": limit},
    ).result_rows
    return Reconciliation(
        days=len(published),
        behind=len({day for day, _, _ in published} & set(dirty)),
        unproven=tuple(day for day, batch, oldest in published if not 0 < oldest <= batch),
        differences=tuple(
            Difference(day, UUID(str(event)), currency, metric, Decimal(expected), Decimal(found))
            for day, event, currency, metric, expected, found in rows
        ),
    )
