select * from {{ ref('int_postings') }}
where {{ in_run_days('metric_date', ahead=funnel_days()) }}
