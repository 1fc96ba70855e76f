-- description: Ticket types, payments, tickets, payment items, refunds, chargebacks, payouts

create type payments.payment_method as enum ('card', 'wallet', 'bank_transfer', 'cash', 'invoice', 'voucher');
create type payments.payment_status as enum ('pending', 'captured', 'failed', 'refunded', 'partially_refunded', 'disputed');
create type payments.item_type as enum ('ticket', 'addon', 'fee', 'tax', 'discount');
create type payments.refund_status as enum ('pending', 'succeeded', 'failed', 'reversed');
create type payments.chargeback_status as enum ('open', 'won', 'lost');
create type tickets.ticket_status as enum ('active', 'checked_in', 'cancelled', 'refunded', 'transferred');
create type financial.payout_status as enum ('pending', 'paid', 'failed');
comment on type payments.payment_method is 'How the buyer paid';
comment on type payments.payment_status is 'State now; past days do not depend on it';
comment on type payments.item_type is 'What a part of a payment is for';
comment on type payments.refund_status is 'State now; past days do not depend on it';
comment on type payments.chargeback_status is 'State now; past days do not depend on it';
comment on type tickets.ticket_status is 'State now; past days do not depend on it';
comment on type financial.payout_status is 'State of a payout';

create table tickets.ticket_types (
    id uuid primary key default gen_random_uuid(),
    event_id uuid not null references events.events,
    name varchar(255) not null,
    description text,
    price numeric(18, 3) not null check (price >= 0),
    currency char(3) not null default 'USD' references financial.currencies,
    quantity integer not null check (quantity >= 0),
    sold integer not null default 0 check (sold >= 0),
    reserved integer not null default 0 check (reserved >= 0),
    sales_start timestamptz,
    sales_end timestamptz,
    is_active boolean not null default true,
    settings jsonb not null default '{}',
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    deleted_at timestamptz,
    sync_xid xid8 not null default pg_current_xact_id(),
    constraint ticket_types_not_oversold check (sold + reserved <= quantity),
    constraint ticket_types_sales_window check (sales_end > sales_start),
    constraint ticket_types_price_scale check (price = round(price, financial.minor_unit(currency::text)))
);
create index ticket_types_event on tickets.ticket_types (event_id);
create index ticket_types_sync_xid on tickets.ticket_types (sync_xid);
comment on table tickets.ticket_types is 'What can be bought for an event, at which price, how many';
comment on column tickets.ticket_types.id is 'Row id';
comment on column tickets.ticket_types.event_id is 'For which event';
comment on column tickets.ticket_types.name is 'Such as General admission or VIP';
comment on column tickets.ticket_types.description is 'Public text';
comment on column tickets.ticket_types.price is 'Face value now; 0 is free; scale of the currency';
comment on column tickets.ticket_types.currency is 'ISO 4217';
comment on column tickets.ticket_types.quantity is 'Seats of this type now; its history is in ticket_type_capacity_log';
comment on column tickets.ticket_types.sold is 'Tickets of this type that hold a seat now (active or checked in)';
comment on column tickets.ticket_types.reserved is 'Seats held in carts now';
comment on column tickets.ticket_types.sales_start is 'On sale from (UTC)';
comment on column tickets.ticket_types.sales_end is 'On sale until (UTC)';
comment on column tickets.ticket_types.is_active is 'Whether it is offered';
comment on column tickets.ticket_types.settings is 'Such as transferable, refundable';
comment on column tickets.ticket_types.created_at is 'When the row was made (UTC)';
comment on column tickets.ticket_types.updated_at is 'When the row last changed (UTC); never runs backwards';
comment on column tickets.ticket_types.deleted_at is 'When it was soft-deleted (UTC)';
comment on column tickets.ticket_types.sync_xid is 'Transaction that last wrote the row; the sync reads by it';

