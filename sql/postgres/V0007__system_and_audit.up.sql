-- description: State of sync, builds, partitions, drills, search and incidents; the audit log

create table system.deleted_rows (
    id bigint generated always as identity primary key,
    table_name text not null,
    row_key text not null,
    facts jsonb not null,
    deleted_at timestamptz not null default clock_timestamp(),
    sync_xid xid8 not null default pg_current_xact_id()
);
create index deleted_rows_sync_xid on system.deleted_rows (sync_xid);
create index deleted_rows_row on system.deleted_rows (table_name, row_key);
comment on table system.deleted_rows is 'Tombstones of synced tables';
comment on column system.deleted_rows.id is 'Order of writing';
comment on column system.deleted_rows.table_name is 'schema.table';
comment on column system.deleted_rows.row_key is 'Id, or the parts of a natural key joined by |';
comment on column system.deleted_rows.facts is 'Key facts of the row as it was: parents and days';
comment on column system.deleted_rows.deleted_at is 'When (UTC)';
comment on column system.deleted_rows.sync_xid is 'Transaction that deleted it; the sync reads by it';

create sequence system.batch_number as bigint;
comment on sequence system.batch_number is 'One number per sync batch, shared by ClickHouse and search: the version of what it wrote';

create table system.sync_state (
    consumer text primary key,
    mark xid8 not null default '0',
    snapshot pg_snapshot,
    batch bigint not null default 0,
    applying_batch bigint,
    touched_days jsonb,
    rereading text[] not null default '{}',
    epoch jsonb,
    as_of timestamptz,
    updated_at timestamptz not null default now()
);
comment on table system.sync_state is 'How far each consumer of changes has come';
comment on column system.sync_state.consumer is 'clickhouse, or search: and the name of an index';
comment on column system.sync_state.mark is 'Everything below this transaction id has been applied';
comment on column system.sync_state.snapshot is 'Snapshot of the last applied batch: what was visible in it is not sent again';
comment on column system.sync_state.batch is 'Last batch that was applied whole';
comment on column system.sync_state.applying_batch is 'Batch being applied; set before its first write, cleared with the mark';
comment on column system.sync_state.touched_days is 'Days touched by the batch being applied, with reasons: once its rows are in, the rows before cannot be asked';
comment on column system.sync_state.rereading is 'Tables of which every row must be read again (a column was added)';
comment on column system.sync_state.epoch is 'System identifier, timeline and restore id of the server the mark belongs to';
comment on column system.sync_state.as_of is 'When the snapshot of the last batch was taken (UTC)';
comment on column system.sync_state.updated_at is 'When the row last changed (UTC)';

create table system.restores (
    id uuid primary key default gen_random_uuid(),
    restored_at timestamptz not null default clock_timestamp(),
    reason text not null
);
comment on table system.restores is 'Each restore that became production; the newest id is part of the sync epoch';
comment on column system.restores.id is 'Restore id';
comment on column system.restores.restored_at is 'When it took over (UTC)';
comment on column system.restores.reason is 'Why';

create table system.recoveries (
    id uuid primary key,
    bad_transaction xid8 not null,
    changes jsonb not null,
    actor text not null default session_user,
    transaction_id xid8 not null default pg_current_xact_id(),
    recovered_at timestamptz not null default clock_timestamp()
);
comment on table system.recoveries is 'Each time rows were copied back; written in the transaction that did it, so that its being here proves that it was done';
comment on column system.recoveries.id is 'As in the journal of the repository';
comment on column system.recoveries.bad_transaction is 'Transaction whose changes were taken back';
comment on column system.recoveries.changes is 'Rows inserted, updated and deleted by table';
comment on column system.recoveries.actor is 'Database role';
comment on column system.recoveries.transaction_id is 'Transaction that copied the rows back';
comment on column system.recoveries.recovered_at is 'When (UTC)';

