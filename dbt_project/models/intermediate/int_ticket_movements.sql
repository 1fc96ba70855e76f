-- A transfer makes a chain of tickets for one admission: the first was sold, the last is cancelled or
-- scanned. A ticket is issued when it has no payment, or one that was captured and not deleted.
with payments as (
    select
        id,
        currency,
        captured_at,
        captured_date
    from {{ ref('stg_bilten__payments') }}
    where not is_soft_deleted and captured_date is not null
),

ticket_refunds as (
    select
        refunds.ticket_id as ticket_id,
        min(refunds.refunded_at) as refunded_at,
        argMin(refunds.refunded_date, refunds.refunded_at) as refunded_date
    from {{ ref('stg_bilten__refunds') }} as refunds
    inner join {{ ref('stg_bilten__payments') }} as refunded on refunds.payment_id = refunded.id
    where
        refunds.ticket_id is not null
        and refunds.refunded_at is not null
        and not refunded.is_soft_deleted
    group by refunds.ticket_id
),

tickets as (
    select
        tickets.id as ticket_id,
        tickets.event_id as event_id,
        tickets.ticket_type_id as ticket_type_id,
        tickets.payment_id as payment_id,
        tickets.is_complimentary as is_complimentary,
        tickets.transferred_from is not null as is_transferred_in,
        tickets.purchased_at as purchased_at,
        tickets.purchased_date as purchased_date,
        tickets.checked_in_at as checked_in_at,
        tickets.checked_in_date as checked_in_date,
        tickets.cancelled_at as cancelled_at,
        tickets.cancelled_date as cancelled_date,
        payments.captured_at as captured_at,
        payments.captured_date as captured_date,
        payments.currency as payment_currency,
        types.currency as type_currency
    from {{ ref('stg_bilten__tickets') }} as tickets
    left join payments on tickets.payment_id = payments.id
    left join {{ ref('stg_bilten__ticket_types') }} as types on tickets.ticket_type_id = types.id
    where tickets.payment_id is null or payments.id <> {{ zero_uuid() }}
),

facts as (
    select
        'sold' as movement_type,
        ticket_id,
        event_id,
        ticket_type_id,
        payment_id,
        assumeNotNull(captured_date) as metric_date,
        assumeNotNull(captured_at) as moved_at,
        payment_currency as currency
    from tickets
    where payment_id is not null and not is_transferred_in

    union all

    select
        'sold' as movement_type,
        ticket_id,
        event_id,
        ticket_type_id,
        payment_id,
        purchased_date as metric_date,
        purchased_at as moved_at,
        type_currency as currency
    from tickets
    where payment_id is null and not is_complimentary and not is_transferred_in

    union all

    select
        'comp' as movement_type,
        ticket_id,
        event_id,
        ticket_type_id,
        payment_id,
        purchased_date as metric_date,
        purchased_at as moved_at,
        type_currency as currency
    from tickets
    where is_complimentary and not is_transferred_in

    union all

    select
        'checked_in' as movement_type,
        ticket_id,
        event_id,
        ticket_type_id,
        payment_id,
        assumeNotNull(checked_in_date) as metric_date,
        assumeNotNull(checked_in_at) as moved_at,
        type_currency as currency
    from tickets
    where checked_in_date is not null

    union all

    select
        'cancelled' as movement_type,
        tickets.ticket_id as ticket_id,
        tickets.event_id as event_id,
        tickets.ticket_type_id as ticket_type_id,
        tickets.payment_id as payment_id,
        -- the earlier of the two: the later one must not move what an earlier day has shown
        assumeNotNull(if(
            ticket_refunds.refunded_at is not null
            and (tickets.cancelled_at is null or ticket_refunds.refunded_at < tickets.cancelled_at),
            ticket_refunds.refunded_date,
            tickets.cancelled_date
        )) as metric_date,
        assumeNotNull(least(
            coalesce(ticket_refunds.refunded_at, tickets.cancelled_at),
            coalesce(tickets.cancelled_at, ticket_refunds.refunded_at)
        )) as moved_at,
        if(tickets.payment_id is not null, tickets.payment_currency, tickets.type_currency) as currency
    from tickets
    left join ticket_refunds on tickets.ticket_id = ticket_refunds.ticket_id
    where
        (tickets.cancelled_at is not null or ticket_refunds.refunded_at is not null)
        and tickets.ticket_id not in (
            select assumeNotNull(transferred_from)
            from {{ ref('stg_bilten__tickets') }}
            where transferred_from is not null
        )
)

select
    facts.movement_type as movement_type,
    facts.ticket_id as ticket_id,
    facts.metric_date as metric_date,
    facts.moved_at as moved_at,
    owners.organization_id as organization_id,
    owners.organizer_id as organizer_id,
    facts.event_id as event_id,
    facts.ticket_type_id as ticket_type_id,
    facts.payment_id as payment_id,
    facts.currency as currency
from facts
left join {{ ref('int_event_owners') }} as owners on facts.event_id = owners.event_id