create table tickets.ticket_type_capacity_log (
    id uuid primary key default gen_random_uuid(),
    ticket_type_id uuid not null references tickets.ticket_types on delete cascade,
    quantity integer not null check (quantity >= 0),
    valid_from timestamptz not null default clock_timestamp(),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    sync_xid xid8 not null default pg_current_xact_id(),
    unique (ticket_type_id, valid_from)
);
create index ticket_type_capacity_log_sync_xid on tickets.ticket_type_capacity_log (sync_xid);
comment on table tickets.ticket_type_capacity_log is 'What quantity was when; written by a trigger of ticket_types';
comment on column tickets.ticket_type_capacity_log.id is 'Row id';
comment on column tickets.ticket_type_capacity_log.ticket_type_id is 'Which ticket type';
comment on column tickets.ticket_type_capacity_log.quantity is 'Seats from valid_from on';
comment on column tickets.ticket_type_capacity_log.valid_from is 'Since when (UTC), until the next row';
comment on column tickets.ticket_type_capacity_log.created_at is 'When the row was made (UTC)';
comment on column tickets.ticket_type_capacity_log.updated_at is 'When the row last changed (UTC); never runs backwards';
comment on column tickets.ticket_type_capacity_log.sync_xid is 'Transaction that last wrote the row; the sync reads by it';

create table payments.payments (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null references users.users,
    event_id uuid not null references events.events,
    amount numeric(18, 3) not null check (amount > 0),
    fee_amount numeric(18, 3) not null default 0 check (fee_amount >= 0),
    tax_amount numeric(18, 3) not null default 0 check (tax_amount >= 0),
    currency char(3) not null references financial.currencies,
    payment_method payments.payment_method not null,
    status payments.payment_status not null default 'pending',
    transaction_id varchar(255) unique,
    gateway_response jsonb,
    captured_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    deleted_at timestamptz,
    sync_xid xid8 not null default pg_current_xact_id(),
    constraint payments_parts_within_amount check (fee_amount + tax_amount <= amount),
    constraint payments_captured check ((captured_at is not null) = (status not in ('pending', 'failed'))),
    constraint payments_scale check (
        amount = round(amount, financial.minor_unit(currency::text))
        and fee_amount = round(fee_amount, financial.minor_unit(currency::text))
        and tax_amount = round(tax_amount, financial.minor_unit(currency::text))
    )
);
create index payments_user on payments.payments (user_id);
create index payments_event on payments.payments (event_id);
create index payments_captured on payments.payments (captured_at) where captured_at is not null;
create index payments_sync_xid on payments.payments (sync_xid);
comment on table payments.payments is 'One payment is one event and one currency; carts are split';
comment on column payments.payments.id is 'Row id';
comment on column payments.payments.user_id is 'Buyer';
comment on column payments.payments.event_id is 'For which event';
comment on column payments.payments.amount is 'What the buyer paid, everything included; equals the sum of its items';
comment on column payments.payments.fee_amount is 'Part of amount that is the platform''s fee; equals its fee items';
comment on column payments.payments.tax_amount is 'Part of amount that is tax; equals its tax items';
comment on column payments.payments.currency is 'ISO 4217';
comment on column payments.payments.payment_method is 'How the buyer paid';
comment on column payments.payments.status is 'State now';
comment on column payments.payments.transaction_id is 'Reference at the gateway';
comment on column payments.payments.gateway_response is 'Answer of the gateway; may be personal, never synced';
comment on column payments.payments.captured_at is 'When the money was taken (UTC); set once; decides the day of the sale';
comment on column payments.payments.created_at is 'When the row was made (UTC)';
comment on column payments.payments.updated_at is 'When the row last changed (UTC); never runs backwards';
comment on column payments.payments.deleted_at is 'When it was soft-deleted (UTC): a test or mistaken payment, gone from every day';
comment on column payments.payments.sync_xid is 'Transaction that last wrote the row; the sync reads by it';