create table system.metric_dirty_days (
    day date primary key,
    generation bigint not null default 1 check (generation > 0),
    built_generation bigint not null default 0 check (built_generation >= 0),
    batch bigint not null,
    reason text not null,
    marked_at timestamptz not null default clock_timestamp(),
    built_at timestamptz,
    check (built_generation <= generation)
);
create index metric_dirty_days_dirty on system.metric_dirty_days (day) where generation > built_generation;
comment on table system.metric_dirty_days is 'Local days whose facts changed; dirty while generation is above built_generation';
comment on column system.metric_dirty_days.day is 'Local day';
comment on column system.metric_dirty_days.generation is 'Raised by one by every batch that touches the day';
comment on column system.metric_dirty_days.built_generation is 'Generation that the published marts hold';
comment on column system.metric_dirty_days.batch is 'Batch that touched it last';
comment on column system.metric_dirty_days.reason is 'What touched it last';
comment on column system.metric_dirty_days.marked_at is 'When it was touched last (UTC)';
comment on column system.metric_dirty_days.built_at is 'When it was last built (UTC)';

create table system.build_journal (
    run_id text not null,
    mart text not null,
    day date not null,
    state text not null check (state in ('planned', 'swapped', 'unchanged', 'refused', 'abandoned')),
    batch bigint not null,
    generation bigint,
    rows bigint check (rows >= 0),
    detail text,
    started_at timestamptz not null default clock_timestamp(),
    ended_at timestamptz,
    primary key (run_id, mart, day),
    check ((state = 'planned') = (ended_at is null))
);
create index build_journal_day on system.build_journal (mart, day, started_at);
create index build_journal_open on system.build_journal (started_at) where ended_at is null;
comment on table system.build_journal is 'What each build did to each day of each mart; lets a killed range go on';
comment on column system.build_journal.run_id is 'Dagster run or command';
comment on column system.build_journal.mart is 'Table in the database marts';
comment on column system.build_journal.day is 'Local day';
comment on column system.build_journal.state is 'planned until swapped, unchanged, refused, or abandoned by a killed run';
comment on column system.build_journal.batch is 'Sync batch that was read';
comment on column system.build_journal.generation is 'Dirty generation that was built';
comment on column system.build_journal.rows is 'Rows of the day after the swap';
comment on column system.build_journal.detail is 'Why it was refused';
comment on column system.build_journal.started_at is 'When it was planned (UTC)';
comment on column system.build_journal.ended_at is 'When it came to its end (UTC)';

create table system.rpo_samples (
    sampled_at timestamptz not null,
    bucket text not null,
    reachable_until timestamptz,
    rpo_seconds double precision check (rpo_seconds >= 0),
    primary key (sampled_at, bucket)
);
comment on table system.rpo_samples is 'Measured recovery point objective, each minute and bucket';
comment on column system.rpo_samples.sampled_at is 'When it was measured (UTC)';
comment on column system.rpo_samples.bucket is 'Bucket of the repository';
comment on column system.rpo_samples.reachable_until is 'Newest moment that could have been restored (UTC)';
comment on column system.rpo_samples.rpo_seconds is 'sampled_at minus reachable_until';

create table system.slow_queries (
    id uuid not null default gen_random_uuid(),
    query_id bigint,
    query_text text not null,
    database_name text,
    role_name text,
    execution_time double precision not null check (execution_time >= 0),
    total_time double precision check (total_time >= 0),
    calls bigint check (calls >= 0),
    rows_examined bigint,
    rows_returned bigint,
    shared_blocks_hit bigint,
    shared_blocks_read bigint,
    temp_blocks_written bigint,
    wal_bytes bigint check (wal_bytes >= 0),
    is_toplevel boolean,
    since timestamptz,
    plan jsonb,
    plan_refused text,
    "timestamp" timestamptz not null default now(),
    created_at timestamptz not null default now(),
    primary key (id, created_at)
) partition by range (created_at);
create index slow_queries_time on system.slow_queries ("timestamp");
comment on table system.slow_queries is 'What statements took between two looks at pg_stat_statements, of the slow and the heaviest ones; by month';
comment on column system.slow_queries.id is 'Row id, unique with created_at';
comment on column system.slow_queries.query_id is 'Identifier of the normalised statement (pg_stat_statements)';
comment on column system.slow_queries.query_text is 'Normalised text, without literals';
comment on column system.slow_queries.database_name is 'Database';
comment on column system.slow_queries.role_name is 'Role that ran it';
comment on column system.slow_queries.execution_time is 'Mean time in the sample, milliseconds';
comment on column system.slow_queries.total_time is 'Sum of time in the sample, milliseconds';
comment on column system.slow_queries.calls is 'Executions in the sample';
comment on column system.slow_queries.rows_examined is 'Rows read, where the plan tells';
comment on column system.slow_queries.rows_returned is 'Rows returned in the sample';
comment on column system.slow_queries.shared_blocks_hit is 'Blocks found in shared buffers';
comment on column system.slow_queries.shared_blocks_read is 'Blocks read';
comment on column system.slow_queries.temp_blocks_written is 'Temporary blocks written';
comment on column system.slow_queries.wal_bytes is 'WAL written';
comment on column system.slow_queries.is_toplevel is 'Sent by a client; false for a statement within a function';
comment on column system.slow_queries.since is 'Begin of the sample (UTC); "timestamp" is its end';
comment on column system.slow_queries.plan is 'Generic plan, where it could be had safely';
comment on column system.slow_queries.plan_refused is 'Why there is no plan; null with one, and until it was asked for';
comment on column system.slow_queries."timestamp" is 'When it was sampled (UTC)';
comment on column system.slow_queries.created_at is 'When the row was made (UTC); decides the partition';

