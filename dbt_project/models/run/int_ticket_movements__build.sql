select * from {{ ref('int_ticket_movements') }}
where {{ in_run_days('metric_date') }}