create table tickets.tickets (
    id uuid primary key default gen_random_uuid(),
    ticket_type_id uuid not null references tickets.ticket_types,
    event_id uuid not null references events.events,
    user_id uuid references users.users,
    payment_id uuid references payments.payments,
    ticket_number varchar(50) not null unique,
    status tickets.ticket_status not null default 'active',
    is_complimentary boolean not null default false,
    transferred_from uuid unique references tickets.tickets,
    purchased_at timestamptz not null default now(),
    checked_in_at timestamptz,
    checked_in_by uuid references users.users,
    cancelled_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    sync_xid xid8 not null default pg_current_xact_id(),
    constraint tickets_checked_in check (status <> 'checked_in' or checked_in_at is not null),
    constraint tickets_transferred check (status <> 'transferred' or checked_in_at is null),
    constraint tickets_cancelled check (status <> 'cancelled' or cancelled_at is not null),
    constraint tickets_complimentary_unpaid check (not is_complimentary or payment_id is null),
    constraint tickets_not_from_itself check (transferred_from <> id),
    constraint tickets_handed_on_unpaid check (transferred_from is null or payment_id is null)
);
create index tickets_event on tickets.tickets (event_id);
create index tickets_event_status on tickets.tickets (event_id, status);
create index tickets_user on tickets.tickets (user_id);
create index tickets_type on tickets.tickets (ticket_type_id);
create index tickets_payment on tickets.tickets (payment_id) where payment_id is not null;
create index tickets_checked_in_by on tickets.tickets (checked_in_by) where checked_in_by is not null;
create index tickets_sync_xid on tickets.tickets (sync_xid);
-- control totals of single days
create index tickets_purchased_at on tickets.tickets (purchased_at) where payment_id is null;
create index tickets_checked_in_at on tickets.tickets (checked_in_at) where checked_in_at is not null;
create index tickets_cancelled_at on tickets.tickets (cancelled_at) where cancelled_at is not null;
comment on table tickets.tickets is 'One admission each; a transfer ends one ticket and makes another';
comment on column tickets.tickets.id is 'Row id';
comment on column tickets.tickets.ticket_type_id is 'Of which type';
comment on column tickets.tickets.event_id is 'For which event (that of its type)';
comment on column tickets.tickets.user_id is 'Holder';
comment on column tickets.tickets.payment_id is 'Payment it was bought with; null for free, complimentary and transferred-in tickets';
comment on column tickets.tickets.ticket_number is 'Printed number';
comment on column tickets.tickets.status is 'State now';
comment on column tickets.tickets.is_complimentary is 'Given away by the organizer';
comment on column tickets.tickets.transferred_from is 'Ticket that this one replaces';
comment on column tickets.tickets.purchased_at is 'When it was bought or given (UTC)';
comment on column tickets.tickets.checked_in_at is 'When it was scanned at the door (UTC)';
comment on column tickets.tickets.checked_in_by is 'Who scanned it';
comment on column tickets.tickets.cancelled_at is 'When it was cancelled (UTC)';
comment on column tickets.tickets.created_at is 'When the row was made (UTC)';
comment on column tickets.tickets.updated_at is 'When the row last changed (UTC); never runs backwards';
comment on column tickets.tickets.sync_xid is 'Transaction that last wrote the row; the sync reads by it';