create table system.statement_looks (
    database_oid oid primary key,
    database_name text not null,
    epoch jsonb not null,
    looked_at timestamptz not null,
    stats_reset timestamptz not null,
    evictions bigint not null
);
comment on table system.statement_looks is 'The last look at pg_stat_statements, per database of the server';
comment on column system.statement_looks.database_oid is 'Database whose statements were counted';
comment on column system.statement_looks.database_name is 'Its name then';
comment on column system.statement_looks.epoch is 'Server whose counters they were: system identifier, timeline, database, restore';
comment on column system.statement_looks.looked_at is 'When, just before the counters were read (UTC)';
comment on column system.statement_looks.stats_reset is 'pg_stat_statements_info.stats_reset then (UTC)';
comment on column system.statement_looks.evictions is 'pg_stat_statements_info.dealloc then';

-- Every look updates the rows of the statements that ran: no index but the key, and room on the page.
create table system.statement_baseline (
    database_oid oid not null,
    role_oid oid not null,
    query_id bigint not null,
    is_toplevel boolean not null,
    stats_since timestamptz,
    calls bigint not null,
    total_milliseconds double precision not null,
    rows bigint not null,
    shared_blocks_hit bigint not null,
    shared_blocks_read bigint not null,
    temp_blocks_written bigint not null,
    wal_bytes bigint not null,
    primary key (database_oid, role_oid, query_id, is_toplevel)
) with (fillfactor = 50);
comment on table system.statement_baseline is 'Counters of pg_stat_statements at the last look: what is above them is new';
comment on column system.statement_baseline.database_oid is 'Database';
comment on column system.statement_baseline.role_oid is 'Role that ran it';
comment on column system.statement_baseline.query_id is 'Identifier of the normalised statement';
comment on column system.statement_baseline.is_toplevel is 'Sent by a client; false for a statement within a function';
comment on column system.statement_baseline.stats_since is 'When the entry was made (UTC); PostgreSQL tells it from 17 on';
comment on column system.statement_baseline.calls is 'Executions';
comment on column system.statement_baseline.total_milliseconds is 'Time of them';
comment on column system.statement_baseline.rows is 'Rows returned or affected';
comment on column system.statement_baseline.shared_blocks_hit is 'Blocks found in shared buffers';
comment on column system.statement_baseline.shared_blocks_read is 'Blocks read';
comment on column system.statement_baseline.temp_blocks_written is 'Temporary blocks written';
comment on column system.statement_baseline.wal_bytes is 'WAL written';

