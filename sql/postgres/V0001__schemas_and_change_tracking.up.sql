-- description: Schemas, roles, extensions, and the functions by which every table tracks its changes

create extension if not exists pg_stat_statements;
create extension if not exists amcheck;
create extension if not exists pg_visibility;

-- Roles have no password and no login here: the set-up gives both, so that no secret is in a file.
do $$
declare
    role_name text;
begin
    foreach role_name in array array['bilten_app', 'bilten_readonly', 'bilten_etl'] loop
        if not exists (select from pg_roles where rolname = role_name) then
            execute format('create role %I', role_name);
        end if;
    end loop;
end
$$;

create schema users;
create schema authentication;
create schema events;
create schema tickets;
create schema payments;
create schema financial;
create schema branding;
create schema assets;
create schema audit;

comment on schema users is 'People and organizations (tenants)';
comment on schema authentication is 'Sessions and login attempts';
comment on schema events is 'Venues, events, and what is measured about them';
comment on schema tickets is 'Ticket types and tickets';
comment on schema payments is 'Payments, their items, refunds and chargebacks';
comment on schema financial is 'Currencies, exchange rates, payouts';
comment on schema branding is 'Look of organizers'' pages';
comment on schema assets is 'Files in the object store';
comment on schema audit is 'Who changed what';

-- The sync reads rows by sync_xid and never by updated_at: xids are ordered against a snapshot's
-- xmin, clocks are not. updated_at is for people; it still never runs backwards in a row, although
-- now() does under lock waits.
create function system.track_change() returns trigger
language plpgsql as $$
begin
    if tg_op = 'UPDATE' then
        if new.id is distinct from old.id then
            raise exception 'the id of %.% cannot change', tg_table_schema, tg_table_name
                using errcode = 'restrict_violation', hint = 'Delete the row and insert another.';
        end if;
        new.updated_at := greatest(clock_timestamp(), old.updated_at + interval '1 microsecond');
    end if;
    new.sync_xid := pg_current_xact_id();
    return new;
end
$$;
comment on function system.track_change() is
    'Trigger of synced tables with an id: updated_at never runs backwards, sync_xid is the writing transaction';

-- Arguments: the key columns.
create function system.track_change_by_natural_key() returns trigger
language plpgsql as $$
declare
    column_name text;
begin
    if tg_op = 'UPDATE' then
        foreach column_name in array tg_argv loop
            if to_jsonb(old) -> column_name is distinct from to_jsonb(new) -> column_name then
                raise exception '%.%.% is part of the key and cannot change', tg_table_schema, tg_table_name, column_name
                    using errcode = 'restrict_violation', hint = 'Delete the row and insert another.';
            end if;
        end loop;
        new.updated_at := greatest(clock_timestamp(), old.updated_at + interval '1 microsecond');
    end if;
    new.sync_xid := pg_current_xact_id();
    return new;
end
$$;
comment on function system.track_change_by_natural_key() is
    'Trigger of synced tables with a natural key: as system.track_change; a changed key would leave the old one without a tombstone';

create function system.touch_updated_at() returns trigger
language plpgsql as $$
begin
    new.updated_at := greatest(clock_timestamp(), old.updated_at + interval '1 microsecond');
    return new;
end
$$;
comment on function system.touch_updated_at() is 'Trigger of tables that are not synced: updated_at never runs backwards';

create function system.refuse_truncate() returns trigger
language plpgsql as $$
begin
    raise exception 'TRUNCATE of %.% is refused: it leaves no tombstones for the sync', tg_table_schema, tg_table_name
        using errcode = 'feature_not_supported', hint = 'Use DELETE, or disable the trigger and reconcile after.';
end
$$;
comment on function system.refuse_truncate() is 'Trigger: a truncated table would stay full in ClickHouse and in search';

-- A setting alone would be for everybody: it counts for whom the table belongs to.
create function system.recovering(relation oid) returns boolean
language sql stable
return case
    when coalesce(current_setting('bilten.recovery', true), '') <> 'on' then false
    else (select pg_has_role(session_user, relowner, 'member') from pg_class where oid = relation)
end;
comment on function system.recovering(oid) is
    'Whether rows are being copied back (setting bilten.recovery) by the owner of the table: what a trigger keeps or writes by itself comes back with them';

-- Arguments: the columns whose first value stays.
create function system.set_once() returns trigger
language plpgsql as $$
declare
    column_name text;
    before jsonb := to_jsonb(old);
    after jsonb := to_jsonb(new);
begin
    foreach column_name in array tg_argv loop
        if before ->> column_name is not null and before ->> column_name is distinct from after ->> column_name
           and not system.recovering(tg_relid) then
            raise exception '%.%.% is set once', tg_table_schema, tg_table_name, column_name
                using errcode = 'restrict_violation',
                      detail = format('before: %s, after: %s', before ->> column_name, coalesce(after ->> column_name, 'null')),
                      hint = 'A past day never changes: post a refund, chargeback or reversal instead.';
        end if;
    end loop;
    return new;
end
$$;
comment on function system.set_once() is 'Trigger: the named columns keep their first value, so that published days stay';

create function system.require_timezone() returns trigger
language plpgsql as $$
begin
    -- reading every zone file takes 15 ms, and applications write all columns of a row
    if tg_op = 'UPDATE' and new.timezone is not distinct from old.timezone then
        return new;
    end if;
    if new.timezone is not null and not exists (select from pg_timezone_names where name = new.timezone) then
        raise exception '%.%.timezone: % is not an IANA time zone', tg_table_schema, tg_table_name, new.timezone
            using errcode = 'check_violation', hint = 'For example Europe/Berlin or Asia/Kolkata.';
    end if;
    return new;
end
$$;
comment on function system.require_timezone() is 'Trigger: timezone holds an IANA name (a POSIX string like FOO+3 would pass AT TIME ZONE)';

create function system.mask_email(email text) returns text
language sql immutable strict parallel safe
return case
    when position('@' in email) = 0 then '***'
    when position('@' in email) <= 3 then left(email, greatest(position('@' in email) - 2, 0)) || '***' || substr(email, position('@' in email))
    else left(email, 2) || '***' || substr(email, position('@' in email))
end;
comment on function system.mask_email(text) is
    'a@x.org -> ***@x.org, ab@x.org -> a***@x.org, abc@x.org -> ab***@x.org; never shows a whole name; null stays null';
