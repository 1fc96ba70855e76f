"""A small world of orders, written into bilten_raw and the control tables as the sync writes them.

Control totals are added up here in plain Python, from docs/metrics-rules.md, so that neither PostgreSQL's
nor dbt's computation stands behind them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

from clickhouse_connect.driver.client import Client

from bilten_orchestration.timezones import zone as ZoneInfo

NAMESPACE = UUID("6f1a54d6-3f7c-4c37-9a52-8f3c2f0f1d10")
ZERO = UUID(int=0)
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
BEGINNING = datetime(2020, 1, 1, tzinfo=UTC)

Cell = tuple[date, UUID, str, str]


def uid(name: str) -> UUID:
    """The id of a thing by its name in the test."""
    return uuid5(NAMESPACE, name)


def at(text: str) -> datetime:
    """A UTC moment: at("2026-03-01 10:00")."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def days_between(first: str, last: str) -> list[str]:
    start, end = date.fromisoformat(first), date.fromisoformat(last)
    return [(start + timedelta(days=number)).isoformat() for number in range((end - start).days + 1)]


@dataclass
class Scenario:
    """Rows by table and name; `apply` writes those that changed since the last batch."""

    rows: dict[str, dict[str, dict[str, Any]]] = field(default_factory=lambda: defaultdict(dict))
    written: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    batch: int = 0

    # things
    def organization(self, name: str, timezone: str = "UTC") -> None:
        self.put("users_organizations", name, name=name, timezone=timezone, default_currency="USD")

    def event(
        self,
        name: str,
        *,
        organization: str | None = None,
        organizer: str = "organizer",
        start: str = "2026-06-01 18:00",
    ) -> None:
        self.put("users_users", organizer, role="organizer", status="active", email_verified=True)
        begins = at(start)
        self.put(
            "events_events",
            name,
            organizer_id=uid(organizer),
            organization_id=uid(organization) if organization else None,
            title=name,
            start_date=begins,
            end_date=begins + timedelta(hours=4),
            start_local_date=begins.astimezone(self._zone_of(organization)).date(),
            timezone="UTC",
            status="published",
            visibility="public",
            settings="{}",
            metadata="{}",
        )

    def ticket_type(
        self, name: str, event: str, *, currency: str = "USD", price: str = "10", quantity: int = 100
    ) -> None:
        self.put(
            "tickets_ticket_types",
            name,
            event_id=uid(event),
            name=name,
            price=Decimal(price),
            currency=currency,
            quantity=quantity,
            sold=0,
            reserved=0,
            is_active=True,
            settings="{}",
        )
        self.capacity(name, quantity, "2026-01-01 00:00")

    def capacity(self, ticket_type: str, quantity: int, moment: str) -> None:
        event = self._event_of(self.rows["tickets_ticket_types"][ticket_type])
        self.put(
            "tickets_ticket_type_capacity_log",
            f"{ticket_type} from {moment}",
            ticket_type_id=uid(ticket_type),
            quantity=quantity,
            valid_from=at(moment),
            valid_from_date=self._local(event, at(moment)),
        )

    def payment(
        self,
        name: str,
        event: str,
        captured: str | None,
        amount: str,
        *,
        fee: str = "0",
        tax: str = "0",
        currency: str = "USD",
        user: str = "buyer",
        tickets: Iterable[str] = (),
        ticket_type: str | None = None,
        discount: str = "0",
        status: str = "captured",
    ) -> None:
        """Items: fee, tax and discount for the order; the rest is face value of the tickets, or an add-on."""
        moment = at(captured) if captured else None
        self.put(
            "payments_payments",
            name,
            user_id=uid(user),
            event_id=uid(event),
            amount=Decimal(amount),
            fee_amount=Decimal(fee),
            tax_amount=Decimal(tax),
            currency=currency,
            payment_method="card",
            status=status,
            captured_at=moment,
            captured_date=self._local(event, moment),
            deleted_at=None,
        )
        parts = {"fee": Decimal(fee), "tax": Decimal(tax), "discount": -Decimal(discount)}
        for item_type, value in parts.items():
            if value:
                self._item(f"{name} {item_type}", name, item_type, value, None)
        held = list(tickets)
        face = Decimal(amount) - sum(parts.values())
        if not held:
            self._item(f"{name} addon", name, "addon", face, None)
        for ticket in held:
            self._item(f"{name} {ticket}", name, "ticket", face / len(held), ticket)
            self.ticket(
                ticket,
                event,
                str(ticket_type),
                purchased=captured or "2026-01-01 00:00",
                payment=name,
                user=user,
            )

    def ticket(
        self,
        name: str,
        event: str,
        ticket_type: str,
        *,
        purchased: str,
        payment: str | None = None,
        user: str = "buyer",
        comp: bool = False,
        transferred_from: str | None = None,
        status: str = "active",
    ) -> None:
        self.put(
            "tickets_tickets",
            name,
            ticket_type_id=uid(ticket_type),
            event_id=uid(event),
            user_id=uid(user),
            payment_id=uid(payment) if payment else None,
            ticket_number=name,
            status=status,
            is_complimentary=comp,
            transferred_from=uid(transferred_from) if transferred_from else None,
            purchased_at=at(purchased),
            purchased_date=self._local(event, at(purchased)),
            checked_in_at=None,
            checked_in_date=None,
            cancelled_at=None,
            cancelled_date=None,
        )

    def check_in(self, ticket: str, moment: str) -> None:
        self._date("tickets_tickets", ticket, "checked_in", moment)

    def cancel(self, ticket: str, moment: str) -> None:
        self._date("tickets_tickets", ticket, "cancelled", moment)

    def refund(
        self,
        name: str,
        payment: str,
        refunded: str,
        amount: str,
        *,
        fee: str = "0",
        tax: str = "0",
        ticket: str | None = None,
    ) -> None:
        self.put(
            "payments_refunds",
            name,
            payment_id=uid(payment),
            ticket_id=uid(ticket) if ticket else None,
            amount=Decimal(amount),
            fee_amount=Decimal(fee),
            tax_amount=Decimal(tax),
            status="succeeded",
            reversed_at=None,
            reversed_date=None,
        )
        self._date("payments_refunds", name, "refunded", refunded)

    def chargeback(
        self, name: str, payment: str, moment: str, amount: str, *, dispute_fee: str = "0"
    ) -> None:
        self.put(
            "payments_chargebacks",
            name,
            payment_id=uid(payment),
            amount=Decimal(amount),
            dispute_fee=Decimal(dispute_fee),
            status="open",
            reversed_at=None,
            reversed_date=None,
        )
        self._date("payments_chargebacks", name, "charged_back", moment)

    def reverse(self, table: str, name: str, moment: str) -> None:
        self._date(table, name, "reversed", moment)

    def change(self, table: str, name: str, **values: Any) -> None:
        self.rows[table][name] = {**self.rows[table][name], **values}

    def delete(self, table: str, name: str) -> None:
        del self.rows[table][name]

    # as the sync writes it
    def apply(self, client: Client, *, as_of: str = "2026-12-31 00:00", controls: Iterable[str] = ()) -> int:
        """One batch: changed rows and tombstones, control totals of the days named, the batch's row last."""
        self.batch += 1
        for table, rows in self.rows.items():
            changed = {name: row for name, row in rows.items() if self.written.get((table, name)) != row}
            gone = {name: row for (of, name), row in self.written.items() if of == table and name not in rows}
            self._insert(client, table, changed, is_deleted=0)
            self._insert(client, table, gone, is_deleted=1)
            for name, row in changed.items():
                self.written[table, name] = row
            for name in gone:
                del self.written[table, name]
        self.write_controls(client, controls)
        client.insert(
            "analytics.sync_batches",
            [[self.batch, "incremental", self.batch, "{}", at(as_of), at(as_of), {}, 0]],
            column_names=[
                *("batch", "kind", "mark", "epoch", "as_of", "settled_until", "rows_by_table", "touched_days")
            ],
        )
        return self.batch

    def write_controls(self, client: Client, days: Iterable[str]) -> None:
        totals = self.totals()
        cells_of: dict[str, list[list[Any]]] = {day: [] for day in days}
        for (day, event, currency, metric), value in totals.items():
            if day.isoformat() in cells_of and value:
                cells_of[day.isoformat()].append([day, event, currency, metric, value, self.batch])
        cells = [cell for of_day in cells_of.values() for cell in of_day]
        if cells:
            client.insert(
                "analytics.control_totals",
                cells,
                column_names=["metric_date", "event_id", "currency", "metric", "value", "batch"],
            )
        if cells_of:
            client.insert(
                "analytics.control_days",
                [
                    [date.fromisoformat(day), self.batch, len(of_day), LONG_AGO]
                    for day, of_day in cells_of.items()
                ],
                column_names=["metric_date", "batch", "cells", "as_of"],
            )

    def totals(self) -> dict[Cell, Decimal]:
        """docs/metrics-rules.md, read literally, one row at a time."""
        found: dict[Cell, Decimal] = defaultdict(Decimal)
        payments = {
            row["id"]: row for row in self.rows["payments_payments"].values() if row["deleted_at"] is None
        }
        captured = {key: row for key, row in payments.items() if row["captured_date"] is not None}

        def add(day: date | None, event: UUID, currency: str, **values: Decimal | int) -> None:
            if day is not None:
                for metric, value in values.items():
                    found[day, event, currency, metric] += value

        for row in captured.values():
            amount, fee, tax = row["amount"], row["fee_amount"], row["tax_amount"]
            add(
                row["captured_date"], row["event_id"], row["currency"],
                gross_sales=amount, fees=fee, tax=tax, paid_orders=1, net_revenue=amount - fee - tax,
            )  # fmt: skip
        for row in self.rows["payments_payment_items"].values():
            if row["payment_id"] in captured and row["item_type"] == "ticket":
                payment = captured[row["payment_id"]]
                add(
                    payment["captured_date"],
                    payment["event_id"],
                    payment["currency"],
                    ticket_face_sales=row["amount"],
                )
        ticket_refunds: dict[UUID, list[tuple[datetime, date]]] = defaultdict(list)
        for row in self.rows["payments_refunds"].values():
            payment = payments.get(row["payment_id"])
            if payment is None:
                continue
            amount, fee, tax = row["amount"], row["fee_amount"], row["tax_amount"]
            where = payment["event_id"], payment["currency"]
            add(
                row["refunded_date"], *where,
                refunds=amount, refunded_fees=fee, refunded_tax=tax, net_revenue=-amount + fee + tax,
            )  # fmt: skip
            add(
                row["reversed_date"], *where,
                refund_reversals=amount, refunded_fees=-fee, refunded_tax=-tax,
                net_revenue=amount - fee - tax,
            )  # fmt: skip
            if row["ticket_id"]:
                ticket_refunds[row["ticket_id"]].append((row["refunded_at"], row["refunded_date"]))
        for row in self.rows["payments_chargebacks"].values():
            payment = payments.get(row["payment_id"])
            if payment is None:
                continue
            where = payment["event_id"], payment["currency"]
            add(
                row["charged_back_date"], *where,
                chargebacks=row["amount"], dispute_fees=row["dispute_fee"], net_revenue=-row["amount"],
            )  # fmt: skip
            add(row["reversed_date"], *where, chargeback_reversals=row["amount"], net_revenue=row["amount"])
        types = {row["id"]: row for row in self.rows["tickets_ticket_types"].values()}
        handed_on = {row["transferred_from"] for row in self.rows["tickets_tickets"].values()}
        for row in self.rows["tickets_tickets"].values():
            if row["payment_id"] and row["payment_id"] not in captured:
                continue
            payment = captured.get(row["payment_id"])
            of_type = types[row["ticket_type_id"]]["currency"]
            paid_in = payment["currency"] if payment else of_type
            if row["transferred_from"] is None:
                if payment:
                    add(payment["captured_date"], row["event_id"], paid_in, tickets_sold=1)
                elif row["is_complimentary"]:
                    add(row["purchased_date"], row["event_id"], of_type, comp_tickets=1)
                else:
                    add(row["purchased_date"], row["event_id"], of_type, tickets_sold=1)
            add(row["checked_in_date"], row["event_id"], of_type, check_ins=1)
            ends = list(ticket_refunds[row["id"]])
            if row["cancelled_at"]:
                ends.append((row["cancelled_at"], row["cancelled_date"]))
            if ends and row["id"] not in handed_on:
                add(min(ends)[1], row["event_id"], paid_in, tickets_cancelled=1)
        return dict(found)

    def put(self, table: str, row_name: str, **values: Any) -> None:
        self.rows[table][row_name] = {
            "id": uid(row_name),
            "created_at": LONG_AGO,
            "updated_at": LONG_AGO,
            **values,
        }

    def _item(self, name: str, payment: str, item_type: str, amount: Decimal, ticket: str | None) -> None:
        self.put(
            "payments_payment_items",
            name,
            payment_id=uid(payment),
            ticket_id=uid(ticket) if ticket else None,
            item_type=item_type,
            amount=amount,
        )

    def _date(self, table: str, name: str, what: str, moment: str) -> None:
        row = self.rows[table][name]
        local = self._local(self._event_of(row), at(moment))
        self.rows[table][name] = {**row, f"{what}_at": at(moment), f"{what}_date": local}

    def _event_of(self, row: dict[str, Any]) -> str:
        wanted = row.get("event_id")
        if wanted is None:
            wanted = next(
                p["event_id"] for p in self.rows["payments_payments"].values() if p["id"] == row["payment_id"]
            )
        return next(name for name, event in self.rows["events_events"].items() if event["id"] == wanted)

    def _zone_of(self, organization: str | None) -> ZoneInfo:
        return ZoneInfo(self.rows["users_organizations"][organization]["timezone"] if organization else "UTC")

    def _local(self, event: str, moment: datetime | None) -> date | None:
        if moment is None:
            return None
        wanted = self.rows["events_events"][event]["organization_id"]
        names = {row["id"]: name for name, row in self.rows["users_organizations"].items()}
        return moment.astimezone(self._zone_of(names.get(wanted))).date()

    def _insert(
        self, client: Client, table: str, rows: dict[str, dict[str, Any]], *, is_deleted: int
    ) -> None:
        shapes: dict[tuple[str, ...], list[list[Any]]] = defaultdict(list)
        for row in rows.values():
            shapes[tuple(row)].append([*row.values(), self.batch, is_deleted])
        for columns, values in shapes.items():
            client.insert(f"bilten_raw.{table}", values, column_names=[*columns, "version", "is_deleted"])