create table system.statement_days (
    day date not null,
    database_name text not null,
    query_id bigint not null,
    calls bigint not null check (calls >= 0),
    total_milliseconds double precision not null check (total_milliseconds >= 0),
    rows bigint not null check (rows >= 0),
    shared_blocks_hit bigint not null check (shared_blocks_hit >= 0),
    shared_blocks_read bigint not null check (shared_blocks_read >= 0),
    temp_blocks_written bigint not null check (temp_blocks_written >= 0),
    wal_bytes bigint not null check (wal_bytes >= 0),
    primary key (day, database_name, query_id)
) with (fillfactor = 50);
comment on table system.statement_days is 'What every statement took per day, fast ones too: weeks are compared by it';
comment on column system.statement_days.day is 'Day of the look that counted it (UTC)';
comment on column system.statement_days.database_name is 'Database';
comment on column system.statement_days.query_id is 'Identifier of the normalised statement';
comment on column system.statement_days.calls is 'Executions';
comment on column system.statement_days.total_milliseconds is 'Time of them';
comment on column system.statement_days.rows is 'Rows returned or affected';
comment on column system.statement_days.shared_blocks_hit is 'Blocks found in shared buffers';
comment on column system.statement_days.shared_blocks_read is 'Blocks read';
comment on column system.statement_days.temp_blocks_written is 'Temporary blocks written';
comment on column system.statement_days.wal_bytes is 'WAL written';

create table system.database_samples (
    database_name text not null,
    sampled_at timestamptz not null,
    since timestamptz,
    calls bigint check (calls >= 0),
    total_milliseconds double precision check (total_milliseconds >= 0),
    shared_blocks_hit bigint check (shared_blocks_hit >= 0),
    shared_blocks_read bigint check (shared_blocks_read >= 0),
    connections integer not null check (connections >= 0),
    connections_limit integer not null check (connections_limit > 0),
    database_bytes bigint not null check (database_bytes >= 0),
    primary key (database_name, sampled_at)
);
comment on table system.database_samples is 'What a database did between two looks at its statements, and how it stood at the second';
comment on column system.database_samples.database_name is 'Database';
comment on column system.database_samples.sampled_at is 'When (UTC)';
comment on column system.database_samples.since is 'Begin of what was counted (UTC); null where nothing could be';
comment on column system.database_samples.calls is 'Executions of statements';
comment on column system.database_samples.total_milliseconds is 'Time of them';
comment on column system.database_samples.shared_blocks_hit is 'Blocks they found in shared buffers';
comment on column system.database_samples.shared_blocks_read is 'Blocks they read';
comment on column system.database_samples.connections is 'Clients connected to it';
comment on column system.database_samples.connections_limit is 'Connections that the server has for all who are no superusers';
comment on column system.database_samples.database_bytes is 'Size on disk';

-- last_idx_scan came with PostgreSQL 16; on 15 it is null
create view system.index_usage as
select schemaname, relname as tablename, indexrelname as indexname, idx_scan, idx_tup_read, idx_tup_fetch,
       (to_jsonb(pg_stat_user_indexes) ->> 'last_idx_scan')::timestamptz as last_idx_scan,
       pg_relation_size(indexrelid) as index_bytes,
       case when idx_scan = 0 then 'Unused' when idx_scan < 10 then 'Low Usage' else 'Active' end as usage_status
from pg_stat_user_indexes;
comment on view system.index_usage is 'How often each index was used since statistics were reset';
comment on column system.index_usage.schemaname is 'Schema';
comment on column system.index_usage.tablename is 'Table';
comment on column system.index_usage.indexname is 'Index';
comment on column system.index_usage.idx_scan is 'Scans';
comment on column system.index_usage.idx_tup_read is 'Index entries read';
comment on column system.index_usage.idx_tup_fetch is 'Rows fetched';
comment on column system.index_usage.last_idx_scan is 'Last scan (UTC)';
comment on column system.index_usage.index_bytes is 'Size';
comment on column system.index_usage.usage_status is 'Unused, Low Usage (below 10 scans) or Active';

