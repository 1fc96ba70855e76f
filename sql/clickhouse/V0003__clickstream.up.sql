-- description: Clickstream, rejected rows, and per-minute metrics

-- The sort key is the seed's, without nullable columns: the zero UUID stands for none. local_date is
-- no part of it, so that a changed time zone can be written by a mutation. Duplicates (same click_id)
-- share the whole sort key, so merges drop them in time; readers must not rely on it.
create table if not exists analytics.events
(
    click_id UUID comment 'The row''s own id; a repeated delivery repeats it',
    event_id UUID default toUUID('00000000-0000-0000-0000-000000000000') comment 'Ticketed event; zero UUID for pages that belong to none',
    session_id UUID comment 'Browser session',
    user_id UUID default toUUID('00000000-0000-0000-0000-000000000000') comment 'Logged-in user; zero UUID for a guest',
    visitor_id UUID comment 'Browser, from a first-party cookie; unlike user_id it is always there',
    organizer_id UUID default toUUID('00000000-0000-0000-0000-000000000000') comment 'Organizer of the event; zero UUID for none',
    event_type LowCardinality(String) comment 'page_view, checkout_started, search, share, click',
    event_name LowCardinality(String) comment 'Finer name within event_type',
    timestamp DateTime64(3, 'UTC') comment 'When it happened (UTC)',
    local_date Date32 comment 'Local day of timestamp in the organization''s zone (UTC for pages that belong to no event)',
    properties Map(LowCardinality(String), String) comment 'Allowed keys only: utm_source, utm_medium, utm_campaign, device, country, ticket_type_id, quantity',
    user_agent String comment 'Browser as it named itself',
    ip_address String comment 'Truncated: IPv4 to /24, IPv6 to /48',
    referrer String comment 'Scheme, host and path of the page before; no query',
    page_url String comment 'Scheme, host and path; of the query only utm parameters',
    ingested_at DateTime64(3, 'UTC') default now64(3) comment 'When it was written (UTC); up to 72 h after timestamp',
    created_date Date materialized toDate(timestamp) comment 'UTC day of timestamp'
)
engine = ReplacingMergeTree(ingested_at)
partition by toYYYYMM(created_date)
order by (created_date, organizer_id, event_type, timestamp, click_id)
settings non_replicated_deduplication_window = 1000
comment 'Clickstream; one row per click, duplicates possible until merged (deduplicate by click_id)';

create table if not exists analytics.events_rejected
(
    received_at DateTime64(3, 'UTC') default now64(3) comment 'When it was refused (UTC)',
    reason LowCardinality(String) comment 'Which rule it broke',
    fields Array(LowCardinality(String)) comment 'Names of the fields at fault',
    row_hash UInt64 comment 'Hash of the row, to recognise a repeated one; the row itself may be personal and is not kept'
)
engine = ReplacingMergeTree
partition by toYYYYMM(received_at)
order by (toDate(received_at), reason, row_hash)
settings non_replicated_deduplication_window = 1000
comment 'Clickstream rows that were refused, without their content; with FINAL once a day, however often they were sent';

create table if not exists analytics.click_relocations
(
    relocation_id UUID comment 'One rewriting of local days',
    timezone LowCardinality(String) comment 'IANA name of the zone that holds now',
    day_before Date32 comment 'Local day that lost clicks',
    day_after Date32 comment 'Local day that gained them',
    clicks UInt64 comment 'Rows moved, duplicates included',
    moved_at DateTime64(3, 'UTC') default now64(3) comment 'When (UTC)'
)
engine = MergeTree
order by relocation_id
settings non_replicated_deduplication_window = 1000
comment 'Days concerned by a changed time zone, until the sync has marked them for rebuilding';

create table if not exists analytics.metrics_realtime
(
    minute DateTime('UTC') comment 'Minute (UTC)',
    organizer_id UUID comment 'Organizer; zero UUID for none',
    event_id UUID comment 'Ticketed event; zero UUID for none',
    event_type LowCardinality(String) comment 'Type of click',
    clicks AggregateFunction(uniq, UUID) comment 'State of distinct click_id: a repeated delivery counts once',
    unique_visitors AggregateFunction(uniq, UUID) comment 'State of distinct visitor_id',
    unique_users AggregateFunction(uniqIf, UUID, UInt8) comment 'State of distinct user_id without guests',
    unique_sessions AggregateFunction(uniq, UUID) comment 'State of distinct session_id',
    deliveries SimpleAggregateFunction(sum, UInt64) comment 'Rows written, repeated deliveries included'
)
engine = AggregatingMergeTree
partition by toYYYYMM(minute)
order by (minute, organizer_id, event_id, event_type)
settings non_replicated_deduplication_window = 1000
comment 'Clicks per minute as states; read it through analytics.realtime_minutes';

create materialized view if not exists analytics.events_realtime to analytics.metrics_realtime
(
    minute DateTime('UTC'),
    organizer_id UUID,
    event_id UUID,
    event_type LowCardinality(String),
    clicks AggregateFunction(uniq, UUID),
    unique_visitors AggregateFunction(uniq, UUID),
    unique_users AggregateFunction(uniqIf, UUID, UInt8),
    unique_sessions AggregateFunction(uniq, UUID),
    deliveries SimpleAggregateFunction(sum, UInt64)
)
as select
    toStartOfMinute(toDateTime(timestamp, 'UTC')) as minute,
    organizer_id,
    event_id,
    event_type,
    uniqState(click_id) as clicks,
    uniqState(visitor_id) as unique_visitors,
    uniqIfState(user_id, user_id <> toUUID('00000000-0000-0000-0000-000000000000')) as unique_users,
    uniqState(session_id) as unique_sessions,
    count() as deliveries
from analytics.events
group by minute, organizer_id, event_id, event_type
comment 'Feeds analytics.metrics_realtime with what is inserted into analytics.events';

create or replace view analytics.realtime_minutes
(
    minute DateTime('UTC') comment 'Minute (UTC)',
    organizer_id UUID comment 'Organizer; zero UUID for none',
    event_id UUID comment 'Ticketed event; zero UUID for none',
    event_type LowCardinality(String) comment 'Type of click',
    event_count UInt64 comment 'Distinct clicks; a repeated delivery counts once',
    visitors UInt64 comment 'Distinct browsers',
    users UInt64 comment 'Distinct logged-in users',
    sessions UInt64 comment 'Distinct browser sessions',
    delivered_rows UInt64 comment 'Rows written, repeated deliveries included'
)
as
select
    minute,
    organizer_id,
    event_id,
    event_type,
    uniqMerge(clicks) as event_count,
    uniqMerge(unique_visitors) as visitors,
    uniqIfMerge(unique_users) as users,
    uniqMerge(unique_sessions) as sessions,
    sum(deliveries) as delivered_rows
from analytics.metrics_realtime
group by minute, organizer_id, event_id, event_type
comment 'Clicks per minute, organizer, event and type; distinct counts must not be added up over minutes';
