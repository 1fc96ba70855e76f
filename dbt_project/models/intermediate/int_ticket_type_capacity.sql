-- The last change of a day holds at its end. The first entry of a type also holds for the time before it:
-- it says what the type began with.
with daily as (
    select
        ticket_type_id,
        valid_from_date,
        argMax(quantity, (valid_from, id)) as capacity
    from {{ ref('stg_bilten__ticket_type_capacity_log') }}
    group by ticket_type_id, valid_from_date
)

select
    ticket_type_id,
    if(
        row_number() over (partition by ticket_type_id order by valid_from_date asc) = 1,
        toDate32('1900-01-01'),
        valid_from_date
    ) as holds_from_date,
    capacity
from daily