create table payments.payment_items (
    id uuid primary key default gen_random_uuid(),
    payment_id uuid not null references payments.payments on delete cascade,
    ticket_id uuid references tickets.tickets,
    item_type payments.item_type not null,
    amount numeric(18, 3) not null,
    description text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    sync_xid xid8 not null default pg_current_xact_id(),
    constraint payment_items_only_discounts_negative check (case when item_type = 'discount' then amount < 0 else amount >= 0 end),
    constraint payment_items_ticket_has_ticket check (item_type <> 'ticket' or ticket_id is not null)
);
create index payment_items_payment on payments.payment_items (payment_id);
create index payment_items_ticket on payments.payment_items (ticket_id) where ticket_id is not null;
create index payment_items_sync_xid on payments.payment_items (sync_xid);
comment on table payments.payment_items is 'Parts of a payment; they add up to it, checked at commit';
comment on column payments.payment_items.id is 'Row id';
comment on column payments.payment_items.payment_id is 'Of which payment; its currency holds';
comment on column payments.payment_items.ticket_id is 'For which ticket; null for what belongs to the order as a whole';
comment on column payments.payment_items.item_type is 'ticket (face value), addon, fee, tax or discount';
comment on column payments.payment_items.amount is 'Negative for discounts only';
comment on column payments.payment_items.description is 'As printed on the receipt';
comment on column payments.payment_items.created_at is 'When the row was made (UTC)';
comment on column payments.payment_items.updated_at is 'When the row last changed (UTC); never runs backwards';
comment on column payments.payment_items.sync_xid is 'Transaction that last wrote the row; the sync reads by it';

create table payments.refunds (
    id uuid primary key default gen_random_uuid(),
    payment_id uuid not null references payments.payments,
    ticket_id uuid references tickets.tickets,
    amount numeric(18, 3) not null check (amount > 0),
    fee_amount numeric(18, 3) not null default 0 check (fee_amount >= 0),
    tax_amount numeric(18, 3) not null default 0 check (tax_amount >= 0),
    status payments.refund_status not null default 'pending',
    reason varchar(100),
    refunded_at timestamptz,
    reversed_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    sync_xid xid8 not null default pg_current_xact_id(),
    constraint refunds_parts_within_amount check (fee_amount + tax_amount <= amount),
    constraint refunds_refunded check ((status in ('succeeded', 'reversed')) = (refunded_at is not null)),
    constraint refunds_reversed check ((status = 'reversed') = (reversed_at is not null)),
    constraint refunds_reversed_after check (reversed_at is null or (refunded_at is not null and reversed_at >= refunded_at))
);
create index refunds_payment on payments.refunds (payment_id);
create index refunds_ticket on payments.refunds (ticket_id) where ticket_id is not null;
create index refunds_sync_xid on payments.refunds (sync_xid);
create index refunds_refunded_at on payments.refunds (refunded_at) where refunded_at is not null;
comment on table payments.refunds is 'Money given back; one that failed after it was posted is reversed, not changed';
comment on column payments.refunds.id is 'Row id';
comment on column payments.refunds.payment_id is 'Of which payment; its currency holds';
comment on column payments.refunds.ticket_id is 'For which ticket; null for the order as a whole';
comment on column payments.refunds.amount is 'What the buyer got back, everything included';
comment on column payments.refunds.fee_amount is 'Part of amount that was the platform''s fee';
comment on column payments.refunds.tax_amount is 'Part of amount that was tax';
comment on column payments.refunds.status is 'State now';
comment on column payments.refunds.reason is 'Why';
comment on column payments.refunds.refunded_at is 'When it was posted (UTC); set once; decides its day';
comment on column payments.refunds.reversed_at is 'When it came back (UTC); set once; decides the day of the reversal';
comment on column payments.refunds.created_at is 'When the row was made (UTC)';
comment on column payments.refunds.updated_at is 'When the row last changed (UTC); never runs backwards';
comment on column payments.refunds.sync_xid is 'Transaction that last wrote the row; the sync reads by it';

