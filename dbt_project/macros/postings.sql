{#-
    Signed amounts by the local day on which they happened: all of them (int_postings), or those of the days of a run
    (int_postings__build). Conditions on days stand where rows are read, before any join, so that what a join holds in
    memory follows the days of the run and not the history. A condition outside is not enough: no optimizer moves it
    to the other side of a join.

    Amounts are signed by what they do to the organizer's money: sums of postings are balances.
    A local day stands in the raw row, computed by PostgreSQL in the zone of the event's organization.
-#}
{% macro postings(of_run=false, ahead=0) -%}
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
    where
        not is_soft_deleted
        {%- if of_run %}
        and (
            {{ in_run_days('captured_date', ahead=ahead) }}
            or id in (
                select payment_id
                from {{ ref('stg_bilten__refunds') }}
                where {{ in_run_days('refunded_date', ahead=ahead) }} or {{ in_run_days('reversed_date', ahead=ahead) }}

                union all

                select payment_id
                from {{ ref('stg_bilten__chargebacks') }}
                where {{ in_run_days('charged_back_date', ahead=ahead) }} or {{ in_run_days('reversed_date', ahead=ahead) }}
            )
        )
        {%- endif %}
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
    where {{ happened('captured_date', of_run, ahead) }}

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
    where {{ happened('refunded_date', of_run, ahead) }}

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
    where {{ happened('reversed_date', of_run, ahead) }}

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
    where {{ happened('charged_back_date', of_run, ahead) }}

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
    where {{ happened('reversed_date', of_run, ahead) }}
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
{%- endmacro %}

{#- That a nullable local day is there; in a run, that it is one of its days. -#}
{% macro happened(column, of_run, ahead=0) -%}
    {{ in_run_days(column, ahead=ahead) if of_run else column ~ ' is not null' }}
{%- endmacro %}
