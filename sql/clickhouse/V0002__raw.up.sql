-- description: Raw copies of the synced operational tables
-- Versions are batch numbers, so a repeated or reordered insert never wins over a later batch; FINAL only in the staging views.
-- The deduplication window makes a retried insert of the same block a no-op (inserts carry a token).

create table if not exists bilten_raw.users_organizations
(
    id UUID comment 'Row id',
    name String comment 'Public name of the organization',
    description Nullable(String) comment 'Public text',
    website Nullable(String) comment 'Web address',
    logo_url Nullable(String) comment 'Address of the logo',
    timezone LowCardinality(String) comment 'IANA name; metric days are local days in it',
    default_currency LowCardinality(String) comment 'ISO 4217',
    created_at DateTime64(6, 'UTC') comment 'When the row was made (UTC)',
    updated_at DateTime64(6, 'UTC') comment 'When the row last changed (UTC)',
    deleted_at Nullable(DateTime64(6, 'UTC')) comment 'When it was soft-deleted (UTC)',
    version UInt64 comment 'Number of the sync batch that wrote the row',
    is_deleted UInt8 comment '1: deleted in PostgreSQL; FINAL hides it'
)
engine = ReplacingMergeTree(version, is_deleted)
order by id
settings non_replicated_deduplication_window = 1000
comment 'Copy of users.organizations: tenants and the time zone of their days';

create table if not exists bilten_raw.users_users
(
    id UUID comment 'Row id',
    role LowCardinality(String) comment 'What the user may do',
    status LowCardinality(String) comment 'State of the account',
    email_verified Bool comment 'Whether the address answered',
    organization_id Nullable(UUID) comment 'Organization of an organizer or staff member',
    created_at DateTime64(6, 'UTC') comment 'When the row was made (UTC)',
    updated_at DateTime64(6, 'UTC') comment 'When the row last changed (UTC)',
    deleted_at Nullable(DateTime64(6, 'UTC')) comment 'When it was soft-deleted (UTC)',
    version UInt64 comment 'Number of the sync batch that wrote the row',
    is_deleted UInt8 comment '1: deleted in PostgreSQL; FINAL hides it'
)
engine = ReplacingMergeTree(version, is_deleted)
order by id
settings non_replicated_deduplication_window = 1000
comment 'Copy of users.users without anything personal: ids, role, status, dates';

create table if not exists bilten_raw.events_venues
(
    id UUID comment 'Row id',
    name String comment 'Public name',
    address String comment 'Street address of the place',
    city LowCardinality(String) comment 'City',
    country LowCardinality(String) comment 'Country',
    postal_code Nullable(String) comment 'Postal code',
    latitude Nullable(Decimal(9, 6)) comment 'Degrees north',
    longitude Nullable(Decimal(9, 6)) comment 'Degrees east',
    capacity Nullable(Int32) comment 'People the place holds',
    amenities Array(String) comment 'What it offers',
    created_at DateTime64(6, 'UTC') comment 'When the row was made (UTC)',
    updated_at DateTime64(6, 'UTC') comment 'When the row last changed (UTC)',
    deleted_at Nullable(DateTime64(6, 'UTC')) comment 'When it was soft-deleted (UTC)',
    version UInt64 comment 'Number of the sync batch that wrote the row',
    is_deleted UInt8 comment '1: deleted in PostgreSQL; FINAL hides it'
)
engine = ReplacingMergeTree(version, is_deleted)
order by id
settings non_replicated_deduplication_window = 1000
comment 'Copy of events.venues: places where events happen';