create table payments.chargebacks (
    id uuid primary key default gen_random_uuid(),
    payment_id uuid not null references payments.payments,
    amount numeric(18, 3) not null check (amount > 0),
    dispute_fee numeric(18, 3) not null default 0 check (dispute_fee >= 0),
    status payments.chargeback_status not null default 'open',
    reason varchar(100),
    charged_back_at timestamptz not null,
    reversed_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    sync_xid xid8 not null default pg_current_xact_id(),
    constraint chargebacks_reversed check ((status = 'won') = (reversed_at is not null)),
    constraint chargebacks_reversed_after check (reversed_at >= charged_back_at)
);
create index chargebacks_payment on payments.chargebacks (payment_id);
create index chargebacks_sync_xid on payments.chargebacks (sync_xid);
comment on table payments.chargebacks is 'Money that a bank took back; a dispute that is won comes back at reversed_at';
comment on column payments.chargebacks.id is 'Row id';
comment on column payments.chargebacks.payment_id is 'Of which payment; its currency holds';
comment on column payments.chargebacks.amount is 'What was taken';
comment on column payments.chargebacks.dispute_fee is 'What the bank charged for it; stands apart from net revenue';
comment on column payments.chargebacks.status is 'State now';
comment on column payments.chargebacks.reason is 'Reason code of the bank';
comment on column payments.chargebacks.charged_back_at is 'When it was taken (UTC); set once; decides its day';
comment on column payments.chargebacks.reversed_at is 'When it came back (UTC); set once; decides the day of the reversal';
comment on column payments.chargebacks.created_at is 'When the row was made (UTC)';
comment on column payments.chargebacks.updated_at is 'When the row last changed (UTC); never runs backwards';
comment on column payments.chargebacks.sync_xid is 'Transaction that last wrote the row; the sync reads by it';

create table financial.payouts (
    id uuid primary key default gen_random_uuid(),
    organization_id uuid not null references users.organizations,
    amount numeric(18, 3) not null check (amount > 0),
    currency char(3) not null references financial.currencies,
    status financial.payout_status not null default 'pending',
    period_start date not null,
    period_end date not null,
    paid_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    sync_xid xid8 not null default pg_current_xact_id(),
    constraint payouts_period check (period_end >= period_start),
    constraint payouts_paid check ((status = 'paid') = (paid_at is not null)),
    constraint payouts_scale check (amount = round(amount, financial.minor_unit(currency::text)))
);
create index payouts_organization on financial.payouts (organization_id, period_end);
create index payouts_sync_xid on financial.payouts (sync_xid);
comment on table financial.payouts is 'What organizations were paid out';
comment on column financial.payouts.id is 'Row id';
comment on column financial.payouts.organization_id is 'To whom';
comment on column financial.payouts.amount is 'How much';
comment on column financial.payouts.currency is 'ISO 4217';
comment on column financial.payouts.status is 'State';
comment on column financial.payouts.period_start is 'First local day it covers';
comment on column financial.payouts.period_end is 'Last local day it covers';
comment on column financial.payouts.paid_at is 'When it was paid (UTC)';
comment on column financial.payouts.created_at is 'When the row was made (UTC)';
comment on column financial.payouts.updated_at is 'When the row last changed (UTC); never runs backwards';
comment on column financial.payouts.sync_xid is 'Transaction that last wrote the row; the sync reads by it';

-- Items, refunds and chargebacks have no currency of their own, so a CHECK cannot see the scale.
create function payments.check_scale() returns trigger
language plpgsql as $$
declare
    payment_currency text;
    places integer;
    column_name text;
    value numeric;
begin
    select currency into payment_currency from payments.payments where id = new.payment_id;
    places := financial.minor_unit(payment_currency);
    foreach column_name in array tg_argv loop
        value := (to_jsonb(new) ->> column_name)::numeric;
        if value <> round(value, places) then
            raise exception '%.%.%: % % has more than % decimal places',
                tg_table_schema, tg_table_name, column_name, value, payment_currency, places
                using errcode = 'check_violation';
        end if;
    end loop;
    return new;
end
$$;
comment on function payments.check_scale() is 'Trigger: the named amounts have no more decimals than the currency of their payment';

