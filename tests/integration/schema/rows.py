"""A valid base: one row of each kind, of which a test changes one thing."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

from psycopg import sql
from psycopg.types.json import Jsonb

from bilten_orchestration.stores.postgres import Connection


def insert(connection: Connection, table: str, **values: Any) -> UUID:
    """Insert one row and return its id."""
    values = {"id": uuid4()} | values
    statement = sql.SQL("insert into {} ({}) values ({}) returning id").format(
        sql.Identifier(*table.split(".")),
        sql.SQL(", ").join(map(sql.Identifier, values)),
        sql.SQL(", ").join(sql.Placeholder() * len(values)),
    )
    row = connection.execute(
        statement, [Jsonb(value) if isinstance(value, dict) else value for value in values.values()]
    ).fetchone()
    assert row is not None
    found: UUID = row[0]
    return found


def organization(connection: Connection, **changes: Any) -> UUID:
    return insert(
        connection, "users.organizations", **{"name": "Kulturhaus", "timezone": "Europe/Vienna"} | changes
    )


def user(connection: Connection, **changes: Any) -> UUID:
    return insert(
        connection, "users.users", **{"email": f"{uuid4().hex}@example.org", "password_hash": "x"} | changes
    )


def venue(connection: Connection, **changes: Any) -> UUID:
    base = {"name": "Hall", "address": "Street 1", "city": "Vienna", "country": "AT"}
    return insert(connection, "events.venues", **base | changes)


def event(connection: Connection, **changes: Any) -> UUID:
    if "organizer_id" not in changes:
        changes["organizer_id"] = user(connection, role="organizer")
    base = {"title": "Concert", "start_date": "2026-05-01 18:00+00", "end_date": "2026-05-01 22:00+00"}
    return insert(connection, "events.events", **base | changes)


def ticket_type(connection: Connection, **changes: Any) -> UUID:
    if "event_id" not in changes:
        changes["event_id"] = event(connection)
    base = {"name": "General", "price": "20.00", "currency": "EUR", "quantity": 10}
    return insert(connection, "tickets.ticket_types", **base | changes)


def ticket(connection: Connection, **changes: Any) -> UUID:
    if "ticket_type_id" not in changes:
        changes["ticket_type_id"] = ticket_type(connection)
    if "event_id" not in changes:
        row = connection.execute(
            "select event_id from tickets.ticket_types where id = %s", (changes["ticket_type_id"],)
        ).fetchone()
        assert row is not None
        changes["event_id"] = row[0]
    return insert(connection, "tickets.tickets", **{"ticket_number": uuid4().hex} | changes)


def bare_payment(connection: Connection, **changes: Any) -> UUID:
    """A captured payment of 100 EUR without items: valid only until they are checked."""
    if "event_id" not in changes:
        changes["event_id"] = event(connection)
    if "user_id" not in changes:
        changes["user_id"] = user(connection)
    base = {
        "amount": "100.00",
        "currency": "EUR",
        "payment_method": "card",
        "status": "captured",
        "captured_at": "2026-04-01 10:00+00",
    }
    return insert(connection, "payments.payments", **base | changes)


def item(connection: Connection, payment_id: UUID, **changes: Any) -> UUID:
    return insert(
        connection,
        "payments.payment_items",
        **{"payment_id": payment_id, "item_type": "addon", "amount": "100.00"} | changes,
    )


def payment(connection: Connection, **changes: Any) -> UUID:
    """A captured payment with one item of its whole amount."""
    made = bare_payment(connection, **changes)
    item(connection, made, amount=changes.get("amount", "100.00"))
    return made


def refund(connection: Connection, **changes: Any) -> UUID:
    if "payment_id" not in changes:
        changes["payment_id"] = payment(connection)
    base = {"amount": "10.00", "status": "succeeded", "refunded_at": "2026-04-02 10:00+00"}
    return insert(connection, "payments.refunds", **base | changes)


def chargeback(connection: Connection, **changes: Any) -> UUID:
    if "payment_id" not in changes:
        changes["payment_id"] = payment(connection)
    base = {"amount": "100.00", "dispute_fee": "15.00", "charged_back_at": "2026-04-20 10:00+00"}
    return insert(connection, "payments.chargebacks", **base | changes)


def payout(connection: Connection, **changes: Any) -> UUID:
    if "organization_id" not in changes:
        changes["organization_id"] = organization(connection)
    base = {"amount": "50.00", "currency": "EUR", "period_start": "2026-04-01", "period_end": "2026-04-30"}
    return insert(connection, "financial.payouts", **base | changes)


def session(connection: Connection, **changes: Any) -> UUID:
    if "user_id" not in changes:
        changes["user_id"] = user(connection)
    base = {
        "token_hash": uuid4().hex,
        "created_at": "2026-01-01 00:00+00",
        "expires_at": "2026-01-02 00:00+00",
    }
    return insert(connection, "authentication.sessions", **base | changes)


def login_attempt(connection: Connection, **changes: Any) -> UUID:
    return insert(
        connection, "authentication.login_attempts", **{"email": "a@b.org", "succeeded": True} | changes
    )


def brand(connection: Connection, **changes: Any) -> UUID:
    if "organizer_id" not in changes:
        changes["organizer_id"] = user(connection)
    return insert(connection, "branding.brand_settings", **changes)


def file(connection: Connection, **changes: Any) -> UUID:
    base = {
        "owner_type": "event",
        "owner_id": uuid4(),
        "bucket": "assets",
        "object_key": uuid4().hex,
        "sha256": "a" * 64,
        "size": 1,
    }
    return insert(connection, "assets.files", **base | changes)
