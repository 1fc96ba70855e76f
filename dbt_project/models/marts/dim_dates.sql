{{ config(materialized='table', tags=['whole'], order_by='date_day') }}
select
    date_day,
    toYear(date_day) as year,
    toQuarter(date_day) as quarter,
    toMonth(date_day) as month,
    toDayOfMonth(date_day) as day_of_month,
    toDayOfWeek(date_day) as day_of_week,
    toISOYear(date_day) as iso_year,
    toISOWeek(date_day) as iso_week,
    toDate32(date_trunc('month', date_day)) as month_start,
    toDate32(date_trunc('quarter', date_day)) as quarter_start,
    dateName('weekday', date_day) as weekday_name,
    dateName('month', date_day) as month_name,
    toDayOfWeek(date_day) >= 6 as is_weekend
from (
    select toDate32('2015-01-01') + number as date_day
    from numbers(toUInt64(dateDiff('day', toDate32('2015-01-01'), toDate32('2041-01-01'))))
) as days
