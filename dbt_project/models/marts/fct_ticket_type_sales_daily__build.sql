{{ config(
    materialized='table',
    tags=['daily'],
    engine='MergeTree()',
    order_by=['organization_id', 'organizer_id', 'event_id', 'ticket_type_id', 'currency'],
    partition_by='metric_date',
    persist_docs={'relation': false, 'columns': false},
    pre_hook="{{ forget_verdicts() }}",
) }}
with facts as (
    select
        metric_date,
        organization_id,
        organizer_id,
        event_id,
        currency,
        ticket_type_id,
        'face' as fact,
        amount
    from {{ ref('int_payment_items__build') }}
    where {{ in_run_days('metric_date') }} and item_type = 'ticket'

    union all

    select
        metric_date,
        organization_id,
        organizer_id,
        event_id,
        currency,
        ticket_type_id,
        movement_type as fact,
        toDecimal64(0, 3) as amount
    from {{ ref('int_ticket_movements__build') }}
    where {{ in_run_days('metric_date') }}
),

daily as (
    select
        metric_date,
        organization_id,
        organizer_id,
        event_id,
        currency,
        ticket_type_id,
        sum(amount) as ticket_face_sales,
        countIf(fact = 'sold') as tickets_sold,
        countIf(fact = 'comp') as comp_tickets,
        countIf(fact = 'cancelled') as tickets_cancelled,
        countIf(fact = 'checked_in') as check_ins
    from facts
    group by metric_date, organization_id, organizer_id, event_id, currency, ticket_type_id
)

select
    daily.metric_date as metric_date,
    daily.organization_id as organization_id,
    daily.organizer_id as organizer_id,
    daily.event_id as event_id,
    toLowCardinality(toString(daily.currency)) as currency,
    daily.ticket_type_id as ticket_type_id,
    daily.ticket_face_sales as ticket_face_sales,
    daily.tickets_sold as tickets_sold,
    daily.comp_tickets as comp_tickets,
    daily.tickets_cancelled as tickets_cancelled,
    daily.check_ins as check_ins,
    log.capacity as capacity
from daily
asof left join {{ ref('int_ticket_type_capacity') }} as log
    on daily.ticket_type_id = log.ticket_type_id and daily.metric_date >= log.holds_from_date