-- A payment is judged whole, at commit: it and what hangs on it are written one after the other. The row lock
-- makes two refunds of it wait for each other; a transaction whose snapshot is fixed would not see the other's
-- even then, so it writes the row, and the later of the two fails (40001).
-- With its owner's rights: everything of the payment counts, whatever the writer may see or change.
create function payments.check_payment() returns trigger
language plpgsql security definer set search_path = pg_catalog as $$
declare
    paid payments.payments;
    items record;
    refunded record;
    charged_back record;
    wanted uuid;
    touched uuid[]; -- an item may move from one payment to another
    broken text[];
    facts text[];
    names text[];
begin
    if tg_table_name = 'payments' then
        touched := array[new.id];
    elsif tg_op = 'DELETE' then
        touched := array[old.payment_id];
    elsif tg_op = 'UPDATE' and old.payment_id <> new.payment_id then
        touched := array[old.payment_id, new.payment_id];
    else
        touched := array[new.payment_id];
    end if;
    foreach wanted in array touched loop
        if current_setting('transaction_isolation') = 'read committed' then
            select * into paid from payments.payments where id = wanted for no key update;
        else
            update payments.payments set updated_at = updated_at where id = wanted returning * into paid;
        end if;
        if not found then
            continue; -- deleted since, its items with it
        end if;
        names := '{}'; broken := '{}'; facts := '{}';

        select coalesce(sum(amount), 0) as amount,
               coalesce(sum(amount) filter (where item_type = 'fee'), 0) as fee,
               coalesce(sum(amount) filter (where item_type = 'tax'), 0) as tax
          into items from payments.payment_items where payment_id = wanted;
        if items.amount <> paid.amount or items.fee <> paid.fee_amount or items.tax <> paid.tax_amount then
            names := names || 'payments_items_add_up'::text;
            broken := broken || 'its items do not add up to it'::text;
            facts := facts || format('items: expected %s %s, fee %s, tax %s, found %s, fee %s, tax %s',
                paid.amount, paid.currency, paid.fee_amount, paid.tax_amount, items.amount, items.fee, items.tax);
        end if;

        if tg_table_name <> 'payment_items' then
            select coalesce(sum(amount) filter (where reversed_at is null), 0) as amount,
                   coalesce(sum(fee_amount) filter (where reversed_at is null), 0) as fee,
                   coalesce(sum(tax_amount) filter (where reversed_at is null), 0) as tax,
                   count(*) as number, min(refunded_at) as first_at
              into refunded from payments.refunds where payment_id = wanted and status <> 'failed';
            select coalesce(sum(amount) filter (where reversed_at is null), 0) as amount,
                   count(*) as number, min(charged_back_at) as first_at
              into charged_back from payments.chargebacks where payment_id = wanted;
            if refunded.amount > paid.amount or refunded.fee > paid.fee_amount or refunded.tax > paid.tax_amount then
                names := names || 'payments_refunds_within'::text;
                broken := broken || 'its refunds exceed it'::text;
                facts := facts || format(
                    'refunds that stand: expected at most %s %s, fee %s, tax %s, found %s, fee %s, tax %s',
                    paid.amount, paid.currency, paid.fee_amount, paid.tax_amount,
                    refunded.amount, refunded.fee, refunded.tax);
            end if;
            if charged_back.amount > paid.amount then
                names := names || 'payments_chargebacks_within'::text;
                broken := broken || 'its chargebacks exceed it'::text;
                facts := facts || format('chargebacks that were not won: expected at most %s %s, found %s',
                    paid.amount, paid.currency, charged_back.amount);
            end if;
            if refunded.number + charged_back.number > 0 and paid.captured_at is null
               or least(refunded.first_at, charged_back.first_at) < paid.captured_at then
                names := names || 'payments_captured_first'::text;
                broken := broken || 'money comes back that was not taken by then'::text;
                facts := facts || format('refunds and chargebacks: expected %s, found %s of them, the first %s',
                    coalesce('from ' || paid.captured_at || ' on, when it was captured', 'none, it was not captured'),
                    refunded.number + charged_back.number,
                    coalesce('at ' || least(refunded.first_at, charged_back.first_at), 'pending'));
            end if;
        end if;

        if broken <> '{}' then
            raise exception 'payment %: %', wanted, array_to_string(broken, '; ')
                using errcode = 'check_violation', schema = 'payments', table = tg_table_name,
                      constraint = names[1], detail = array_to_string(facts, E'\n');
        end if;
    end loop;
    return null;
