{#-
    What happened to admissions, by local day: all of it (int_ticket_movements), or that of the days of a run
    (int_ticket_movements__build). A run reads the tickets that moved on its days, and of the rest what belongs to
    these (macros/postings.sql says why).

    A transfer makes a chain of tickets for one admission: the first was sold, the last is cancelled or
    scanned. A ticket is issued when it has no payment, or one that was captured and not deleted.
    Each ticket is joined once and then becomes its movements: a branch per kind would join all of them again.
-#}
{% macro ticket_movements(of_run=false) -%}
{%- set moved_tickets = ref('int_moved_tickets__build') if of_run else ref('stg_bilten__tickets') -%}
with payments as (
    select
        id,
        currency,
        captured_at,
        captured_date
    from {{ ref('stg_bilten__payments') }}
    where not is_soft_deleted and captured_date is not null
),

refunds as (
    select
        assumeNotNull(ticket_id) as ticket_id,
        payment_id,
        refunded_at,
        refunded_date
    from {{ ref('stg_bilten__refunds') }}
    where
        ticket_id is not null
        and refunded_at is not null
        {%- if of_run %}
        and ticket_id in (select id from {{ moved_tickets }})
        {%- endif %}
),

-- the smaller side of a join is the right one, which is held in memory
ticket_refunds as (
    select
        refunds.ticket_id as ticket_id,
        min(refunds.refunded_at) as first_refunded_at,
        argMin(refunds.refunded_date, refunds.refunded_at) as first_refunded_date
    from {{ ref('stg_bilten__payments') }} as refunded
    inner join refunds on refunded.id = refunds.payment_id
    where not refunded.is_soft_deleted
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
        ticket_refunds.first_refunded_at as refunded_at,
        ticket_refunds.first_refunded_date as refunded_date,
        payments.captured_at as captured_at,
        payments.captured_date as captured_date,
        toString(types.currency) as type_currency,
        if(tickets.payment_id is not null, toString(payments.currency), toString(types.currency)) as paid_currency,
        (tickets.cancelled_at is not null or ticket_refunds.first_refunded_at is not null)
        and tickets.id not in (
            select assumeNotNull(transferred_from)
            from {{ ref('stg_bilten__tickets') }}
            where transferred_from is not null
            {%- if of_run %} and transferred_from in (select id from {{ moved_tickets }}){% endif %}
        ) as is_ended
    {%- if of_run %}
    from payments
    right join {{ moved_tickets }} as tickets on payments.id = tickets.payment_id
    {%- else %}
    from {{ moved_tickets }} as tickets
    left join payments on tickets.payment_id = payments.id
    {%- endif %}
    left join {{ ref('stg_bilten__ticket_types') }} as types on tickets.ticket_type_id = types.id
    left join ticket_refunds on tickets.id = ticket_refunds.ticket_id
    where tickets.payment_id is null or payments.id <> {{ zero_uuid() }}
),

moved as (
    select
        ticket_id,
        event_id,
        ticket_type_id,
        payment_id,
        paid_currency,
        is_ended,
        arrayJoin(arrayFilter(movement -> movement.1 <> '', [
            (
                multiIf(is_transferred_in, '', payment_id is not null, 'sold', is_complimentary, 'comp', 'sold'),
                if(payment_id is not null, captured_date, purchased_date),
                if(payment_id is not null, captured_at, purchased_at),
                paid_currency
            ),
            (if(checked_in_date is not null, 'checked_in', ''), checked_in_date, checked_in_at, type_currency),
            -- the earlier of the two: the later one must not move what an earlier day has shown
            if(
                refunded_at is not null and (cancelled_at is null or refunded_at < cancelled_at),
                (if(is_ended, 'cancelled', ''), refunded_date, refunded_at, paid_currency),
                (if(is_ended, 'cancelled', ''), cancelled_date, cancelled_at, paid_currency)
            )
        ])) as movement
    from tickets
)

select
    moved.movement.1 as movement_type,
    moved.ticket_id as ticket_id,
    assumeNotNull(moved.movement.2) as metric_date,
    assumeNotNull(moved.movement.3) as moved_at,
    owners.organization_id as organization_id,
    owners.organizer_id as organizer_id,
    moved.event_id as event_id,
    moved.ticket_type_id as ticket_type_id,
    moved.payment_id as payment_id,
    moved.movement.4 as currency,
    toLowCardinality(moved.paid_currency) as paid_currency,
    toBool(moved.is_ended) as is_ended
from moved
left join {{ ref('int_event_owners') }} as owners on moved.event_id = owners.event_id
{%- if of_run %}
where {{ in_run_days('metric_date') }}
{%- endif %}
{%- endmacro %}
