do $$
declare
    schema_name text;
begin
    foreach schema_name in array array['users', 'authentication', 'events', 'tickets', 'payments', 'financial',
                                       'branding', 'assets', 'system', 'audit'] loop
        execute format('revoke all on all tables in schema %I from bilten_app, bilten_readonly, bilten_etl', schema_name);
        execute format('revoke all on all sequences in schema %I from bilten_app, bilten_readonly, bilten_etl', schema_name);
        execute format('revoke all on all functions in schema %I from bilten_app, bilten_readonly, bilten_etl', schema_name);
        execute format('revoke all on schema %I from bilten_app, bilten_readonly, bilten_etl', schema_name);
    end loop;
end
$$;

alter default privileges in schema users, authentication, events, tickets, payments, branding, assets
    revoke select, insert, update, delete on tables from bilten_app;
alter default privileges grant execute on functions to public;

grant execute on all functions in schema system, payments, tickets, financial, audit to public;
grant usage on schema public to public;
