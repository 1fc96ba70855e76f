-- description: Key figures of the platform itself, per hour

create table if not exists analytics.platform_figures
(
    hour DateTime('UTC') comment 'Begin of the hour (UTC)',
    store LowCardinality(String) comment 'postgres, clickhouse or redis: whose figure it is',
    subject LowCardinality(String) comment 'Database; empty where it is of the whole store',
    figure LowCardinality(String) comment 'Name of the figure, with its unit',
    value Float64 comment 'What it was in that hour: a sum, a gauge at its end, a mean or a maximum, as the name says',
    measured_at DateTime64(6, 'UTC') default now64(6) comment 'When it was written (UTC); of two rows the newer holds'
)
engine = ReplacingMergeTree(measured_at)
partition by toYear(hour)
order by (store, subject, figure, hour)
settings non_replicated_deduplication_window = 1000
comment 'Key figures per hour, written by the hourly roll-up; read the newest row of each key';