create table if not exists bilten_raw.events_events
(
    id UUID comment 'Row id',
    organizer_id UUID comment 'User who runs it',
    organization_id Nullable(UUID) comment 'Tenant; its time zone decides the metric days (UTC where there is none)',
    venue_id Nullable(UUID) comment 'Where; null for online events',
    title String comment 'Public title',
    description Nullable(String) comment 'Public text',
    category LowCardinality(Nullable(String)) comment 'Such as music, sport, conference',
    tags Array(String) comment 'Free tags',
    start_date DateTime64(6, 'UTC') comment 'Doors (UTC instant)',
    end_date DateTime64(6, 'UTC') comment 'End (UTC instant)',
    start_local_date Date32 comment 'Local day of start_date in the organization''s zone; computed by PostgreSQL',
    timezone LowCardinality(String) comment 'IANA zone in which the event is announced',
    location Nullable(String) comment 'Venue, address and coordinates as the application shows them, as JSON',
    capacity Nullable(Int32) comment 'People admitted',
    status LowCardinality(String) comment 'Life cycle',
    visibility LowCardinality(String) comment 'Who finds it',
    settings String comment 'Settings as JSON',
    metadata String comment 'More, as JSON',
    created_at DateTime64(6, 'UTC') comment 'When the row was made (UTC)',
    updated_at DateTime64(6, 'UTC') comment 'When the row last changed (UTC)',
    deleted_at Nullable(DateTime64(6, 'UTC')) comment 'When it was soft-deleted (UTC)',
    version UInt64 comment 'Number of the sync batch that wrote the row',
    is_deleted UInt8 comment '1: deleted in PostgreSQL; FINAL hides it'
)
engine = ReplacingMergeTree(version, is_deleted)
order by id
settings non_replicated_deduplication_window = 1000
comment 'Copy of events.events: what is sold';

create table if not exists bilten_raw.tickets_ticket_types
(
    id UUID comment 'Row id',
    event_id UUID comment 'For which event',
    name String comment 'Such as General admission or VIP',
    description Nullable(String) comment 'Public text',
    price Decimal(18, 3) comment 'Face value now; 0 is free',
    currency LowCardinality(String) comment 'ISO 4217',
    quantity Int32 comment 'Seats of this type now',
    sold Int32 comment 'Tickets of this type that hold a seat now',
    reserved Int32 comment 'Seats held in carts now',
    sales_start Nullable(DateTime64(6, 'UTC')) comment 'On sale from (UTC)',
    sales_end Nullable(DateTime64(6, 'UTC')) comment 'On sale until (UTC)',
    is_active Bool comment 'Whether it is offered',
    settings String comment 'Such as transferable, refundable, as JSON',
    created_at DateTime64(6, 'UTC') comment 'When the row was made (UTC)',
    updated_at DateTime64(6, 'UTC') comment 'When the row last changed (UTC)',
    deleted_at Nullable(DateTime64(6, 'UTC')) comment 'When it was soft-deleted (UTC)',
    version UInt64 comment 'Number of the sync batch that wrote the row',
    is_deleted UInt8 comment '1: deleted in PostgreSQL; FINAL hides it'
)
engine = ReplacingMergeTree(version, is_deleted)
order by id
settings non_replicated_deduplication_window = 1000
comment 'Copy of tickets.ticket_types: what can be bought, at which price, how many';

create table if not exists bilten_raw.tickets_ticket_type_capacity_log
(
    id UUID comment 'Row id',
    ticket_type_id UUID comment 'Which ticket type',
    quantity Int32 comment 'Seats from valid_from on',
    valid_from DateTime64(6, 'UTC') comment 'Since when (UTC)',
    valid_from_date Date32 comment 'Local day of valid_from; computed by PostgreSQL',
    created_at DateTime64(6, 'UTC') comment 'When the row was made (UTC)',
    updated_at DateTime64(6, 'UTC') comment 'When the row last changed (UTC)',
    version UInt64 comment 'Number of the sync batch that wrote the row',
    is_deleted UInt8 comment '1: deleted in PostgreSQL; FINAL hides it'
)
engine = ReplacingMergeTree(version, is_deleted)
order by id
settings non_replicated_deduplication_window = 1000
comment 'Copy of tickets.ticket_type_capacity_log: what quantity was when';

create table if not exists bilten_raw.tickets_tickets
(
    id UUID comment 'Row id',
    ticket_type_id UUID comment 'Of which type',
    event_id UUID comment 'For which event',
    user_id Nullable(UUID) comment 'Holder',
    payment_id Nullable(UUID) comment 'Payment it was bought with; null for free, complimentary and transferred-in tickets',
    ticket_number String comment 'Printed number',
    status LowCardinality(String) comment 'State now',
    is_complimentary Bool comment 'Given away by the organizer',
    transferred_from Nullable(UUID) comment 'Ticket that this one replaces',
    purchased_at DateTime64(6, 'UTC') comment 'When it was bought or given (UTC)',
    purchased_date Date32 comment 'Local day of purchased_at; computed by PostgreSQL',
    checked_in_at Nullable(DateTime64(6, 'UTC')) comment 'When it was scanned at the door (UTC)',
    checked_in_date Nullable(Date32) comment 'Local day of checked_in_at; computed by PostgreSQL',
    checked_in_by Nullable(UUID) comment 'Who scanned it',
    cancelled_at Nullable(DateTime64(6, 'UTC')) comment 'When it was cancelled (UTC)',
    cancelled_date Nullable(Date32) comment 'Local day of cancelled_at; computed by PostgreSQL',
    created_at DateTime64(6, 'UTC') comment 'When the row was made (UTC)',
    updated_at DateTime64(6, 'UTC') comment 'When the row last changed (UTC)',
    version UInt64 comment 'Number of the sync batch that wrote the row',
    is_deleted UInt8 comment '1: deleted in PostgreSQL; FINAL hides it'
)
engine = ReplacingMergeTree(version, is_deleted)
order by id
settings non_replicated_deduplication_window = 1000
comment 'Copy of tickets.tickets: one admission each';

