-- Amounts are signed by what they do to the organizer's money: sums of this model are balances.
-- A local day stands in the raw row, computed by PostgreSQL in the zone of the event's organization.
with payments as (
    select
        id,
        event_id,
        user_id,
        currency,
        amount,
        fee_amount,
        tax_amount,
        captured_at,
        captured_date
    from {{ ref('stg_bilten__payments') }}
    where not is_soft_deleted
),

facts as (
    select
        'payment' as posting_type,
        id as source_id,
        id as payment_id,
        assumeNotNull(captured_date) as metric_date,
        assumeNotNull(captured_at) as posted_at,
        amount as amount,
        fee_amount as fee_amount,
        tax_amount as tax_amount,
        toDecimal64(0, 3) as dispute_fee
    from payments
    where captured_date is not null

    union all

    select
        'refund' as posting_type,
        id as source_id,
        payment_id,
        assumeNotNull(refunded_date) as metric_date,
        assumeNotNull(refunded_at) as posted_at,
        -amount as amount,
        -fee_amount as fee_amount,
        -tax_amount as tax_amount,
        toDecimal64(0, 3) as dispute_fee
    from {{ ref('stg_bilten__refunds') }}
    where refunded_date is not null

    union all

    select
        'refund_reversal' as posting_type,
        id as source_id,
        payment_id,
        assumeNotNull(reversed_date) as metric_date,
        assumeNotNull(reversed_at) as posted_at,
        amount as amount,
        fee_amount as fee_amount,
        tax_amount as tax_amount,
        toDecimal64(0, 3) as dispute_fee
    from {{ ref('stg_bilten__refunds') }}
    where reversed_date is not null

    union all

    select
        'chargeback' as posting_type,
        id as source_id,
        payment_id,
        charged_back_date as metric_date,
        charged_back_at as posted_at,
        -amount as amount,
        toDecimal64(0, 3) as fee_amount,
        toDecimal64(0, 3) as tax_amount,
        dispute_fee
    from {{ ref('stg_bilten__chargebacks') }}

    union all

    select
        'chargeback_reversal' as posting_type,
        id as source_id,
        payment_id,
        assumeNotNull(reversed_date) as metric_date,
        assumeNotNull(reversed_at) as posted_at,
        amount as amount,
        toDecimal64(0, 3) as fee_amount,
        toDecimal64(0, 3) as tax_amount,
        toDecimal64(0, 3) as dispute_fee
    from {{ ref('stg_bilten__chargebacks') }}
    where reversed_date is not null
)

select
    facts.posting_type as posting_type,
    facts.source_id as source_id,
    facts.payment_id as payment_id,
    facts.metric_date as metric_date,
    facts.posted_at as posted_at,
    owners.organization_id as organization_id,
    owners.organizer_id as organizer_id,
    payments.event_id as event_id,
    payments.user_id as user_id,
    payments.currency as currency,
    facts.amount as amount,
    facts.fee_amount as fee_amount,
    facts.tax_amount as tax_amount,
    facts.dispute_fee as dispute_fee,
    -- fee and tax were never the organizer's; a chargeback takes them from the organizer all the same
    facts.amount - facts.fee_amount - facts.tax_amount as net_amount
from facts
inner join payments on facts.payment_id = payments.id
left join {{ ref('int_event_owners') }} as owners on payments.event_id = owners.event_id