create table system.partition_metadata (
    table_name text not null,
    partition_name text not null,
    from_at timestamptz not null,
    to_at timestamptz not null,
    state text not null check (state in ('planned', 'attached', 'detaching', 'detached', 'archived', 'dropped')),
    rows bigint check (rows >= 0),
    bytes bigint check (bytes >= 0),
    archive_object text,
    archive_digest text,
    relation_oid oid,
    hold_until timestamptz,
    run_id text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (table_name, partition_name),
    check (to_at > from_at)
);
comment on table system.partition_metadata is 'Every partition that is or was, reconciled with the catalogues';
comment on column system.partition_metadata.table_name is 'schema.table of the parent';
comment on column system.partition_metadata.partition_name is 'Table name of the partition';
comment on column system.partition_metadata.from_at is 'Lower bound (UTC), inclusive';
comment on column system.partition_metadata.to_at is 'Upper bound (UTC), exclusive';
comment on column system.partition_metadata.state is 'planned, attached, detaching, detached, archived or dropped';
comment on column system.partition_metadata.rows is 'Rows when last counted';
comment on column system.partition_metadata.bytes is 'Size with indexes when last measured';
comment on column system.partition_metadata.archive_object is 'Key of its archive';
comment on column system.partition_metadata.archive_digest is 'Digest of its rows, equal in table and archive';
comment on column system.partition_metadata.relation_oid is 'The table, whatever it is called by now; null once it is dropped';
comment on column system.partition_metadata.hold_until is 'It was restored and does not end before this (UTC)';
comment on column system.partition_metadata.run_id is 'Run that changed it last; from the command line who called it';
comment on column system.partition_metadata.created_at is 'When the row was made (UTC)';
comment on column system.partition_metadata.updated_at is 'When the row last changed (UTC)';

create table system.heartbeats (
    source text primary key,
    beat bigint not null default 0,
    beat_at timestamptz not null default clock_timestamp()
);
comment on table system.heartbeats is 'A commit at least every 30 s, so that WAL always tells until when it reaches';
comment on column system.heartbeats.source is 'Who beats';
comment on column system.heartbeats.beat is 'Count';
comment on column system.heartbeats.beat_at is 'When (UTC)';

create table system.restore_drills (
    id uuid primary key default gen_random_uuid(),
    store text not null,
    way text not null,
    started_at timestamptz not null,
    finished_at timestamptz,
    ok boolean,
    rpo_seconds double precision,
    rto_seconds double precision,
    bytes bigint,
    phases jsonb not null default '{}',
    problems jsonb not null default '[]',
    run_id text
);
create index restore_drills_store on system.restore_drills (store, started_at);
comment on table system.restore_drills is 'Every restore drill and what it measured';
comment on column system.restore_drills.id is 'Drill id';
comment on column system.restore_drills.store is 'postgres, clickhouse, redis or search';
comment on column system.restore_drills.way is 'Way back that was walked';
comment on column system.restore_drills.started_at is 'Order given (UTC)';
comment on column system.restore_drills.finished_at is 'End (UTC)';
comment on column system.restore_drills.ok is 'Whether everything was proven; null while it runs';
comment on column system.restore_drills.rpo_seconds is 'Data that would have been lost, in seconds, as sampled';
comment on column system.restore_drills.rto_seconds is 'From the order to the first accepted query';
comment on column system.restore_drills.bytes is 'Bytes restored';
comment on column system.restore_drills.phases is 'Seconds per phase';
comment on column system.restore_drills.problems is 'What was expected and found';
comment on column system.restore_drills.run_id is 'Dagster run or command';

create table system.search_state (
    alias text primary key,
    index_name text,
    previous_index text,
    mapping_hash text,
    swapped_at timestamptz,
    lease_holder text,
    lease_token uuid,
    lease_pids integer[],
    lease_until timestamptz,
    updated_at timestamptz not null default now()
);
comment on table system.search_state is 'Which index serves, which one is kept, who is building';
comment on column system.search_state.alias is 'Alias that the application queries';
comment on column system.search_state.index_name is 'Index behind it, as recorded; what the alias says counts';
comment on column system.search_state.previous_index is 'Index that a rollback goes back to';
comment on column system.search_state.mapping_hash is 'Hash of its definition';
comment on column system.search_state.swapped_at is 'Last swap (UTC)';
comment on column system.search_state.lease_holder is 'Who builds, rolls back or removes indices now';
comment on column system.search_state.lease_token is 'Of this holder; another one means that the lease was lost';
comment on column system.search_state.lease_pids is 'Backends of its sessions, which are ended when the lease is taken from it';
comment on column system.search_state.lease_until is 'Until when its lease holds (UTC)';
comment on column system.search_state.updated_at is 'When the row last changed (UTC)';

