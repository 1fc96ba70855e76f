do $$
declare
    t record;
begin
    -- triggers of partitions (tgparentid) go with those of their parent
    for t in
        select tgname as name, tgrelid::regclass as relation
        from pg_trigger
        where not tgisinternal and tgparentid = 0
          and tgname in ('track_change', 'record_delete', 'refuse_truncate', 'touch_updated_at', 'audit_update',
                         'audit_delete', 'refuse_created_at_change', 'require_timezone')
    loop
        execute format('drop trigger %I on %s', t.name, t.relation);
    end loop;
end
$$;

drop function system.refuse_created_at_change();
drop function audit.record_change();
drop function audit.visible(jsonb);
drop function system.record_delete();
