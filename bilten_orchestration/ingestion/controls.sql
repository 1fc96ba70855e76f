-- Control totals: what PostgreSQL itself computes per local day, event, currency and metric, in the
-- snapshot of a batch. The rules are those of docs/metrics-rules.md; dbt computes the same from the raw
-- copies, on its own. {in_days:<moment>} narrows by an index before the exact local day is asked;
-- {days} is the condition on metric_date. One row per day, event and currency: its columns are the
-- metrics, in the order of METRICS in controls.py.
with zones as (
    select e.id as event_id, coalesce(o.timezone, 'UTC') as zone
    from events.events e
    left join users.organizations o on o.id = e.organization_id
),
-- a payment counts once it is captured, whatever became of it; a soft-deleted one never
paid as materialized (
    select * from (
        select p.id, (p.captured_at at time zone z.zone)::date as metric_date, p.event_id,
               p.currency::text as currency, p.amount, p.fee_amount, p.tax_amount
        from payments.payments p
        join zones z on z.event_id = p.event_id
        where p.deleted_at is null and p.captured_at is not null and {in_days:p.captured_at}
    ) counted
    where {days}
),
captured as (
    select metric_date, event_id, currency,
           sum(amount) as gross_sales, sum(fee_amount) as fees, sum(tax_amount) as tax, count(*) as paid_orders
    from paid
    group by 1, 2, 3
),
face as (
    select p.metric_date, p.event_id, p.currency, sum(i.amount) as ticket_face_sales
    from paid p
    join payments.payment_items i on i.payment_id = p.id and i.item_type = 'ticket'
    group by 1, 2, 3
),
-- the first of a transfer is the one that was sold
paid_for as (
    select p.metric_date, p.event_id, p.currency, count(*) as tickets_sold
    from paid p
    join tickets.tickets t on t.payment_id = p.id and t.transferred_from is null
    group by 1, 2, 3
),
-- both are of payments that were captured: joined, for most of what there is to add up is here
sales as (
    select *
    from captured
    left join face using (metric_date, event_id, currency)
    left join paid_for using (metric_date, event_id, currency)
),
-- posted once refunded_at is set, posted back once reversed_at is; the status of neither row matters
refunded as (
    select (r.refunded_at at time zone z.zone)::date as metric_date, p.event_id, p.currency::text as currency,
           sum(r.amount) as refunds, sum(r.fee_amount) as refunded_fees, sum(r.tax_amount) as refunded_tax
    from payments.refunds r
    join payments.payments p on p.id = r.payment_id
    join zones z on z.event_id = p.event_id
    where p.deleted_at is null and r.refunded_at is not null and {in_days:r.refunded_at}
    group by 1, 2, 3
),
refunds_reversed as (
    select (r.reversed_at at time zone z.zone)::date as metric_date, p.event_id, p.currency::text as currency,
           sum(r.amount) as refund_reversals, -sum(r.fee_amount) as refunded_fees, -sum(r.tax_amount) as refunded_tax
    from payments.refunds r
    join payments.payments p on p.id = r.payment_id
    join zones z on z.event_id = p.event_id
    where p.deleted_at is null and r.reversed_at is not null and {in_days:r.reversed_at}
    group by 1, 2, 3
),
charged_back as (
    select (c.charged_back_at at time zone z.zone)::date as metric_date, p.event_id, p.currency::text as currency,
           sum(c.amount) as chargebacks, sum(c.dispute_fee) as dispute_fees
    from payments.chargebacks c
    join payments.payments p on p.id = c.payment_id
    join zones z on z.event_id = p.event_id
    where p.deleted_at is null and {in_days:c.charged_back_at}
    group by 1, 2, 3
),
chargebacks_reversed as (
    select (c.reversed_at at time zone z.zone)::date as metric_date, p.event_id, p.currency::text as currency,
           sum(c.amount) as chargeback_reversals
    from payments.chargebacks c
    join payments.payments p on p.id = c.payment_id
    join zones z on z.event_id = p.event_id
    where p.deleted_at is null and c.reversed_at is not null and {in_days:c.reversed_at}
    group by 1, 2, 3
),
given as (
    select (t.purchased_at at time zone z.zone)::date as metric_date, t.event_id, y.currency::text as currency,
           count(*) filter (where not t.is_complimentary) as tickets_sold,
           count(*) filter (where t.is_complimentary) as comp_tickets
    from tickets.tickets t
    join tickets.ticket_types y on y.id = t.ticket_type_id
    join zones z on z.event_id = t.event_id
    where t.payment_id is null and t.transferred_from is null and {in_days:t.purchased_at}
    group by 1, 2, 3
),
scanned as (
    select (t.checked_in_at at time zone z.zone)::date as metric_date, t.event_id, y.currency::text as currency,
           count(*) as check_ins
    from tickets.tickets t
    join tickets.ticket_types y on y.id = t.ticket_type_id
    join zones z on z.event_id = t.event_id
    left join payments.payments p on p.id = t.payment_id
    where t.checked_in_at is not null and {in_days:t.checked_in_at}
      and (t.payment_id is null or (p.captured_at is not null and p.deleted_at is null))
    group by 1, 2, 3
),
-- once, at the earlier of its own moment and its first refund; the last of a transfer is the one that
-- admits, so one that was handed on cannot be cancelled. A ticket without a payment counts also where
-- that of its refund is deleted, so refunds are asked for theirs here as well
cancelled_tickets as (
    select t.id, t.event_id, t.ticket_type_id, t.payment_id, t.cancelled_at
    from tickets.tickets t
    where t.cancelled_at is not null and {in_days:t.cancelled_at}
    union
    select t.id, t.event_id, t.ticket_type_id, t.payment_id, t.cancelled_at
    from payments.refunds r
    join payments.payments p on p.id = r.payment_id
    join tickets.tickets t on t.id = r.ticket_id
    where p.deleted_at is null and r.ticket_id is not null and r.refunded_at is not null
      and {in_days:r.refunded_at}
),
first_refund as (
    select r.ticket_id, min(r.refunded_at) as refunded_at
    from payments.refunds r
    join payments.payments p on p.id = r.payment_id
    join cancelled_tickets c on c.id = r.ticket_id
    where p.deleted_at is null and r.ticket_id is not null and r.refunded_at is not null
    group by 1
),
cancelled as (
    select (least(t.cancelled_at, f.refunded_at) at time zone z.zone)::date as metric_date, t.event_id,
           coalesce(p.currency, y.currency)::text as currency, count(*) as tickets_cancelled
    from cancelled_tickets t
    join tickets.ticket_types y on y.id = t.ticket_type_id
    join zones z on z.event_id = t.event_id
    left join payments.payments p on p.id = t.payment_id
    left join first_refund f on f.ticket_id = t.id
    where (t.payment_id is null or (p.captured_at is not null and p.deleted_at is null))
      and not exists (select from tickets.tickets later where later.transferred_from = t.id)
    group by 1, 2, 3
),
-- one row per day, event and currency; what a part does not know is null, which sum() passes over
movements (metric_date, event_id, currency,
           gross_sales, fees, tax, paid_orders,
           ticket_face_sales,
           refunds, refund_reversals, refunded_fees, refunded_tax,
           chargebacks, dispute_fees, chargeback_reversals,
           tickets_sold, comp_tickets, check_ins, tickets_cancelled) as (
    select metric_date, event_id, currency, gross_sales, fees, tax, paid_orders,
           ticket_face_sales,
           null::numeric, null::numeric, null::numeric, null::numeric,
           null::numeric, null::numeric, null::numeric,
           tickets_sold, null::bigint, null::bigint, null::bigint
    from sales
    union all
    select metric_date, event_id, currency, null, null, null, null,
           null, refunds, null, refunded_fees, refunded_tax, null, null, null, null, null, null, null
    from refunded
    union all
    select metric_date, event_id, currency, null, null, null, null,
           null, null, refund_reversals, refunded_fees, refunded_tax, null, null, null, null, null, null, null
    from refunds_reversed
    union all
    select metric_date, event_id, currency, null, null, null, null,
           null, null, null, null, null, chargebacks, dispute_fees, null, null, null, null, null
    from charged_back
    union all
    select metric_date, event_id, currency, null, null, null, null,
           null, null, null, null, null, null, null, chargeback_reversals, null, null, null, null
    from chargebacks_reversed
    union all
    select metric_date, event_id, currency, null, null, null, null,
           null, null, null, null, null, null, null, null, tickets_sold, comp_tickets, null, null
    from given
    union all
    select metric_date, event_id, currency, null, null, null, null,
           null, null, null, null, null, null, null, null, null, null, check_ins, null
    from scanned
    union all
    select metric_date, event_id, currency, null, null, null, null,
           null, null, null, null, null, null, null, null, null, null, null, tickets_cancelled
    from cancelled
),
totals as (
    select metric_date, event_id, currency,
           coalesce(sum(gross_sales), 0) as gross_sales, coalesce(sum(fees), 0) as fees,
           coalesce(sum(tax), 0) as tax, coalesce(sum(paid_orders), 0) as paid_orders,
           coalesce(sum(ticket_face_sales), 0) as ticket_face_sales,
           coalesce(sum(refunds), 0) as refunds, coalesce(sum(refund_reversals), 0) as refund_reversals,
           coalesce(sum(refunded_fees), 0) as refunded_fees, coalesce(sum(refunded_tax), 0) as refunded_tax,
           coalesce(sum(chargebacks), 0) as chargebacks, coalesce(sum(dispute_fees), 0) as dispute_fees,
           coalesce(sum(chargeback_reversals), 0) as chargeback_reversals,
           coalesce(sum(tickets_sold), 0) as tickets_sold, coalesce(sum(comp_tickets), 0) as comp_tickets,
           coalesce(sum(check_ins), 0) as check_ins, coalesce(sum(tickets_cancelled), 0) as tickets_cancelled
    from movements
    where {days}
    group by 1, 2, 3
)
select t.*,
       gross_sales - fees - tax - (refunds - refund_reversals) + refunded_fees + refunded_tax
       - chargebacks + chargeback_reversals as net_revenue
from totals t
