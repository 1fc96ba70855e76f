{{ config(
    materialized='table',
    tags=['daily'],
    engine='MergeTree()',
    order_by=['organization_id', 'organizer_id', 'event_id', 'currency'],
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
        posting_type as fact,
        amount,
        fee_amount,
        tax_amount,
        dispute_fee,
        net_amount
    from {{ ref('int_postings__build') }}
    where {{ in_run_days('metric_date') }}

    union all

    select
        metric_date,
        organization_id,
        organizer_id,
        event_id,
        currency,
        movement_type as fact,
        toDecimal64(0, 3) as amount,
        toDecimal64(0, 3) as fee_amount,
        toDecimal64(0, 3) as tax_amount,
        toDecimal64(0, 3) as dispute_fee,
        toDecimal64(0, 3) as net_amount
    from {{ ref('int_ticket_movements__build') }}
    where {{ in_run_days('metric_date') }}
)

select
    metric_date,
    organization_id,
    organizer_id,
    event_id,
    toLowCardinality(toString(currency)) as currency,
    sumIf(amount, fact = 'payment') as gross_sales,
    -sumIf(amount, fact = 'refund') as refunds,
    sumIf(amount, fact = 'refund_reversal') as refund_reversals,
    -sumIf(amount, fact = 'chargeback') as chargebacks,
    sumIf(amount, fact = 'chargeback_reversal') as chargeback_reversals,
    sumIf(fee_amount, fact = 'payment') as fees,
    sumIf(tax_amount, fact = 'payment') as tax,
    -sumIf(fee_amount, fact in ('refund', 'refund_reversal')) as refunded_fees,
    -sumIf(tax_amount, fact in ('refund', 'refund_reversal')) as refunded_tax,
    sum(dispute_fee) as dispute_fees,
    sum(net_amount) as net_revenue,
    countIf(fact = 'payment') as paid_orders,
    countIf(fact = 'sold') as tickets_sold,
    countIf(fact = 'comp') as comp_tickets,
    countIf(fact = 'cancelled') as tickets_cancelled,
    countIf(fact = 'checked_in') as check_ins
from facts
group by metric_date, organization_id, organizer_id, event_id, currency