create table system.search_indices (
    index_name text primary key,
    alias text not null,
    mapping_hash text not null,
    state text not null check (state in ('building', 'refused', 'abandoned', 'serving', 'kept', 'removed')),
    run_id text,
    documents bigint check (documents >= 0),
    bytes bigint check (bytes >= 0),
    verdicts jsonb,
    started_at timestamptz not null default clock_timestamp(),
    loaded_at timestamptz,
    swapped_at timestamptz,
    replaced_at timestamptz,
    removed_at timestamptz
);
create index search_indices_state on system.search_indices (alias, state);
comment on table system.search_indices is 'Every index that was begun, recorded before it was made';
comment on column system.search_indices.index_name is 'events-<mapping hash>-<time>';
comment on column system.search_indices.alias is 'Alias that it serves, or is to serve';
comment on column system.search_indices.mapping_hash is 'Hash of the definition that it was made with';
comment on column system.search_indices.state is 'building until refused, abandoned or serving; kept once replaced; removed';
comment on column system.search_indices.run_id is 'Run or command that began it';
comment on column system.search_indices.documents is 'Documents when it was judged';
comment on column system.search_indices.bytes is 'Bytes of its primaries when it was judged';
comment on column system.search_indices.verdicts is 'What each gate expected and found';
comment on column system.search_indices.started_at is 'When it was begun (UTC)';
comment on column system.search_indices.loaded_at is 'When its last range was in (UTC)';
comment on column system.search_indices.swapped_at is 'When it first served (UTC)';
comment on column system.search_indices.replaced_at is 'When another one last took its place (UTC)';
comment on column system.search_indices.removed_at is 'When it was removed (UTC)';

create table system.search_ranges (
    index_name text not null references system.search_indices on delete cascade,
    number integer not null,
    low uuid,
    high uuid,
    documents bigint check (documents >= 0),
    bytes bigint check (bytes >= 0),
    finished_at timestamptz,
    primary key (index_name, number)
);
comment on table system.search_ranges is 'Ranges of keys of a build; what is finished is not loaded again';
comment on column system.search_ranges.index_name is 'Index that is built';
comment on column system.search_ranges.number is 'Order of the keys';
comment on column system.search_ranges.low is 'First event id; null is the least';
comment on column system.search_ranges.high is 'Event id at which the next range begins; null is beyond the last';
comment on column system.search_ranges.documents is 'Documents sent';
comment on column system.search_ranges.bytes is 'Bytes sent';
comment on column system.search_ranges.finished_at is 'When all of it was acknowledged (UTC)';

create table system.search_swaps (
    id bigint generated always as identity primary key,
    alias text not null,
    from_index text,
    to_index text not null,
    reason text not null check (reason in ('rebuild', 'rollback', 'found')),
    run_id text,
    swapped_at timestamptz not null default clock_timestamp()
);
create index search_swaps_alias on system.search_swaps (alias, swapped_at);
comment on table system.search_swaps is 'History of the alias';
comment on column system.search_swaps.id is 'Order';
comment on column system.search_swaps.alias is 'Alias';
comment on column system.search_swaps.from_index is 'Index that served before; null for the first';
comment on column system.search_swaps.to_index is 'Index that serves since';
comment on column system.search_swaps.reason is 'rebuild, rollback, or found: whoever swapped did not live to record it, or was not us';
comment on column system.search_swaps.run_id is 'Run or command';
comment on column system.search_swaps.swapped_at is 'When (UTC)';

create table system.search_dead_letters (
    id bigint generated always as identity primary key,
    index_name text not null,
    document_id text not null,
    reason text not null,
    status integer,
    batch bigint,
    created_at timestamptz not null default now(),
    resolved_at timestamptz
);
create unique index search_dead_letters_open on system.search_dead_letters (index_name, document_id)
where resolved_at is null;
comment on table system.search_dead_letters is 'Documents that search refused';
comment on column system.search_dead_letters.id is 'Order of arrival';
comment on column system.search_dead_letters.index_name is 'Index';
comment on column system.search_dead_letters.document_id is 'Event id';
comment on column system.search_dead_letters.reason is 'Why';
comment on column system.search_dead_letters.status is 'HTTP status';
comment on column system.search_dead_letters.batch is 'Batch that sent it';
comment on column system.search_dead_letters.created_at is 'When (UTC)';
comment on column system.search_dead_letters.resolved_at is 'When it went through, or its index was removed (UTC)';

