{{ config(materialized='view', tags=['whole']) }}
-- Computed on reading: a stored running total would make every later day wrong when an earlier one changes.
select
    metric_date,
    organization_id,
    organizer_id,
    event_id,
    currency,
    ticket_type_id,
    ticket_face_sales,
    tickets_sold,
    comp_tickets,
    tickets_cancelled,
    check_ins,
    capacity,
    sum(tickets_sold) over to_date as sold_to_date,
    sum(comp_tickets) over to_date as comps_to_date,
    sum(tickets_cancelled) over to_date as cancelled_to_date
from {{ ref('fct_ticket_type_sales_daily') }}
-- a range, not rows: rows of one day (two currencies) show the same running total
window to_date as (partition by ticket_type_id order by metric_date asc range between unbounded preceding and current row)
