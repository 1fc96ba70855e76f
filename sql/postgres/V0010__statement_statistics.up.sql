-- description: What the collector of slow queries saw at its last look, and per day

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

grant select on system.statement_looks, system.statement_baseline, system.statement_days to bilten_readonly;