create table system.event_popularity (
    event_id uuid primary key,
    tickets_sold bigint not null check (tickets_sold >= 0),
    updated_at timestamptz not null default now(),
    sync_xid xid8 not null default pg_current_xact_id()
);
create index event_popularity_sync_xid on system.event_popularity (sync_xid);
comment on table system.event_popularity is 'What ClickHouse counted for search: one more table that a document joins, so it is found by its mark';
comment on column system.event_popularity.event_id is 'Which event; no foreign key, for it is written in bulk and judges nothing';
comment on column system.event_popularity.tickets_sold is 'Tickets sold in the last 30 days, as of the last daily count';
comment on column system.event_popularity.updated_at is 'When the number last changed (UTC)';
comment on column system.event_popularity.sync_xid is 'Transaction that last wrote the row; search reads by it';

create table system.incidents (
    id uuid primary key default gen_random_uuid(),
    incident_key text not null,
    kind text not null,
    severity text not null check (severity in ('info', 'warning', 'critical')),
    title text not null,
    detail jsonb not null default '{}',
    owner text,
    opened_at timestamptz not null default now(),
    worsened_at timestamptz,
    resolved_at timestamptz,
    notified_at timestamptz
);
create unique index incidents_one_open on system.incidents (incident_key) where resolved_at is null;
create index incidents_resolved on system.incidents (resolved_at);
comment on table system.incidents is 'One row per incident, from opening to recovery';
comment on column system.incidents.id is 'Incident id';
comment on column system.incidents.incident_key is 'Stable key: at most one open incident each';
comment on column system.incidents.kind is 'What kind of trouble; docs/operations.md has a section for each';
comment on column system.incidents.severity is 'The highest there was: info, warning or critical';
comment on column system.incidents.title is 'What broke';
comment on column system.incidents.detail is 'Expected, found, link, next step: the incident as the watchdog keeps it on its disk';
comment on column system.incidents.owner is 'Who is told';
comment on column system.incidents.opened_at is 'Since when (UTC)';
comment on column system.incidents.worsened_at is 'When it last changed for the worse (UTC)';
comment on column system.incidents.resolved_at is 'When it recovered (UTC)';
comment on column system.incidents.notified_at is 'When a message last went out (UTC)';

create table audit.audit_log (
    id uuid not null default gen_random_uuid(),
    actor text not null default current_user,
    app_user_id uuid,
    schema_name text not null,
    table_name text not null,
    row_key text not null,
    action text not null check (action in ('UPDATE', 'DELETE', 'RECOVER')),
    before jsonb,
    after jsonb,
    transaction_id xid8 not null default pg_current_xact_id(),
    created_at timestamptz not null default clock_timestamp(),
    primary key (id, created_at)
) partition by range (created_at);
create index audit_log_row on audit.audit_log (schema_name, table_name, row_key, created_at);
create index audit_log_transaction on audit.audit_log (transaction_id);
comment on table audit.audit_log is 'Who changed what, by month';
comment on column audit.audit_log.id is 'Row id, unique with created_at';
comment on column audit.audit_log.actor is 'Database role';
comment on column audit.audit_log.app_user_id is 'User on whose behalf (setting bilten.user_id)';
comment on column audit.audit_log.schema_name is 'Schema';
comment on column audit.audit_log.table_name is 'Table';
comment on column audit.audit_log.row_key is 'Id, or the parts of a natural key joined by |';
comment on column audit.audit_log.action is 'UPDATE, DELETE, or RECOVER for rows copied back';
comment on column audit.audit_log.before is 'The row before; e-mail masked, secrets left out';
comment on column audit.audit_log.after is 'The row after; e-mail masked, secrets left out';
comment on column audit.audit_log.transaction_id is 'Transaction, to be found in the WAL';
comment on column audit.audit_log.created_at is 'When (UTC); decides the partition and never changes';
