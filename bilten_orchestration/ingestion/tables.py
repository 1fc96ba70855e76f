"""The synced tables: one declaration, from which reading, writing, comparing and touched days follow.

Columns are not listed here: a table is copied with every column that bilten_etl may read (so personal
columns stay out by privilege, and an added column follows by itself), minus sync_xid, plus the local
dates declared here. What stands here is what the catalogues cannot tell: keys, which moment becomes
which local date, the joins that lead to the zone, and which columns decide a day's numbers.

Privileges are the first wall around personal columns, `personal` is the second: it holds also where
somebody gave bilten_etl more than it needs.
"""

from __future__ import annotations

from dataclasses import dataclass

RAW = "bilten_raw"
STAGE = "bilten_stage"

# A metric day is a date in the zone of the event's organization, UTC where the event has none.
_ORGANIZATION = "left join users.organizations o on o.id = e.organization_id"
ZONE = "coalesce(o.timezone, 'UTC')"


@dataclass(frozen=True, slots=True)
class LocalDate:
    """A computed column: the date of `moment` in the zone."""

    name: str
    moment: str


@dataclass(frozen=True, slots=True)
class Fact:
    """What a row adds to the day in `date`: `columns` decide how much and in which cell.

    A batch touches the day before and the day after when date or columns differ, and no day when
    something else of the row changed (a status, a counter).
    """

    date: str
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SyncedTable:
    """`zone_joins` start at alias t and end with o (organization); `event` is the event's id over them.

    `personal` columns are never read, whatever the privileges say.
    """

    schema: str
    name: str
    key: tuple[str, ...] = ("id",)
    local_dates: tuple[LocalDate, ...] = ()
    zone_joins: str = ""
    event: str = ""
    facts: tuple[Fact, ...] = ()
    personal: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """Name in PostgreSQL."""
        return f"{self.schema}.{self.name}"

    @property
    def target(self) -> str:
        """Name in ClickHouse, without a database."""
        return f"{self.schema}_{self.name}"

    @property
    def raw(self) -> str:
        return f"{RAW}.{self.target}"

    @property
    def stage(self) -> str:
        return f"{STAGE}.{self.target}"

    @property
    def key_list(self) -> str:
        return ", ".join(self.key)


TABLES: tuple[SyncedTable, ...] = (
    # parents first: what changed in them decides what of the others is read again
    SyncedTable("users", "organizations"),
    SyncedTable(
        "events",
        "events",
        local_dates=(LocalDate("start_local_date", "start_date"),),
        zone_joins="left join users.organizations o on o.id = t.organization_id",
        event="t.id",
    ),
    SyncedTable(
        "users",
        "users",
        personal=(
            "email",
            "password_hash",
            "first_name",
            "last_name",
            "phone",
            "date_of_birth",
            "profile_data",
            "preferences",
        ),
    ),
    SyncedTable("events", "venues"),
    SyncedTable("tickets", "ticket_types"),
    SyncedTable(
        "tickets",
        "ticket_type_capacity_log",
        local_dates=(LocalDate("valid_from_date", "valid_from"),),
        zone_joins="left join tickets.ticket_types tt on tt.id = t.ticket_type_id "
        f"left join events.events e on e.id = tt.event_id {_ORGANIZATION}",
        event="tt.event_id",
    ),
    SyncedTable(
        "payments",
        "payments",
        personal=("gateway_response",),
        local_dates=(LocalDate("captured_date", "captured_at"),),
        zone_joins=f"left join events.events e on e.id = t.event_id {_ORGANIZATION}",
        event="t.event_id",
        facts=(
            Fact(
                "captured_date",
                (
                    "event_id",
                    "user_id",
                    "currency",
                    "amount",
                    "fee_amount",
                    "tax_amount",
                    "captured_at",
                    "deleted_at",
                ),
            ),
        ),
    ),
    SyncedTable(
        "tickets",
        "tickets",
        local_dates=(
            LocalDate("purchased_date", "purchased_at"),
            LocalDate("checked_in_date", "checked_in_at"),
            LocalDate("cancelled_date", "cancelled_at"),
        ),
        zone_joins=f"left join events.events e on e.id = t.event_id {_ORGANIZATION}",
        event="t.event_id",
        facts=(
            Fact(
                "purchased_date",
                ("event_id", "ticket_type_id", "payment_id", "is_complimentary", "transferred_from"),
            ),
            Fact("checked_in_date", ("event_id", "ticket_type_id", "payment_id")),
            Fact("cancelled_date", ("event_id", "ticket_type_id", "payment_id")),
        ),
    ),
    SyncedTable("payments", "payment_items"),
    SyncedTable(
        "payments",
        "refunds",
        local_dates=(LocalDate("refunded_date", "refunded_at"), LocalDate("reversed_date", "reversed_at")),
        zone_joins="left join payments.payments p on p.id = t.payment_id "
        f"left join events.events e on e.id = p.event_id {_ORGANIZATION}",
        event="p.event_id",
        facts=(
            Fact("refunded_date", ("payment_id", "ticket_id", "amount", "fee_amount", "tax_amount")),
            Fact("reversed_date", ("payment_id", "amount", "fee_amount", "tax_amount")),
        ),
    ),
    SyncedTable(
        "payments",
        "chargebacks",
        local_dates=(
            LocalDate("charged_back_date", "charged_back_at"),
            LocalDate("reversed_date", "reversed_at"),
        ),
        zone_joins="left join payments.payments p on p.id = t.payment_id "
        f"left join events.events e on e.id = p.event_id {_ORGANIZATION}",
        event="p.event_id",
        facts=(
            Fact("charged_back_date", ("payment_id", "amount", "dispute_fee")),
            Fact("reversed_date", ("payment_id", "amount")),
        ),
    ),
    SyncedTable("financial", "payouts"),
    SyncedTable("financial", "currencies", key=("code",)),
    SyncedTable("financial", "exchange_rates", key=("rate_date", "from_currency", "to_currency")),
)

BY_SOURCE = {table.source: table for table in TABLES}
