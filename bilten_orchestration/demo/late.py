"""A small sample of rows changed and deleted after the fact, by ordinary statements with all triggers on.

They leave what such statements leave: tombstones in system.deleted_rows, the audit log, new rows in the
capacity log. Which rows is decided by their ids alone, so it is the same in every load of a plan.
"""

from __future__ import annotations

from dataclasses import dataclass

from bilten_orchestration.stores.postgres import Connection


@dataclass(frozen=True, slots=True)
class LateChange:
    name: str
    statement: str


CHANGES = (
    LateChange(
        "organizations described anew",
        """
        update users.organizations set description = description || ' New season on sale.'
        where id in (select id from users.organizations order by id limit 4)""",
    ),
    LateChange(
        "venues with another capacity",
        """
        update events.venues set capacity = capacity + 25, amenities = amenities || array['bicycle stands']
        where id in (select id from events.venues where deleted_at is null order by id limit 12)""",
    ),
    LateChange(
        "events renamed",
        """
        update events.events set title = title || ' (new date for the encore)'
        where id in (select id from events.events where status = 'published' order by id limit 15)""",
    ),
    LateChange(
        "ticket types enlarged and dearer",
        """
        update tickets.ticket_types set quantity = quantity + 10, price = price * 2
        where id in (select id from tickets.ticket_types order by id limit 20)""",
    ),
    LateChange(
        "accounts closed",
        """
        update users.users set status = 'deleted', deleted_at = clock_timestamp(), email = 'closed.' || email
        where id in (
            select id from users.users where role = 'user' and status = 'active' order by id limit 6)""",
    ),
    LateChange(
        "test payments taken off",
        """
        with test as (
            update payments.payments set deleted_at = clock_timestamp()
            where id in (select p.id from payments.payments p where p.status = 'failed'
                and p.deleted_at is null order by p.id limit 5)
            returning id)
        update tickets.tickets set cancelled_at = coalesce(cancelled_at, clock_timestamp())
        where payment_id in (select id from test)""",
    ),
    LateChange(
        "exchange rates withdrawn",
        """
        delete from financial.exchange_rates
        where (rate_date, from_currency, to_currency) in (
            select rate_date, from_currency, to_currency from financial.exchange_rates
            where from_currency = 'NPR' and to_currency = 'EUR' order by rate_date limit 3)""",
    ),
    LateChange(
        "complimentary tickets taken back",
        """
        with gone as (
            delete from tickets.tickets where id in (
                select t.id from tickets.tickets t where t.is_complimentary and t.transferred_from is null
                  and t.status = 'active' order by t.id limit 8)
            returning ticket_type_id)
        update tickets.ticket_types y set sold = sold - g.seats
        from (select ticket_type_id, count(*) as seats from gone group by 1) g
        where g.ticket_type_id = y.id""",
    ),
    LateChange(
        "drafts thrown away: their ticket types",
        """
        delete from tickets.ticket_types where event_id in (
            select id from events.events where status = 'draft' order by id limit 1)""",
    ),
    LateChange(
        "drafts thrown away",
        """
        delete from events.events where id in (
            select id from events.events where status = 'draft' order by id limit 1)""",
    ),
    LateChange(
        "old login attempts swept",
        """
        delete from authentication.login_attempts where id in (
            select id from authentication.login_attempts order by created_at, id limit 20)""",
    ),
)

# Payments that never were: their tickets and items go with them.
ERASED_PAYMENTS = """
    select p.id from payments.payments p where p.status = 'failed' and p.deleted_at is null
      and not exists (select from tickets.tickets t
          join tickets.tickets n on n.transferred_from = t.id where t.payment_id = p.id)
    order by p.id desc limit 5
"""


def change(connection: Connection) -> dict[str, int]:
    """Run them all inside the caller's transaction; rows touched by each."""
    touched = {item.name: connection.execute(item.statement.encode()).rowcount for item in CHANGES}
    erased = [row[0] for row in connection.execute(ERASED_PAYMENTS).fetchall()]
    connection.execute("delete from payments.payment_items where payment_id = any(%s)", (erased,))
    connection.execute("delete from tickets.tickets where payment_id = any(%s)", (erased,))
    touched["payments erased"] = connection.execute(
        "delete from payments.payments where id = any(%s)", (erased,)
    ).rowcount
    return touched
