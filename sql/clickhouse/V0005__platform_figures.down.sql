drop table if exists analytics.platform_figures sync;
