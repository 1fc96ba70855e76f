-- description: Least privileges of bilten_app, bilten_readonly and bilten_etl

-- Nothing for everybody.
revoke all on schema public from public;
revoke execute on all functions in schema system, payments, tickets, financial, audit from public;

-- The application: its own schemas, no state of the platform. Row-level security comes later; every
-- tenant-owned table reaches organization_id in at most one join, so policies need no new column.
grant usage on schema users, authentication, events, tickets, payments, financial, branding, assets, system to bilten_app;
grant select, insert, update, delete on all tables in schema users, authentication, events, tickets, payments, branding, assets to bilten_app;
grant select on all tables in schema financial to bilten_app;
grant insert, update on financial.payouts to bilten_app;
revoke insert, update, delete on tickets.ticket_type_capacity_log from bilten_app;
-- logs of what happened, without updated_at and without audit: rows are added, and taken out when a person is forgotten
revoke update on users.user_behavior, events.event_analytics from bilten_app;
grant execute on function system.mask_email(text), financial.minor_unit(text) to bilten_app, bilten_readonly, bilten_etl;
grant execute on function system.recovering(oid) to bilten_app; -- its triggers ask

-- People who look: everything but secrets and personal fields.
grant usage on schema users, events, tickets, payments, financial, branding, assets, system to bilten_readonly;
grant select on all tables in schema events, tickets, financial, branding, assets to bilten_readonly;
grant select on all tables in schema system to bilten_readonly;
grant select on users.organizations, users.user_preferences to bilten_readonly;
grant select (id, role, status, email_verified, organization_id, created_at, updated_at, deleted_at, sync_xid) on users.users to bilten_readonly;
grant select (id, user_id, action, resource_type, resource_id, created_at) on users.user_behavior to bilten_readonly;
grant select on payments.payment_items, payments.refunds, payments.chargebacks to bilten_readonly;
grant select (id, user_id, event_id, amount, fee_amount, tax_amount, currency, payment_method, status, transaction_id,
              captured_at, created_at, updated_at, deleted_at, sync_xid) on payments.payments to bilten_readonly;

-- The sync and the builds: read what is synced (of people: ids, role, status, dates), write only their own state.
grant usage on schema users, events, tickets, payments, financial, system to bilten_etl;
grant select on users.organizations, events.venues, events.events,
                tickets.ticket_types, tickets.ticket_type_capacity_log, tickets.tickets,
                payments.payment_items, payments.refunds, payments.chargebacks,
                financial.currencies, financial.exchange_rates, financial.payouts to bilten_etl;
grant select (id, role, status, email_verified, organization_id, created_at, updated_at, deleted_at, sync_xid) on users.users to bilten_etl;
grant select (id, user_id, event_id, amount, fee_amount, tax_amount, currency, payment_method, status, transaction_id,
              captured_at, created_at, updated_at, deleted_at, sync_xid) on payments.payments to bilten_etl;
grant select on system.deleted_rows, system.restores, system.migrations, system.partition_metadata to bilten_etl;
grant select, insert, update, delete on system.sync_state, system.metric_dirty_days, system.build_journal to bilten_etl;
grant select, insert, update, delete on system.event_popularity, system.search_state, system.search_indices, system.search_ranges,
                                        system.search_swaps, system.search_dead_letters to bilten_etl;
-- update: after a restore the numbers go on above those that ClickHouse holds
grant usage, select, update on sequence system.batch_number to bilten_etl;

-- Later migrations: a new table of the application comes with its rights; people and the sync get a
-- table, or a column, only when a migration says so; a new function is for nobody.
alter default privileges in schema users, authentication, events, tickets, payments, branding, assets
    grant select, insert, update, delete on tables to bilten_app;
alter default privileges revoke execute on functions from public;
