select * from {{ ref('int_payment_items') }}
where {{ in_run_days('metric_date') }}
