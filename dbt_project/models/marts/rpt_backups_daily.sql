{{ config(materialized='view', tags=['whole']) }}
-- Counts beside the ratio: those of two days can be added up, ratios cannot.
with figures as (
    select
        hour,
        store,
        figure,
        argMax(value, measured_at) as newest
    from {{ source('analytics', 'platform_figures') }}
    where figure in ('backups', 'backups_succeeded')
    group by hour, store, figure
),

days as (
    select
        toDate32(hour) as day,
        store,
        toUInt64(sumIf(newest, figure = 'backups')) as backups,
        toUInt64(sumIf(newest, figure = 'backups_succeeded')) as backups_succeeded
    from figures
    group by day, store
)

select
    day,
    store,
    backups,
    backups_succeeded,
    backups_succeeded / nullIf(backups, 0) as success_ratio
from days