create table if not exists bilten_raw.payments_payments
(
    id UUID comment 'Row id',
    user_id UUID comment 'Buyer',
    event_id UUID comment 'For which event',
    amount Decimal(18, 3) comment 'What the buyer paid, everything included',
    fee_amount Decimal(18, 3) comment 'Part of amount that is the platform''s fee',
    tax_amount Decimal(18, 3) comment 'Part of amount that is tax',
    currency LowCardinality(String) comment 'ISO 4217',
    payment_method LowCardinality(String) comment 'How the buyer paid',
    status LowCardinality(String) comment 'State now; past days do not depend on it',
    transaction_id Nullable(String) comment 'Reference at the gateway',
    captured_at Nullable(DateTime64(6, 'UTC')) comment 'When the money was taken (UTC)',
    captured_date Nullable(Date32) comment 'Local day of captured_at; computed by PostgreSQL',
    created_at DateTime64(6, 'UTC') comment 'When the row was made (UTC)',
    updated_at DateTime64(6, 'UTC') comment 'When the row last changed (UTC)',
    deleted_at Nullable(DateTime64(6, 'UTC')) comment 'When it was soft-deleted (UTC)',
    version UInt64 comment 'Number of the sync batch that wrote the row',
    is_deleted UInt8 comment '1: deleted in PostgreSQL; FINAL hides it'
)
engine = ReplacingMergeTree(version, is_deleted)
order by id
settings non_replicated_deduplication_window = 1000
comment 'Copy of payments.payments: one payment is one event and one currency';

create table if not exists bilten_raw.payments_payment_items
(
    id UUID comment 'Row id',
    payment_id UUID comment 'Of which payment; its currency holds',
    ticket_id Nullable(UUID) comment 'For which ticket',
    item_type LowCardinality(String) comment 'ticket, addon, fee, tax or discount',
    amount Decimal(18, 3) comment 'Negative for discounts only',
    description Nullable(String) comment 'As printed on the receipt',
    created_at DateTime64(6, 'UTC') comment 'When the row was made (UTC)',
    updated_at DateTime64(6, 'UTC') comment 'When the row last changed (UTC)',
    version UInt64 comment 'Number of the sync batch that wrote the row',
    is_deleted UInt8 comment '1: deleted in PostgreSQL; FINAL hides it'
)
engine = ReplacingMergeTree(version, is_deleted)
order by id
settings non_replicated_deduplication_window = 1000
comment 'Copy of payments.payment_items: parts of a payment';

create table if not exists bilten_raw.payments_refunds
(
    id UUID comment 'Row id',
    payment_id UUID comment 'Of which payment; its currency holds',
    ticket_id Nullable(UUID) comment 'For which ticket; null for the order as a whole',
    amount Decimal(18, 3) comment 'What the buyer got back, everything included',
    fee_amount Decimal(18, 3) comment 'Part of amount that was the platform''s fee',
    tax_amount Decimal(18, 3) comment 'Part of amount that was tax',
    status LowCardinality(String) comment 'State now; past days do not depend on it',
    reason Nullable(String) comment 'Why',
    refunded_at Nullable(DateTime64(6, 'UTC')) comment 'When it was posted (UTC)',
    refunded_date Nullable(Date32) comment 'Local day of refunded_at; computed by PostgreSQL',
    reversed_at Nullable(DateTime64(6, 'UTC')) comment 'When it came back (UTC)',
    reversed_date Nullable(Date32) comment 'Local day of reversed_at; computed by PostgreSQL',
    created_at DateTime64(6, 'UTC') comment 'When the row was made (UTC)',
    updated_at DateTime64(6, 'UTC') comment 'When the row last changed (UTC)',
    version UInt64 comment 'Number of the sync batch that wrote the row',
    is_deleted UInt8 comment '1: deleted in PostgreSQL; FINAL hides it'
)
engine = ReplacingMergeTree(version, is_deleted)
order by id
settings non_replicated_deduplication_window = 1000
comment 'Copy of payments.refunds: money given back';

