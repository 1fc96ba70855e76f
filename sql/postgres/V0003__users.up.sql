-- description: Organizations, users, preferences, behaviour, sessions and login attempts

create type users.user_role as enum ('user', 'attendee', 'organizer', 'staff', 'admin');
create type users.user_status as enum ('active', 'inactive', 'suspended', 'deleted');
comment on type users.user_role is 'What a user may do';
comment on type users.user_status is 'State of an account';

create table users.organizations (
    id uuid primary key default gen_random_uuid(),
    name varchar(255) not null check (name <> ''),
    description text,
    website varchar(255),
    logo_url varchar(500),
    timezone varchar(64) not null default 'UTC',
    default_currency char(3) not null default 'USD' references financial.currencies,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    deleted_at timestamptz,
    sync_xid xid8 not null default pg_current_xact_id()
);
create index organizations_sync_xid on users.organizations (sync_xid);
comment on table users.organizations is 'Tenants; each owns the time zone in which its days are counted';
comment on column users.organizations.id is 'Row id';
comment on column users.organizations.name is 'Public name';
comment on column users.organizations.description is 'Public text';
comment on column users.organizations.website is 'Web address';
comment on column users.organizations.logo_url is 'Address of the logo';
comment on column users.organizations.timezone is 'IANA name; a metric day is a local day in it';
comment on column users.organizations.default_currency is 'Proposed for new ticket types';
comment on column users.organizations.created_at is 'When the row was made (UTC)';
comment on column users.organizations.updated_at is 'When the row last changed (UTC); never runs backwards';
comment on column users.organizations.deleted_at is 'When it was soft-deleted (UTC)';
comment on column users.organizations.sync_xid is 'Transaction that last wrote the row; the sync reads by it';

create table users.users (
    id uuid primary key default gen_random_uuid(),
    email varchar(255) not null check (email ~ '^[^@\s]+@[^@\s]+$'),
    password_hash varchar(255) not null,
    first_name varchar(100),
    last_name varchar(100),
    phone varchar(20),
    date_of_birth date,
    role users.user_role not null default 'user',
    status users.user_status not null default 'active',
    email_verified boolean not null default false,
    profile_data jsonb,
    preferences jsonb,
    organization_id uuid references users.organizations,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    deleted_at timestamptz,
    sync_xid xid8 not null default pg_current_xact_id()
);
create unique index users_email_key on users.users (lower(email));
create index users_role_status on users.users (role, status);
create index users_organization on users.users (organization_id) where organization_id is not null;
create index users_sync_xid on users.users (sync_xid);
comment on table users.users is 'Buyers, organizers, staff; of these only ids, role, status and dates reach ClickHouse';
comment on column users.users.id is 'Row id';
comment on column users.users.email is 'Unique without regard to case; personal';
comment on column users.users.password_hash is 'Salted hash; secret';
comment on column users.users.first_name is 'Personal';
comment on column users.users.last_name is 'Personal';
comment on column users.users.phone is 'Personal';
comment on column users.users.date_of_birth is 'Personal';
comment on column users.users.role is 'What the user may do';
comment on column users.users.status is 'State of the account';
comment on column users.users.email_verified is 'Whether the address answered';
comment on column users.users.profile_data is 'Free profile fields; personal';
comment on column users.users.preferences is 'Settings of the user interface';
comment on column users.users.organization_id is 'Organization of an organizer or staff member';
comment on column users.users.created_at is 'When the row was made (UTC)';
comment on column users.users.updated_at is 'When the row last changed (UTC); never runs backwards';
comment on column users.users.deleted_at is 'When it was soft-deleted (UTC)';
comment on column users.users.sync_xid is 'Transaction that last wrote the row; the sync reads by it';

create table users.user_preferences (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null references users.users on delete cascade,
    preference_key varchar(100) not null,
    preference_value text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (user_id, preference_key)
);
comment on table users.user_preferences is 'One row per user and preference';
comment on column users.user_preferences.id is 'Row id';
comment on column users.user_preferences.user_id is 'Whose';
comment on column users.user_preferences.preference_key is 'Which';
comment on column users.user_preferences.preference_value is 'Its value';
comment on column users.user_preferences.created_at is 'When the row was made (UTC)';
comment on column users.user_preferences.updated_at is 'When the row last changed (UTC); never runs backwards';

create table users.user_behavior (
    id uuid not null default gen_random_uuid(),
    user_id uuid,
    action varchar(100) not null,
    resource_type varchar(50),
    resource_id uuid,
    metadata jsonb,
    created_at timestamptz not null default now(),
    primary key (id, created_at)
) partition by range (created_at);
create index user_behavior_user on users.user_behavior (user_id, created_at);
comment on table users.user_behavior is 'What users did, never changed, by month; not synced; no foreign key, for a month must leave without locking users';
comment on column users.user_behavior.id is 'Row id, unique with created_at';
comment on column users.user_behavior.user_id is 'Who; null for a guest';
comment on column users.user_behavior.action is 'What was done';
comment on column users.user_behavior.resource_type is 'Kind of thing it was done to';
comment on column users.user_behavior.resource_id is 'Which thing';
comment on column users.user_behavior.metadata is 'More about it';
comment on column users.user_behavior.created_at is 'When (UTC); decides the partition and never changes';

create table authentication.sessions (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null references users.users on delete cascade,
    token_hash varchar(128) not null unique,
    user_agent text,
    ip_address inet,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    last_seen_at timestamptz,
    expires_at timestamptz not null,
    revoked_at timestamptz,
    check (expires_at > created_at)
);
create index sessions_user on authentication.sessions (user_id);
comment on table authentication.sessions is 'Durable record of sessions; the live ones are in Redis';
comment on column authentication.sessions.id is 'Row id';
comment on column authentication.sessions.user_id is 'Whose';
comment on column authentication.sessions.token_hash is 'Hash of the token; secret';
comment on column authentication.sessions.user_agent is 'Browser as it named itself';
comment on column authentication.sessions.ip_address is 'Address at login; personal';
comment on column authentication.sessions.created_at is 'Login (UTC)';
comment on column authentication.sessions.updated_at is 'When the row last changed (UTC); never runs backwards';
comment on column authentication.sessions.last_seen_at is 'Last request (UTC)';
comment on column authentication.sessions.expires_at is 'End at the latest (UTC)';
comment on column authentication.sessions.revoked_at is 'When it was ended early (UTC)';

create table authentication.login_attempts (
    id uuid primary key default gen_random_uuid(),
    user_id uuid references users.users on delete cascade,
    email varchar(255) not null,
    succeeded boolean not null,
    failure_reason varchar(100),
    ip_address inet,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    check (succeeded = (failure_reason is null))
);
create index login_attempts_email on authentication.login_attempts (lower(email), created_at);
create index login_attempts_user on authentication.login_attempts (user_id);
comment on table authentication.login_attempts is 'Every attempt, for throttling and forensics';
comment on column authentication.login_attempts.id is 'Row id';
comment on column authentication.login_attempts.user_id is 'The account, where one was found';
comment on column authentication.login_attempts.email is 'Address as typed; personal';
comment on column authentication.login_attempts.succeeded is 'Whether it let the user in';
comment on column authentication.login_attempts.failure_reason is 'Why not; null when it did';
comment on column authentication.login_attempts.ip_address is 'Where from; personal';
comment on column authentication.login_attempts.created_at is 'When (UTC)';
comment on column authentication.login_attempts.updated_at is 'When the row last changed (UTC); never runs backwards';
