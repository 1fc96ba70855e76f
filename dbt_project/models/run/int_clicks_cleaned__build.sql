-- Of the time before the run only browsers are kept with which its buyers logged in: no other touch is asked for.
select * from {{ ref('int_clicks_cleaned') }}
where
    {{ around_run_days('created_date', back=touch_days(), ahead=funnel_days()) }}
    and (
        {{ around_run_days('created_date', back=1, ahead=funnel_days()) }}
        or visitor_id in (
            select visitor_id
            from {{ source('analytics', 'events') }}
            where
                {{ around_run_days('created_date', back=touch_days()) }}
                and user_id in (
                    select user_id
                    from {{ ref('int_postings__build') }}
                    where posting_type = 'payment' and {{ in_run_days('metric_date') }}
                )
        )
    )