end
$$;
comment on function payments.check_payment() is
    'Constraint trigger at commit: items add up to their payment; refunds and chargebacks that stand stay within it, and come after its capture';

-- Read without a lock: what it compares with is set once. A refund ends the ticket that it names, so that one is of
-- its payment, or was handed on from one that is. Of items only the ticket's own is: parking, or the fee of a
-- transfer, may be paid for later.
create function payments.check_ticket() returns trigger
language plpgsql as $$
declare
    event_of_ticket uuid;
    event_of_payment uuid;
    payment_of_ticket uuid;
begin
    if new.ticket_id is null then
        return new;
    end if;
    select event_id, payment_id into event_of_ticket, payment_of_ticket from tickets.tickets where id = new.ticket_id;
    select event_id into event_of_payment from payments.payments where id = new.payment_id;
    if event_of_ticket is distinct from event_of_payment then
        raise exception '% % is of a payment for event %, its ticket is for event %',
            tg_table_name, new.id, event_of_payment, event_of_ticket
            using errcode = 'check_violation', constraint = tg_table_name || '_ticket_of_event';
    end if;
    if tg_table_name = 'payment_items' then
        if new.item_type <> 'ticket' then
            return new;
        end if;
    elsif payment_of_ticket is null then
        with recursive chain as (
            select transferred_from, payment_id from tickets.tickets where id = new.ticket_id
            union -- and not `all`: a chain that bites its tail ends
            select t.transferred_from, t.payment_id from tickets.tickets t join chain c on t.id = c.transferred_from
        )
        select payment_id into payment_of_ticket from chain where payment_id is not null;
    end if;
    if payment_of_ticket is distinct from new.payment_id then
        raise exception '% % is of payment %, its ticket % was paid for with %',
            tg_table_name, new.id, new.payment_id, new.ticket_id, coalesce('payment ' || payment_of_ticket, 'none')
            using errcode = 'check_violation', constraint = tg_table_name || '_ticket_of_payment';
    end if;
    return new;
end
$$;
comment on function payments.check_ticket() is
    'Trigger: an item or refund names a ticket of its payment''s event; a refund and a ticket''s own item one of their payment';

create function tickets.log_capacity() returns trigger
language plpgsql security definer set search_path = pg_catalog as $$
begin
    if system.recovering(tg_relid) then
        return null; -- its own rows come back as well
    end if;
    insert into tickets.ticket_type_capacity_log (ticket_type_id, quantity, valid_from)
    values (new.id, new.quantity, case when tg_op = 'INSERT' then new.created_at else clock_timestamp() end)
    on conflict (ticket_type_id, valid_from) do update set quantity = excluded.quantity;
    return null;
end
$$;
comment on function tickets.log_capacity() is 'Trigger of ticket_types: remembers what quantity was when';

-- The row of the type is locked as its foreign key locks it a moment later: else its currency could change between.
create function tickets.check_ticket() returns trigger
language plpgsql as $$
declare
    of_type record;
    paid record;
begin
    select event_id, currency into of_type from tickets.ticket_types where id = new.ticket_type_id for key share;
    if of_type.event_id is distinct from new.event_id then
        raise exception 'ticket % is for event %, its type for event %', new.id, new.event_id, of_type.event_id
            using errcode = 'check_violation', constraint = 'tickets_type_of_event';
    end if;
    if new.payment_id is not null then
        select event_id, currency into paid from payments.payments where id = new.payment_id;
        if paid.event_id is distinct from new.event_id then
            raise exception 'ticket % is for event %, its payment for event %', new.id, new.event_id, paid.event_id
                using errcode = 'check_violation', constraint = 'tickets_payment_of_event';
        end if;
        if paid.currency is distinct from of_type.currency then
            raise exception 'ticket % is of a type in %, its payment is in %', new.id, of_type.currency, paid.currency
                using errcode = 'check_violation', constraint = 'tickets_payment_in_currency';
        end if;
    end if;
    return new;
