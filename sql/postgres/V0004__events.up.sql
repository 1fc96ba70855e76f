-- description: Venues, events and per-event analytics

create type events.event_status as enum ('draft', 'published', 'cancelled', 'completed');
create type events.event_visibility as enum ('public', 'private', 'unlisted');
comment on type events.event_status is 'Life cycle of an event';
comment on type events.event_visibility is 'Who finds an event';

create table events.venues (
    id uuid primary key default gen_random_uuid(),
    name varchar(255) not null,
    address text not null,
    city varchar(100) not null,
    country varchar(100) not null,
    postal_code varchar(20),
    latitude numeric(9, 6) check (latitude between -90 and 90),
    longitude numeric(9, 6) check (longitude between -180 and 180),
    capacity integer check (capacity > 0),
    amenities text[] not null default '{}',
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    deleted_at timestamptz,
    sync_xid xid8 not null default pg_current_xact_id(),
    check ((latitude is null) = (longitude is null))
);
create index venues_city on events.venues (country, city);
create index venues_sync_xid on events.venues (sync_xid);
comment on table events.venues is 'Places where events happen';
comment on column events.venues.id is 'Row id';
comment on column events.venues.name is 'Public name';
comment on column events.venues.address is 'Street address of the place';
comment on column events.venues.city is 'City';
comment on column events.venues.country is 'ISO 3166 alpha-2 code or name';
comment on column events.venues.postal_code is 'Postal code';
comment on column events.venues.latitude is 'Degrees north';
comment on column events.venues.longitude is 'Degrees east';
comment on column events.venues.capacity is 'People the place holds';
comment on column events.venues.amenities is 'What it offers, such as parking or step-free access';
comment on column events.venues.created_at is 'When the row was made (UTC)';
comment on column events.venues.updated_at is 'When the row last changed (UTC); never runs backwards';
comment on column events.venues.deleted_at is 'When it was soft-deleted (UTC)';
comment on column events.venues.sync_xid is 'Transaction that last wrote the row; the sync reads by it';

create table events.events (
    id uuid primary key default gen_random_uuid(),
    organizer_id uuid not null references users.users,
    organization_id uuid references users.organizations,
    venue_id uuid references events.venues,
    title varchar(255) not null check (title <> ''),
    description text,
    category varchar(100),
    tags text[] not null default '{}',
    start_date timestamptz not null,
    end_date timestamptz not null,
    timezone varchar(64) not null default 'UTC',
    location jsonb,
    capacity integer check (capacity > 0),
    status events.event_status not null default 'draft',
    visibility events.event_visibility not null default 'public',
    settings jsonb not null default '{}',
    metadata jsonb not null default '{}',
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    deleted_at timestamptz,
    sync_xid xid8 not null default pg_current_xact_id(),
    check (end_date > start_date)
);
create index events_organizer on events.events (organizer_id);
create index events_organization on events.events (organization_id);
create index events_venue on events.events (venue_id);
create index events_status_start on events.events (status, start_date);
create index events_category on events.events (category);
create index events_location on events.events using gin (location);
create index events_full_text on events.events using gin (to_tsvector('english', title || ' ' || coalesce(description, '')));
create index events_sync_xid on events.events (sync_xid);
comment on table events.events is 'Events that are sold, from draft to completed';
comment on column events.events.id is 'Row id';
comment on column events.events.organizer_id is 'User who runs it';
comment on column events.events.organization_id is 'Tenant; its time zone decides the metric days (UTC where there is none)';
comment on column events.events.venue_id is 'Where; null for online events';
comment on column events.events.title is 'Public title';
comment on column events.events.description is 'Public text';
comment on column events.events.category is 'Such as music, sport, conference';
comment on column events.events.tags is 'Free tags';
comment on column events.events.start_date is 'Doors (UTC instant)';
comment on column events.events.end_date is 'End (UTC instant), after start_date';
comment on column events.events.timezone is 'IANA zone in which the event is announced';
comment on column events.events.location is 'Denormalised venue, address and coordinates as the application shows them';
comment on column events.events.capacity is 'People admitted';
comment on column events.events.status is 'Life cycle';
comment on column events.events.visibility is 'Who finds it';
comment on column events.events.settings is 'Settings of the event';
comment on column events.events.metadata is 'More about it';
comment on column events.events.created_at is 'When the row was made (UTC)';
comment on column events.events.updated_at is 'When the row last changed (UTC); never runs backwards';
comment on column events.events.deleted_at is 'When it was soft-deleted (UTC)';
comment on column events.events.sync_xid is 'Transaction that last wrote the row; the sync reads by it';

create table events.event_analytics (
    id uuid not null default gen_random_uuid(),
    event_id uuid not null,
    metric_name varchar(100) not null,
    metric_value numeric(18, 3) not null,
    user_id uuid,
    created_at timestamptz not null default now(),
    primary key (id, created_at)
) partition by range (created_at);
create index event_analytics_event on events.event_analytics (event_id, metric_name, created_at);
comment on table events.event_analytics is 'What the application counts per event, one row each time and never changed, by month; not synced; no foreign key, for a month must leave without locking events';
comment on column events.event_analytics.id is 'Row id, unique with created_at';
comment on column events.event_analytics.event_id is 'Which event';
comment on column events.event_analytics.metric_name is 'Such as view or share';
comment on column events.event_analytics.metric_value is 'By how much it counts';
comment on column events.event_analytics.user_id is 'Who caused it, where known';
comment on column events.event_analytics.created_at is 'When it was recorded (UTC); decides the partition and never changes';