create table if not exists bilten_raw.payments_chargebacks
(
    id UUID comment 'Row id',
    payment_id UUID comment 'Of which payment; its currency holds',
    amount Decimal(18, 3) comment 'What was taken',
    dispute_fee Decimal(18, 3) comment 'What the bank charged for it',
    status LowCardinality(String) comment 'State now; past days do not depend on it',
    reason Nullable(String) comment 'Reason code of the bank',
    charged_back_at DateTime64(6, 'UTC') comment 'When it was taken (UTC)',
    charged_back_date Date32 comment 'Local day of charged_back_at; computed by PostgreSQL',
    reversed_at Nullable(DateTime64(6, 'UTC')) comment 'When it came back (UTC)',
    reversed_date Nullable(Date32) comment 'Local day of reversed_at; computed by PostgreSQL',
    created_at DateTime64(6, 'UTC') comment 'When the row was made (UTC)',
    updated_at DateTime64(6, 'UTC') comment 'When the row last changed (UTC)',
    version UInt64 comment 'Number of the sync batch that wrote the row',
    is_deleted UInt8 comment '1: deleted in PostgreSQL; FINAL hides it'
)
engine = ReplacingMergeTree(version, is_deleted)
order by id
settings non_replicated_deduplication_window = 1000
comment 'Copy of payments.chargebacks: money that a bank took back';

create table if not exists bilten_raw.financial_currencies
(
    code LowCardinality(String) comment 'ISO 4217',
    name String comment 'English name',
    minor_unit Int16 comment 'Decimal places',
    symbol Nullable(String) comment 'Sign used in print',
    created_at DateTime64(6, 'UTC') comment 'When the row was made (UTC)',
    updated_at DateTime64(6, 'UTC') comment 'When the row last changed (UTC)',
    version UInt64 comment 'Number of the sync batch that wrote the row',
    is_deleted UInt8 comment '1: deleted in PostgreSQL; FINAL hides it'
)
engine = ReplacingMergeTree(version, is_deleted)
order by code
settings non_replicated_deduplication_window = 1000
comment 'Copy of financial.currencies: ISO 4217 with minor units';

create table if not exists bilten_raw.financial_exchange_rates
(
    rate_date Date32 comment 'Day the rate holds for',
    from_currency LowCardinality(String) comment 'Currency of the amount at hand',
    to_currency LowCardinality(String) comment 'Currency wanted',
    rate Decimal(20, 10) comment 'Amount in from_currency times rate is the amount in to_currency',
    created_at DateTime64(6, 'UTC') comment 'When the row was made (UTC)',
    updated_at DateTime64(6, 'UTC') comment 'When the row last changed (UTC)',
    version UInt64 comment 'Number of the sync batch that wrote the row',
    is_deleted UInt8 comment '1: deleted in PostgreSQL; FINAL hides it'
)
engine = ReplacingMergeTree(version, is_deleted)
order by (rate_date, from_currency, to_currency)
settings non_replicated_deduplication_window = 1000
comment 'Copy of financial.exchange_rates: one rate per day and pair';

create table if not exists bilten_raw.financial_payouts
(
    id UUID comment 'Row id',
    organization_id UUID comment 'To whom',
    amount Decimal(18, 3) comment 'How much',
    currency LowCardinality(String) comment 'ISO 4217',
    status LowCardinality(String) comment 'State now',
    period_start Date32 comment 'First local day it covers',
    period_end Date32 comment 'Last local day it covers',
    paid_at Nullable(DateTime64(6, 'UTC')) comment 'When it was paid (UTC)',
    created_at DateTime64(6, 'UTC') comment 'When the row was made (UTC)',
    updated_at DateTime64(6, 'UTC') comment 'When the row last changed (UTC)',
    version UInt64 comment 'Number of the sync batch that wrote the row',
    is_deleted UInt8 comment '1: deleted in PostgreSQL; FINAL hides it'
)
engine = ReplacingMergeTree(version, is_deleted)
order by id
settings non_replicated_deduplication_window = 1000
comment 'Copy of financial.payouts: what organizations were paid out';
