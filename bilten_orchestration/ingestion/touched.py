"""Which local days a batch touches: asked of ClickHouse, which holds the rows before (raw) and after (stage).

Must be asked, and kept (system.sync_state.touched_days), before the first staged row enters raw: from
then on the rows before are gone.

Two kinds of answer. A fact (see tables.Fact) that changed touches the day it left and the day it
entered. A parent that changed touches days of its children, whose own rows are the same: a payment
that begins or ceases to count, an item, a ticket type's currency, an event's organizer. Days of
children are taken from every version that is still there: a day too many is built again and found
unchanged, a day too few would stay wrong.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from itertools import chain
from typing import TYPE_CHECKING, Any
from uuid import UUID

from bilten_orchestration.ingestion.tables import BY_SOURCE, RAW, STAGE, TABLES, SyncedTable

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

# a whole load compares every row: beyond this it goes to disk
_SPILLING = {"max_bytes_before_external_group_by": 256 << 20}

# What of a parent decides its children's days.
_PARENTS = {
    "payments.payments": ("event_id", "currency", "captured_date", "deleted_at"),
    "payments.payment_items": ("payment_id", "ticket_id", "item_type", "amount"),
    "payments.refunds": ("payment_id", "ticket_id", "refunded_date"),
    "tickets.tickets": (
        "event_id",
        "ticket_type_id",
        "payment_id",
        "is_complimentary",
        "transferred_from",
        "cancelled_date",
    ),
    "tickets.ticket_types": ("event_id", "currency"),
    "tickets.ticket_type_capacity_log": ("ticket_type_id", "quantity", "valid_from", "valid_from_date"),
    "events.events": ("organization_id", "organizer_id"),
}

_PAYMENTS, _TICKETS = "payments_payments", "tickets_tickets"
_REFUNDS, _CHARGEBACKS = "payments_refunds", "payments_chargebacks"
_TICKET_DAYS = "[purchased_date, checked_in_date, cancelled_date]"


def days(
    client: Client,
    staged: Callable[[SyncedTable], bool],
    moved_events: Iterable[UUID],
    *,
    first_load: bool,
    whole: bool,
    at_once: int,
) -> dict[date, str]:
    """Touched days with what touched them. `staged` tells which tables have rows in the stage.

    `moved_events` are those whose zone or organization changed: all their days are touched. In a
    `first_load` there is nothing before; with `whole` the stage holds every row. `at_once` tables are
    asked about side by side.
    """
    tables = [table for table in TABLES if staged(table)]
    if first_load:
        queries = [query for table in tables for query in _days_of_first_load(table)]
    else:
        queries = [_days_and_changes(table, whole) for table in tables if table.facts or _parent(table)]
    found: dict[date, set[str]] = defaultdict(set)
    changed: set[str] = set()

    def ask(query: str) -> Sequence[Sequence[Any]]:
        return client.query(query, settings=_SPILLING).result_rows

    with ThreadPoolExecutor(at_once, thread_name_prefix="sync-touched") as pool:
        # whole tables one by one, for each may take what memory there is; else in few statements
        shares = [queries[share::at_once] for share in range(min(at_once, len(queries)))]
        asked = queries if whole else [" union all ".join(share) for share in shares]
        for source, day in chain.from_iterable(pool.map(ask, asked)):
            if day is None:
                changed.add(source)
            else:
                found[day].add(source)
        parents = [table for table in tables if table.source in changed]
        list(pool.map(lambda table: _keep_changed(client, table, whole), parents))
        for source, day in chain.from_iterable(pool.map(ask, map(_days_of_children, parents))):
            found[day].add(f"{source} (parent)")
        moved = list(moved_events)
        if moved and not first_load:
            _insert_ids(client, "moved_events", moved)
            for (day,) in chain.from_iterable(
                pool.map(ask, _event_days(f"select id from {STAGE}.moved_events"))
            ):
                found[day].add("time zone or organization")
    return {day: ", ".join(sorted(reasons)) for day, reasons in sorted(found.items())}


def _parent(table: SyncedTable) -> tuple[str, ...]:
    return _PARENTS.get(table.source, ())


def _days_of_first_load(table: SyncedTable) -> list[str]:
    return [
        f"select distinct '{table.source}', {fact.date} from {table.stage} where {fact.date} is not null"
        for fact in table.facts
    ]


def _days_and_changes(table: SyncedTable, whole: bool) -> str:
    """The days of changed facts; and one row without a day where the table changed as a parent.

    A key that changed has one row or two. Seen through the columns of a fact it changed when they differ, or
    when one is alone. arrayUniq takes two nulls for the same.
    """
    seen = {f"fact_{number}": (fact.date, *fact.columns) for number, fact in enumerate(table.facts)}
    days = [f"if({_differ(fact)}, arrayFilter(day -> day is not null, {fact}.1), [])" for fact in seen]
    if parent := _parent(table):
        seen["parent"] = parent
        days.append(f"if({_differ('parent')}, [cast(null as Nullable(Date32))], [])")
    collected = ", ".join(
        f"groupArray(tuple({', '.join(columns)})) as {name}" for name, columns in seen.items()
    )
    changed = _on_one_side(table, tuple(chain.from_iterable(seen.values())), whole)
    return (
        f"select distinct '{table.source}' as source, arrayJoin(arrayConcat({', '.join(days)})) as day "
        f"from (select {collected} from {changed} group by {table.key_list})"
    )


def _differ(name: str) -> str:
    return f"(length({name}) = 1 or arrayUniq({name}) = 2)"


def _days_of_children(table: SyncedTable) -> str:
    return f"select '{table.source}' as source, day from ({' union distinct '.join(_CHILDREN[table.source])})"


def _on_one_side(table: SyncedTable, columns: tuple[str, ...], whole: bool) -> str:
    """Rows that, seen through `columns`, are in one alone of raw, as ClickHouse shows it, and the stage."""
    shown = ", ".join(dict.fromkeys((*table.key, *columns)))
    # prewhere: a condition on the sort key alone may come before FINAL, and makes it three times faster
    keys = "" if whole else f"prewhere ({table.key_list}) in (select {table.key_list} from {table.stage})"
    return (
        f"(select {shown} from (select {shown} from {table.raw} final {keys} "
        f"union all select {shown} from {table.stage} final) group by {shown} having count() = 1)"
    )


def _keep_changed(client: Client, table: SyncedTable, whole: bool) -> None:
    """The changed parents, before and after, in a table: their children are asked for by it several times."""
    client.command(
        f"create table {STAGE}.changed_{table.target} engine = MergeTree order by tuple() as "
        f"select * from {_on_one_side(table, _parent(table), whole)}",
        settings=_SPILLING,
    )


def _insert_ids(client: Client, name: str, ids: list[UUID]) -> None:
    client.command(f"create table {STAGE}.{name} (id UUID) engine = MergeTree order by id")
    body = "".join(f"{each}\n" for each in ids).encode()
    client.raw_insert(f"{STAGE}.{name}", column_names=["id"], insert_block=body, fmt="TabSeparated")


def _both(target: str, columns: str) -> str:
    return f"(select {columns} from {RAW}.{target} union all select {columns} from {STAGE}.{target})"


def _of(target: str, days_of_row: str, column: str, ids: str, *also: str) -> str:
    """Distinct days of the rows of `target` whose `column` is among `ids`, old and staged versions alike."""
    needed = ", ".join(dict.fromkeys((column, *days_of_row.strip("[]").split(", "), *also)))
    return (
        f"select distinct assumeNotNull(arrayJoin({days_of_row}) as any_day) as day "
        f"from {_both(target, needed)} where {column} in ({ids}) and any_day is not null"
    )


def _event_days(events: str) -> tuple[str, ...]:
    payments = f"select id from {_both(_PAYMENTS, 'id, event_id')} where event_id in ({events})"
    return (
        _of(_PAYMENTS, "[captured_date]", "event_id", events),
        _of(_TICKETS, _TICKET_DAYS, "event_id", events),
        _of(_REFUNDS, "[refunded_date, reversed_date]", "payment_id", payments),
        _of(_CHARGEBACKS, "[charged_back_date, reversed_date]", "payment_id", payments),
        f"select distinct local_date from analytics.events where event_id in ({events})",
    )


def _children() -> dict[str, tuple[str, ...]]:
    def changed(source: str, column: str = "id") -> str:
        return f"select {column} from {STAGE}.changed_{BY_SOURCE[source].target} where {column} is not null"

    payment, ticket, refund = changed("payments.payments"), changed("tickets.tickets"), "payments.refunds"
    tickets_payments = (
        f"select assumeNotNull(payment_id) from {STAGE}.changed_tickets_tickets where payment_id is not null"
    )
    handed_on = (
        f"select assumeNotNull(transferred_from) from {STAGE}.changed_tickets_tickets "
        "where transferred_from is not null"
    )
    refunded_tickets = (
        f"select assumeNotNull(ticket_id) from {STAGE}.changed_payments_refunds where ticket_id is not null"
    )
    tickets_of_refunds = (
        f"select assumeNotNull(ticket_id) from {_both(_REFUNDS, 'payment_id, ticket_id')} "
        f"where ticket_id is not null and payment_id in ({payment})"
    )
    types = changed("tickets.ticket_types")
    of_types = f"select id from {_both(_TICKETS, 'id, ticket_type_id')} where ticket_type_id in "
    paid_for_types = (
        f"select assumeNotNull(payment_id) from {_both(_TICKETS, 'payment_id, ticket_type_id')} "
        f"where payment_id is not null and ticket_type_id in "
    )
    log = f"{STAGE}.changed_tickets_ticket_type_capacity_log"
    logged = f"select ticket_type_id from {log}"
    since = f"(select min(valid_from_date) from {log})"
    return {
        # begins or ceases to count: refunds, chargebacks and tickets come or go with it
        "payments.payments": (
            _of(_REFUNDS, "[refunded_date, reversed_date]", "payment_id", payment),
            _of(_CHARGEBACKS, "[charged_back_date, reversed_date]", "payment_id", payment),
            _of(_TICKETS, "[checked_in_date, cancelled_date]", "payment_id", payment),
            # without its refund a ticket of no payment is cancelled later, or not at all
            _of(_TICKETS, "[cancelled_date]", "id", tickets_of_refunds),
            _of(_REFUNDS, "[refunded_date]", "ticket_id", tickets_of_refunds),
        ),
        "payments.payment_items": (
            _of(_PAYMENTS, "[captured_date]", "id", changed("payments.payment_items", "payment_id")),
        ),
        # a ticket is cancelled at the earlier of its own moment and its refund's
        refund: (
            _of(_TICKETS, "[cancelled_date]", "id", refunded_tickets),
            _of(_REFUNDS, "[refunded_date]", "ticket_id", refunded_tickets),
        ),
        "tickets.tickets": (
            _of(_PAYMENTS, "[captured_date]", "id", tickets_payments),
            _of(_REFUNDS, "[refunded_date]", "ticket_id", ticket),
            _of(_TICKETS, "[cancelled_date]", "id", handed_on),
            _of(_REFUNDS, "[refunded_date]", "ticket_id", handed_on),
        ),
        "tickets.ticket_types": (
            _of(_TICKETS, _TICKET_DAYS, "ticket_type_id", types),
            _of(_PAYMENTS, "[captured_date]", "id", f"{paid_for_types} ({types})"),
            _of(_REFUNDS, "[refunded_date]", "ticket_id", f"{of_types} ({types})"),
        ),
        # capacity as it was that day: every later day with movement of the type
        "tickets.ticket_type_capacity_log": (
            _of(_TICKETS, _TICKET_DAYS, "ticket_type_id", logged) + f" and day >= {since}",
            _of(_PAYMENTS, "[captured_date]", "id", f"{paid_for_types} ({logged})") + f" and day >= {since}",
            _of(_REFUNDS, "[refunded_date]", "ticket_id", f"{of_types} ({logged})") + f" and day >= {since}",
        ),
        "events.events": _event_days(changed("events.events")),
    }


_CHILDREN = _children()
