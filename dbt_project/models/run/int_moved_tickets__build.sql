-- Those that may have moved: of a ticket cancelled and refunded on two days the earlier one counts, which
-- int_ticket_movements__build finds.
select
    id,
    event_id,
    ticket_type_id,
    payment_id,
    is_complimentary,
    transferred_from,
    purchased_at,
    purchased_date,
    checked_in_at,
    checked_in_date,
    cancelled_at,
    cancelled_date
from {{ ref('stg_bilten__tickets') }}
where
    (payment_id is null and {{ in_run_days('purchased_date') }})
    or {{ in_run_days('checked_in_date') }}
    or {{ in_run_days('cancelled_date') }}
    or payment_id in (
        select payment_id
        from {{ ref('int_postings__build') }}
        where posting_type = 'payment' and {{ in_run_days('metric_date') }}
    )
    or id in (
        select assumeNotNull(ticket_id)
        from {{ ref('stg_bilten__refunds') }}
        where ticket_id is not null and {{ in_run_days('refunded_date') }}
    )
