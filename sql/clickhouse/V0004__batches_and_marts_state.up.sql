-- description: Sync batches, control totals, verdicts and state of mart days, restatements

create table if not exists analytics.sync_batches
(
    batch UInt64 comment 'Number of the batch: the version of the rows it wrote',
    kind LowCardinality(String) comment 'incremental, first, full, reconcile',
    mark UInt64 comment 'Everything below this PostgreSQL transaction id has been applied',
    epoch String comment 'System identifier, timeline and restore id, as JSON',
    as_of DateTime64(6, 'UTC') comment 'When PostgreSQL''s snapshot was taken (UTC)',
    rows_by_table Map(LowCardinality(String), UInt64) comment 'Rows written per table, tombstones included',
    touched_days UInt32 comment 'Local days whose facts changed',
    applied_at DateTime64(6, 'UTC') default now64(6) comment 'When the last insert was acknowledged (UTC)'
)
engine = ReplacingMergeTree(applied_at)
order by batch
settings non_replicated_deduplication_window = 1000
comment 'One row per batch, written after everything else of it: a batch without a row is half applied';

create table if not exists analytics.control_totals
(
    metric_date Date32 comment 'Local day',
    event_id UUID comment 'Event',
    currency LowCardinality(String) comment 'ISO 4217',
    metric LowCardinality(String) comment 'Column of fct_event_sales_daily, or ticket_face_sales',
    value Decimal(38, 3) comment 'What PostgreSQL itself computed in the snapshot of the batch; zero cells are left out',
    batch UInt64 comment 'Batch in whose snapshot it was computed'
)
engine = ReplacingMergeTree
partition by toYear(metric_date)
order by (metric_date, batch, event_id, currency, metric)
settings non_replicated_deduplication_window = 1000
comment 'Control totals per day, event, currency and metric; for a day those of its newest batch in control_days hold';

create table if not exists analytics.control_days
(
    metric_date Date32 comment 'Local day',
    batch UInt64 comment 'Batch in whose snapshot the totals were computed',
    cells UInt64 comment 'Rows in control_totals for this day and batch; 0 for a day without facts',
    as_of DateTime64(6, 'UTC') comment 'When that snapshot was taken (UTC)'
)
engine = ReplacingMergeTree
order by (metric_date, batch)
settings non_replicated_deduplication_window = 1000
comment 'Which days have control totals, of which batch; written after them: a day without a row has no evidence';

create table if not exists analytics.mart_verdicts
(
    run_id String comment 'Run that built and judged',
    mart LowCardinality(String) comment 'Table in marts',
    metric_date Date32 comment 'Local day',
    gate LowCardinality(String) comment 'Test that judged',
    failures UInt64 comment 'Rows that failed; 0 is a pass',
    sample String comment 'Bounded sample of what failed, as JSON: keys, expected, found',
    judged_at DateTime64(6, 'UTC') default now64(6) comment 'When (UTC)'
)
engine = ReplacingMergeTree(judged_at)
partition by toYYYYMM(judged_at)
order by (run_id, mart, metric_date, gate)
settings non_replicated_deduplication_window = 1000
comment 'Verdict of every gate per run, mart and day; a day is swapped only when each gate has judged it with 0 failures';

create table if not exists analytics.mart_days
(
    mart LowCardinality(String) comment 'Table in marts',
    day Date32 comment 'Local day',
    is_final Bool comment 'Whether the day was over in every zone and the batch past it',
    as_of DateTime64(6, 'UTC') comment 'Snapshot of PostgreSQL that the day shows (UTC)',
    batch UInt64 comment 'Batch that was read',
    rows UInt64 comment 'Rows of the day',
    verdict LowCardinality(String) comment 'swapped, unchanged or refused; a refused day still shows the build before',
    run_id String comment 'Run that decided',
    built_at DateTime64(6, 'UTC') default now64(6) comment 'When (UTC)'
)
engine = ReplacingMergeTree(built_at)
order by (mart, day)
settings non_replicated_deduplication_window = 1000
comment 'State of each day of each mart; read it with FINAL';

create table if not exists analytics.metric_restatements
(
    mart LowCardinality(String) comment 'Table in marts',
    metric_date Date32 comment 'Local day that had been published',
    keys Map(LowCardinality(String), String) comment 'Grain of the cell',
    metric LowCardinality(String) comment 'Column that changed',
    value_before Decimal(38, 3) comment 'Published before',
    value_after Decimal(38, 3) comment 'Published now',
    reason String comment 'What had dirtied the day',
    run_id String comment 'Run that swapped it',
    batch UInt64 comment 'Batch that was read',
    restated_at DateTime64(6, 'UTC') default now64(6) comment 'When (UTC)'
)
engine = ReplacingMergeTree(restated_at)
partition by toYear(restated_at)
order by (metric_date, mart, metric, keys, run_id)
settings non_replicated_deduplication_window = 1000
comment 'What a swap changed in a day that was already published: by how much, why, in which run';
