{{ config(materialized='table', tags=['whole'], order_by=['organization_id', 'cohort_month', 'purchase_month', 'currency']) }}
-- Whole at every build: one early payment corrected moves a buyer, and every month since, to another cohort.
with purchases as (
    select
        postings.organization_id as organization_id,
        postings.user_id as user_id,
        buyers.cohort_month as cohort_month,
        toStartOfMonth(postings.metric_date) as purchase_month,
        postings.currency as currency,
        postings.amount as amount
    from {{ ref('int_postings') }} as postings
    inner join {{ ref('int_buyers') }} as buyers
        on postings.organization_id = buyers.organization_id and postings.user_id = buyers.user_id
    where postings.posting_type = 'payment'
),

cohorts as (
    select
        organization_id,
        cohort_month,
        count() as cohort_buyers
    from {{ ref('int_buyers') }}
    group by organization_id, cohort_month
)

select
    purchases.organization_id as organization_id,
    toDate32(purchases.cohort_month) as cohort_month,
    toDate32(purchases.purchase_month) as purchase_month,
    toUInt16(dateDiff('month', purchases.cohort_month, purchases.purchase_month)) as months_since_first,
    toLowCardinality(toString(purchases.currency)) as currency,
    any(cohorts.cohort_buyers) as cohort_buyers,
    uniqExact(purchases.user_id) as buyers,
    count() as paid_orders,
    sum(purchases.amount) as gross_sales
from purchases
inner join cohorts
    on purchases.organization_id = cohorts.organization_id and purchases.cohort_month = cohorts.cohort_month
group by
    purchases.organization_id, purchases.cohort_month, purchases.purchase_month, purchases.currency
