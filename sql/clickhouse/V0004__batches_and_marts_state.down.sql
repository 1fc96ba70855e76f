drop table if exists analytics.metric_restatements sync;
drop table if exists analytics.mart_days sync;
drop table if exists analytics.mart_verdicts sync;
drop table if exists analytics.control_days sync;
drop table if exists analytics.control_totals sync;
drop table if exists analytics.sync_batches sync;
