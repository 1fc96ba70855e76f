"""Explains one cell of the marts: the postings and the PostgreSQL rows that make it up, added up.

Reads only. PostgreSQL is read as it is now, the mart shows the batch it was built from: a difference
after a change of today says that the day is dirty, not that a number is wrong; `problems` tell which.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Final
from uuid import UUID

from bilten_orchestration.errors import Problem, UsageError
from bilten_orchestration.metrics import verdicts
from bilten_orchestration.metrics.explain_sql import (
    HELD,
    HELD_CLICKS,
    METRICS,
    NO_CURRENCY,
    POSTED,
    POSTED_CLICKS,
    STATES,
    WITHOUT_CURRENCY,
    Metric,
)
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse, postgres

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client


SHOWN: Final = 1000
# of uniqCombined64(17), as the gates take it (dbt_project/macros/generic_tests/audience.sql)
EXACT_IDS: Final = 4000
STATE_ERROR: Final = Decimal("0.02")


@dataclass(frozen=True, slots=True)
class Cell:
    """What the mart shows: `value` is 0 where it has no row; no `batch` where it was never built."""

    mart: str
    day: date
    event_id: UUID
    metric: str
    currency: str
    value: Decimal
    batch: int | None
    as_of: datetime | None
    verdict: str | None


@dataclass(frozen=True, slots=True)
class Fact:
    """One posting or one row of PostgreSQL, with what it adds to the cell. `at` in UTC."""

    kind: str
    table: str
    id: str
    at: datetime
    currency: str
    value: Decimal


@dataclass(frozen=True, slots=True)
class Explanation:
    """`sum` is that of all rows, of which `rows` shows the first; `equal` when the cell, its postings and its
    rows agree to the last digit (a state of more ids than it holds exactly: within its error).
    """

    cell: Cell
    postings: tuple[Fact, ...]
    rows: tuple[Fact, ...]
    postings_sum: Decimal
    sum: Decimal
    equal: bool
    postings_count: int = 0
    rows_count: int = 0

    @property
    def problems(self) -> list[Problem]:
        if self.equal:
            return []
        cell = self.cell
        if cell.batch is None:
            why = f"{cell.day} has not been built: bilten metrics build --from {cell.day} --to {cell.day}"
        elif self.postings_sum != self.sum:
            why = "ClickHouse is behind PostgreSQL: bilten sync, then build the day again"
        else:
            why = f"the day is behind its postings: bilten metrics build --from {cell.day} --to {cell.day}"
        held = "the clickstream" if METRICS[cell.metric].source in HELD_CLICKS else "PostgreSQL"
        return [
            Problem(
                f"{cell.metric} of event {cell.event_id} on {cell.day} does not add up",
                expected=f"{self.sum:f} {cell.currency} (rows of {held})",
                found=f"{cell.value:f} in the mart, {self.postings_sum:f} in its postings",
                next=why,
            )
        ]


def explain(
    settings: Settings,
    day: date,
    event: UUID,
    metric: str,
    *,
    currency: str | None = None,
    limit: int = SHOWN,
) -> Explanation:
    """One cell, with at most `limit` of its postings and of its rows; all are added up.

    Raises UsageError for an unknown metric or event, or for several currencies and none chosen.
    """
    definition = METRICS.get(metric)
    if definition is None:
        raise UsageError(
            f"{metric} cannot be explained",
            expected=", ".join(METRICS),
            found=metric,
            next="bilten explain --help",
        )
    client = clickhouse.connect(settings.clickhouse)
    try:
        cells = _cells(client, definition, day, event, metric)
        postings = _postings(client, definition, day, event)
        clicks = _clicks(client, definition, day, event)
        built = verdicts.mart_days(client, [definition.mart], days=[day])
    finally:
        client.close()
    rows = clicks if clicks is not None else _rows(settings, definition, day, event)
    if metric in WITHOUT_CURRENCY:
        currency = NO_CURRENCY
    chosen = _currency(currency, set(cells) | {fact.currency for fact in (*postings, *rows)}, settings, event)
    postings = [fact for fact in postings if fact.currency == chosen]
    rows = [fact for fact in rows if fact.currency == chosen]
    state = built[0] if built and built[0].batch else None
    cell = Cell(
        mart=definition.mart,
        day=day,
        event_id=event,
        metric=metric,
        currency=chosen,
        value=cells.get(chosen, Decimal(0)),
        batch=state.batch if state else None,
        as_of=state.as_of if state else None,
        verdict=state.verdict if state else None,
    )
    posted = sum((fact.value for fact in postings), Decimal(0))
    held = sum((fact.value for fact in rows), Decimal(0))
    return Explanation(
        cell,
        tuple(postings[:limit]),
        tuple(rows[:limit]),
        posted,
        held,
        equal=state is not None and posted == held and _agree(metric, cell.value, held),
        postings_count=len(postings),
        rows_count=len(rows),
    )


def _cells(client: Client, definition: Metric, day: date, event: UUID, metric: str) -> dict[str, Decimal]:
    column = definition.column or metric
    value = f"finalizeAggregation({column})" if metric in STATES else column
    money = "toString(currency)" if metric not in WITHOUT_CURRENCY else f"'{NO_CURRENCY}'"
    # rows that carry no money beside others that do
    only = f" and currency != '{NO_CURRENCY}'" if metric not in WITHOUT_CURRENCY else ""
    rows = client.query(
        f"select {money} as money, toDecimal128(sum({value}), 3) from marts.{definition.mart}"
        f" where metric_date = {{day:Date32}} and event_id = {{event:UUID}}{only} group by money",
        {"day": day, "event": event},
    ).result_rows
    return {str(currency): Decimal(value) for currency, value in rows}


def _agree(metric: str, shown: Decimal, held: Decimal) -> bool:
    if metric in STATES and held > EXACT_IDS:
        return abs(shown - held) <= held * STATE_ERROR
    return shown == held


def _clicks(client: Client, definition: Metric, day: date, event: UUID) -> list[Fact] | None:
    """The rows of a metric that counts clicks; None of any other."""
    if definition.source not in HELD_CLICKS:
        return None
    rows = client.query(
        HELD_CLICKS[definition.source], {"day": day, "event": event, "kinds": list(definition.kinds)}
    ).result_rows
    return [
        Fact(kind, "analytics.events", row_id, at.replace(tzinfo=UTC), currency, Decimal(value))
        for kind, row_id, _, at, currency, value in rows
    ]


def _postings(client: Client, definition: Metric, day: date, event: UUID) -> list[Fact]:
    rows = client.query(
        POSTED_CLICKS[definition.source]
        if definition.source in POSTED_CLICKS
        else POSTED[definition.source].format(value=definition.posted),
        {"day": day, "event": event, "kinds": list(definition.kinds)},
    ).result_rows
    return [
        Fact(kind, definition.source, row_id, at.replace(tzinfo=UTC), currency, Decimal(value))
        for kind, row_id, _, at, currency, value in rows
    ]


def _rows(settings: Settings, definition: Metric, day: date, event: UUID) -> list[Fact]:
    statement = HELD[definition.source].replace("{value}", definition.held)
    parameters = {"day": day, "event": event, "kinds": list(definition.kinds)}
    with postgres.connect(
        settings.postgres, "etl", application_name="bilten explain", autocommit=True
    ) as connection:
        found = connection.execute(statement, parameters).fetchall()
    return [
        Fact(kind, table, row_id, at.astimezone(UTC), currency, Decimal(value))
        for kind, table, row_id, at, currency, value in found
    ]


def _currency(given: str | None, found: Sequence[str] | set[str], settings: Settings, event: UUID) -> str:
    if given is not None:
        return given.upper()
    if len(found) > 1:
        raise UsageError(
            "the event has several currencies on that day, and they are never added",
            expected="one of " + ", ".join(sorted(found)),
            found="none chosen",
            next=f"--currency {sorted(found)[0]}",
        )
    if found:
        return next(iter(found))
    with postgres.connect(
        settings.postgres, "etl", application_name="bilten explain", autocommit=True
    ) as connection:
        row = connection.execute(
            """
            select coalesce(
                (select min(currency)::text from tickets.ticket_types where event_id = e.id),
                o.default_currency::text, 'USD')
            from events.events e left join users.organizations o on o.id = e.organization_id where e.id = %s
            """,
            (event,),
        ).fetchone()
    if row is None:
        raise UsageError(
            "there is no such event",
            expected="the id of a row in events.events",
            found=str(event),
            next='bilten sql "select event_id, title from marts.dim_events" lists them',
        )
    return str(row[0])
