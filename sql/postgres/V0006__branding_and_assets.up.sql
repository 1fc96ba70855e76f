-- description: Brand settings of organizers and the catalogue of files in the object store

create table branding.brand_settings (
    id uuid primary key default gen_random_uuid(),
    organizer_id uuid not null unique references users.users,
    primary_color varchar(7) check (primary_color ~ '^#[0-9a-fA-F]{6}$'),
    secondary_color varchar(7) check (secondary_color ~ '^#[0-9a-fA-F]{6}$'),
    logo_url text,
    favicon_url text,
    font_family varchar(100),
    custom_css text,
    custom_domain varchar(255) unique,
    ssl_status varchar(20) not null default 'pending' check (ssl_status in ('pending', 'active', 'failed')),
    domain_verified boolean not null default false,
    guidelines jsonb,
    consistency_score integer not null default 0 check (consistency_score between 0 and 100),
    settings jsonb not null default '{}',
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);
comment on table branding.brand_settings is 'Look of an organizer''s pages';
comment on column branding.brand_settings.id is 'Row id';
comment on column branding.brand_settings.organizer_id is 'Whose';
comment on column branding.brand_settings.primary_color is 'As #rrggbb';
comment on column branding.brand_settings.secondary_color is 'As #rrggbb';
comment on column branding.brand_settings.logo_url is 'Address of the logo';
comment on column branding.brand_settings.favicon_url is 'Address of the favicon';
comment on column branding.brand_settings.font_family is 'Font';
comment on column branding.brand_settings.custom_css is 'Own style sheet';
comment on column branding.brand_settings.custom_domain is 'Own host name';
comment on column branding.brand_settings.ssl_status is 'State of its certificate';
comment on column branding.brand_settings.domain_verified is 'Whether the organizer proved to own it';
comment on column branding.brand_settings.guidelines is 'Rules that pages are checked against';
comment on column branding.brand_settings.consistency_score is '0 to 100, how well pages follow them';
comment on column branding.brand_settings.settings is 'More';
comment on column branding.brand_settings.created_at is 'When the row was made (UTC)';
comment on column branding.brand_settings.updated_at is 'When the row last changed (UTC); never runs backwards';

create type assets.owner_type as enum ('user', 'organization', 'event', 'ticket');
comment on type assets.owner_type is 'Kind of thing a file belongs to';

create table assets.files (
    id uuid primary key default gen_random_uuid(),
    owner_type assets.owner_type not null,
    owner_id uuid not null,
    bucket varchar(63) not null,
    object_key varchar(1024) not null,
    content_type varchar(255) not null default 'application/octet-stream',
    sha256 char(64) not null check (sha256 ~ '^[0-9a-f]{64}$'),
    size bigint not null check (size >= 0),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    deleted_at timestamptz,
    unique (bucket, object_key)
);
create index files_owner on assets.files (owner_type, owner_id);
comment on table assets.files is 'What the application keeps in the object store';
comment on column assets.files.id is 'Row id';
comment on column assets.files.owner_type is 'Kind of thing it belongs to';
comment on column assets.files.owner_id is 'Which thing';
comment on column assets.files.bucket is 'Bucket';
comment on column assets.files.object_key is 'Key in the bucket';
comment on column assets.files.content_type is 'Media type';
comment on column assets.files.sha256 is 'Digest of the content, hexadecimal';
comment on column assets.files.size is 'Bytes';
comment on column assets.files.created_at is 'When the row was made (UTC)';
comment on column assets.files.updated_at is 'When the row last changed (UTC); never runs backwards';
comment on column assets.files.deleted_at is 'When it was soft-deleted (UTC)';