end
$$;
comment on function tickets.check_ticket() is
    'Trigger: a ticket, its type and its payment are for one event and in one currency';

-- Corrected before the first sale, it is an organizer's slip; after it, the tickets would be of two currencies.
create function tickets.check_currency() returns trigger
language plpgsql as $$
declare
    sold_in_it integer;
begin
    -- waits for whoever is selling a ticket of this type, as a foreign key's lock (key share) alone would not
    perform from tickets.ticket_types where id = old.id for update;
    select count(*) into sold_in_it from tickets.tickets where ticket_type_id = old.id and payment_id is not null;
    if sold_in_it > 0 then
        raise exception 'the currency of ticket type % stays %: expected no ticket that was paid for, found %',
            old.id, old.currency, sold_in_it
            using errcode = 'restrict_violation', constraint = 'ticket_types_currency_of_payments',
                  hint = 'End this type (is_active, sales_end) and offer another one.';
    end if;
    return new;
end
$$;
comment on function tickets.check_currency() is
    'Trigger of ticket_types: the currency stays once a ticket was paid for in it';

create trigger check_ticket before insert or update of ticket_type_id, event_id, payment_id on tickets.tickets
    for each row execute function tickets.check_ticket();
create trigger check_currency before update of currency on tickets.ticket_types
    for each row when (new.currency <> old.currency) execute function tickets.check_currency();
create trigger log_capacity_insert after insert on tickets.ticket_types
    for each row execute function tickets.log_capacity();
create trigger log_capacity_update after update of quantity on tickets.ticket_types
    for each row when (new.quantity <> old.quantity) execute function tickets.log_capacity();

create trigger check_scale before insert or update on payments.payment_items
    for each row execute function payments.check_scale('amount');
create trigger check_scale before insert or update on payments.refunds
    for each row execute function payments.check_scale('amount', 'fee_amount', 'tax_amount');
create trigger check_scale before insert or update on payments.chargebacks
    for each row execute function payments.check_scale('amount', 'dispute_fee');

create trigger check_ticket before insert or update of payment_id, ticket_id, item_type on payments.payment_items
    for each row execute function payments.check_ticket();
create trigger check_ticket before insert or update of payment_id, ticket_id on payments.refunds
    for each row execute function payments.check_ticket();
create constraint trigger check_payment after insert or update of amount, fee_amount, tax_amount, captured_at on payments.payments
    deferrable initially deferred for each row execute function payments.check_payment();
create constraint trigger check_payment after insert or update or delete on payments.payment_items
    deferrable initially deferred for each row execute function payments.check_payment();
create constraint trigger check_payment after insert or update on payments.refunds
    deferrable initially deferred for each row execute function payments.check_payment();
create constraint trigger check_payment after insert or update on payments.chargebacks
    deferrable initially deferred for each row execute function payments.check_payment();

-- What tickets, items and refunds were checked against stays: event, currency, payment, the ticket before.
create trigger set_once before update on tickets.ticket_types
    for each row execute function system.set_once('event_id');
-- not for each check-in
create trigger set_once before update of event_id, payment_id, transferred_from on tickets.tickets
    for each row execute function system.set_once('event_id', 'payment_id', 'transferred_from');
create trigger set_once before update on payments.payments
    for each row execute function system.set_once('captured_at', 'event_id', 'currency');
create trigger set_once before update on payments.refunds
    for each row execute function system.set_once('refunded_at', 'reversed_at');
create trigger set_once before update on payments.chargebacks
    for each row execute function system.set_once('charged_back_at', 'reversed_at');
