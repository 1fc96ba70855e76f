drop view if exists analytics.realtime_minutes sync;
drop view if exists analytics.events_realtime sync;
drop table if exists analytics.metrics_realtime sync;
drop table if exists analytics.click_relocations sync;
drop table if exists analytics.events_rejected sync;
drop table if exists analytics.events sync;
