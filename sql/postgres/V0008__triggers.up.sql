-- description: Change tracking, tombstones and audit on every table

-- Arguments: first the key columns joined by commas, then the columns kept as facts.
create function system.record_delete() returns trigger
language plpgsql security definer set search_path = pg_catalog as $$
declare
    row_before jsonb := to_jsonb(old);
    kept jsonb;
    root oid := coalesce(pg_partition_root(tg_relid), tg_relid); -- a trigger of a partition is told the partition's name
begin
    select coalesce(jsonb_object_agg(name, row_before -> name), '{}') into kept from unnest(tg_argv[1:]) as name;
    insert into system.deleted_rows (table_name, row_key, facts)
    values (
        (select relnamespace::regnamespace || '.' || relname from pg_class where oid = root),
        (select string_agg(row_before ->> part, '|' order by position)
           from unnest(string_to_array(tg_argv[0], ',')) with ordinality as k (part, position)),
        kept
    );
    return null;
end
$$;
comment on function system.record_delete() is 'Trigger of synced tables: writes the tombstone of a deleted row';

create function audit.visible(row_image jsonb) returns jsonb
language sql immutable parallel safe
return case
    when row_image ? 'email' then jsonb_set(row_image, '{email}', coalesce(to_jsonb(system.mask_email(row_image ->> 'email')), 'null'))
    else row_image
end - array['password_hash', 'token_hash', 'phone', 'date_of_birth', 'profile_data', 'gateway_response'];
comment on function audit.visible(jsonb) is 'A row as the audit log may show it: e-mail masked, secrets and personal fields left out';

-- Argument: the key columns joined by commas.
create function audit.record_change() returns trigger
language plpgsql security definer set search_path = pg_catalog as $$
declare
    root oid := coalesce(pg_partition_root(tg_relid), tg_relid); -- as in system.record_delete
begin
    insert into audit.audit_log (actor, app_user_id, schema_name, table_name, row_key, action, before, after)
    values (
        session_user,
        nullif(current_setting('bilten.user_id', true), '')::uuid,
        (select relnamespace::regnamespace::text from pg_class where oid = root),
        (select relname from pg_class where oid = root),
        (select string_agg(to_jsonb(old) ->> part, '|' order by position)
           from unnest(string_to_array(tg_argv[0], ',')) with ordinality as k (part, position)),
        case when system.recovering(tg_relid) then 'RECOVER' else tg_op end,
        audit.visible(to_jsonb(old)),
        case when tg_op = 'UPDATE' then audit.visible(to_jsonb(new)) end
    );
    return null;
end
$$;
comment on function audit.record_change() is 'Trigger: writes the audit log';

create function system.refuse_created_at_change() returns trigger
language plpgsql as $$
begin
    raise exception 'created_at of %.% cannot change: it decides the partition', tg_table_schema, tg_table_name
        using errcode = 'restrict_violation';
end
$$;
comment on function system.refuse_created_at_change() is 'Trigger of partitioned tables: created_at never changes';

do $$
declare
    t record;
begin
    -- synced: change tracking, tombstones, no truncate
    for t in
        select * from (values
            ('users.organizations', 'id', 'timezone'),
            ('users.users', 'id', 'organization_id'),
            ('events.venues', 'id', ''),
            ('events.events', 'id', 'organization_id organizer_id'),
            ('tickets.ticket_types', 'id', 'event_id currency'),
            ('tickets.ticket_type_capacity_log', 'id', 'ticket_type_id valid_from'),
            ('tickets.tickets', 'id', 'ticket_type_id event_id payment_id purchased_at checked_in_at cancelled_at'),
            ('payments.payments', 'id', 'event_id currency amount captured_at'),
            ('payments.payment_items', 'id', 'payment_id ticket_id'),
            ('payments.refunds', 'id', 'payment_id ticket_id amount refunded_at reversed_at'),
            ('payments.chargebacks', 'id', 'payment_id amount charged_back_at reversed_at'),
            ('financial.payouts', 'id', 'organization_id'),
            ('financial.currencies', 'code', ''),
            ('financial.exchange_rates', 'rate_date,from_currency,to_currency', '')
        ) as s (name, key, facts)
    loop
        execute format('create trigger track_change before insert or update on %s for each row execute function system.%s',
            t.name, case when t.key = 'id' then 'track_change()' else format('track_change_by_natural_key(%s)',
                (select string_agg(quote_literal(a), ', ') from unnest(string_to_array(t.key, ',')) a)) end);
        execute format('create trigger record_delete after delete on %s for each row execute function system.record_delete(%s)',
            t.name, (select string_agg(quote_literal(a), ', ') from unnest(array[t.key] || string_to_array(nullif(t.facts, ''), ' ')) a));
        execute format('create trigger refuse_truncate before truncate on %s for each statement execute function system.refuse_truncate()', t.name);
    end loop;

    -- read by its mark too, by search alone
    create trigger track_change before insert or update on system.event_popularity
        for each row execute function system.track_change_by_natural_key('event_id');

    -- not synced, with updated_at
    for t in
        select unnest(array['users.user_preferences', 'authentication.sessions', 'authentication.login_attempts',
                            'branding.brand_settings', 'assets.files', 'system.partition_metadata']) as name
    loop
        execute format('create trigger touch_updated_at before update on %s for each row execute function system.touch_updated_at()', t.name);
    end loop;

    -- audited: all but tickets, items, behaviour and system
    for t in
        select * from (values
            ('users.organizations', 'id', ''), ('users.users', 'id', ''), ('users.user_preferences', 'id', ''),
            ('authentication.sessions', 'id', ''), ('authentication.login_attempts', 'id', ''),
            ('events.venues', 'id', ''), ('events.events', 'id', ''),
            ('tickets.ticket_types', 'id', 'event_id, name, description, price, currency, quantity, sales_start, sales_end, is_active, settings, deleted_at'),
            ('payments.payments', 'id', ''), ('payments.refunds', 'id', ''), ('payments.chargebacks', 'id', ''),
            ('financial.currencies', 'code', ''), ('financial.exchange_rates', 'rate_date,from_currency,to_currency', ''),
            ('financial.payouts', 'id', ''), ('branding.brand_settings', 'id', ''), ('assets.files', 'id', '')
        ) as s (name, key, columns)
    loop
        -- sold and reserved change with every purchase and are the purchase's trace already
        execute format('create trigger audit_update after update %s on %s for each row execute function audit.record_change(%L)',
            case when t.columns = '' then '' else 'of ' || t.columns end, t.name, t.key);
        execute format('create trigger audit_delete after delete on %s for each row execute function audit.record_change(%L)', t.name, t.key);
    end loop;

    for t in
        select unnest(array['users.user_behavior', 'events.event_analytics', 'audit.audit_log', 'system.slow_queries']) as name
    loop
        execute format('create trigger refuse_created_at_change before update of created_at on %s for each row
                        when (new.created_at <> old.created_at) execute function system.refuse_created_at_change()', t.name);
    end loop;
end
$$;

create trigger require_timezone before insert or update of timezone on users.organizations
    for each row execute function system.require_timezone();
create trigger require_timezone before insert or update of timezone on events.events
    for each row execute function system.require_timezone();
