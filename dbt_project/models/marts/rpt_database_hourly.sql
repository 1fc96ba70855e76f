{{ config(materialized='view', tags=['whole']) }}
-- A view: an hour may be rolled up again, and its newest row holds.
with figures as (
    select
        hour,
        store,
        subject as database_name,
        figure,
        argMax(value, measured_at) as newest
    from {{ source('analytics', 'platform_figures') }}
    where subject <> ''
    group by hour, store, subject, figure
),

hours as (
    select
        hour,
        store,
        database_name,
        toUInt64(sumIf(newest, figure = 'calls')) as calls,
        sumIf(newest, figure = 'total_milliseconds') as total_milliseconds,
        sumIf(newest, figure = 'shared_blocks_hit') as blocks_hit,
        sumIf(newest, figure = 'shared_blocks_read') as blocks_read,
        sumOrNullIf(newest, figure = 'connections_mean') as connections_mean,
        sumOrNullIf(newest, figure = 'connections_max') as connections_max,
        sumOrNullIf(newest, figure = 'connections_limit') as connections_limit,
        toInt64(sumIf(newest, figure = 'size_bytes')) as size_bytes,
        toUInt32(sumIf(newest, figure = 'samples')) as samples
    from figures
    group by hour, store, database_name
)

select
    hour,
    store,
    database_name,
    calls,
    total_milliseconds,
    if(calls = 0, null, total_milliseconds / calls) as mean_milliseconds,
    blocks_hit,
    blocks_read,
    if(blocks_hit + blocks_read = 0, null, blocks_hit / (blocks_hit + blocks_read)) as cache_hit_ratio,
    connections_mean,
    connections_max,
    connections_limit,
    connections_max / nullIf(connections_limit, 0) as pool_use_ratio,
    size_bytes,
    size_bytes - lagInFrame(toNullable(size_bytes)) over (
        partition by store, database_name order by hour rows between unbounded preceding and current row
    ) as growth_bytes,
    samples
from hours
