-- Purchases count whatever became of the money: a buyer whose first order was refunded came all the same.
select
    organization_id,
    user_id,
    min(metric_date) as first_purchase_date,
    toStartOfMonth(min(metric_date)) as cohort_month
from {{ ref('int_postings') }}
where posting_type = 'payment'
group by organization_id, user_id
