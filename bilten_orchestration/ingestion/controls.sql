-- Control totals: what PostgreSQL itself computes per local day, event, currency and metric, in the
-- snapshot of a batch. The rules are those of docs/metrics-rules.md; dbt computes the same from the raw
-- copies, on its own. {in_days:<moment>} narrows by an index before the exact local day is asked;
-- {days} is the condition on metric_date.
with zones as (
    select e.id as event_id, coalesce(o.timezone, 'UTC') as zone
    from events.events e
    left join users.organizations o on o.id = e.organization_id
),
-- a payment counts once it is captured, whatever became of it; a soft-deleted one never
paid as materialized (
    select p.id, (p.captured_at at time zone z.zone)::date as metric_date, p.event_id, p.currency::text as currency,
           p.amount, p.fee_amount, p.tax_amount
    from payments.payments p
    join zones z on z.event_id = p.event_id
    where p.deleted_at is null and p.captured_at is not null and {in_days:p.captured_at}
),
sales as (
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
-- the first of a transfer is the one that was sold
sold_paid as (
    select p.metric_date, p.event_id, p.currency, count(*) as tickets_sold
    from paid p
    join tickets.tickets t on t.payment_id = p.id and t.transferred_from is null
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
-- admits, so one that was handed on cannot be cancelled
cancelled_tickets as (
    select t.id from tickets.tickets t where t.cancelled_at is not null and {in_days:t.cancelled_at}
    union
    select r.ticket_id from payments.refunds r
    where r.ticket_id is not null and r.refunded_at is not null and {in_days:r.refunded_at}
),
first_refund as (
    select r.ticket_id, min(r.refunded_at) as refunded_at
    from payments.refunds r
    join cancelled_tickets c on c.id = r.ticket_id
    where r.refunded_at is not null
    group by 1
),
cancelled as (
    select (least(t.cancelled_at, f.refunded_at) at time zone z.zone)::date as metric_date, t.event_id,
           coalesce(p.currency, y.currency)::text as currency, count(*) as tickets_cancelled
    from cancelled_tickets c
    join tickets.tickets t on t.id = c.id
    join tickets.ticket_types y on y.id = t.ticket_type_id
    join zones z on z.event_id = t.event_id
    left join payments.payments p on p.id = t.payment_id
    left join first_refund f on f.ticket_id = t.id
    where (t.payment_id is null or (p.captured_at is not null and p.deleted_at is null))
      and not exists (select from tickets.tickets later where later.transferred_from = t.id)
    group by 1, 2, 3
),
cells as (
    select s.metric_date, s.event_id, s.currency, v.metric, v.value from sales s
    cross join lateral (values ('gross_sales', gross_sales), ('fees', fees), ('tax', tax),
                               ('paid_orders', paid_orders)) as v (metric, value)
    union all
    select metric_date, event_id, currency, 'ticket_face_sales', ticket_face_sales from face
    union all
    select s.metric_date, s.event_id, s.currency, v.metric, v.value from refunded s
    cross join lateral (values ('refunds', refunds), ('refunded_fees', refunded_fees),
                               ('refunded_tax', refunded_tax)) as v (metric, value)
    union all
    select s.metric_date, s.event_id, s.currency, v.metric, v.value from refunds_reversed s
    cross join lateral (values ('refund_reversals', refund_reversals), ('refunded_fees', refunded_fees),
                               ('refunded_tax', refunded_tax)) as v (metric, value)
    union all
    select s.metric_date, s.event_id, s.currency, v.metric, v.value from charged_back s
    cross join lateral (values ('chargebacks', chargebacks), ('dispute_fees', dispute_fees)) as v (metric, value)
    union all
    select metric_date, event_id, currency, 'chargeback_reversals', chargeback_reversals from chargebacks_reversed
    union all
    select metric_date, event_id, currency, 'tickets_sold', tickets_sold from sold_paid
    union all
    select s.metric_date, s.event_id, s.currency, v.metric, v.value from given s
    cross join lateral (values ('tickets_sold', tickets_sold), ('comp_tickets', comp_tickets)) as v (metric, value)
    union all
    select metric_date, event_id, currency, 'check_ins', check_ins from scanned
    union all
    select metric_date, event_id, currency, 'tickets_cancelled', tickets_cancelled from cancelled
),
totals as (
    select metric_date, event_id, currency, metric, sum(value) as value
    from cells
    where {days}
    group by 1, 2, 3, 4
    union all
    select metric_date, event_id, currency, 'net_revenue',
           sum(case when metric in ('gross_sales', 'refund_reversals', 'refunded_fees', 'refunded_tax', 'chargeback_reversals')
                    then value else -value end)
    from cells
    where {days}
      and metric in ('gross_sales', 'fees', 'tax', 'refunds', 'refund_reversals', 'refunded_fees', 'refunded_tax',
                     'chargebacks', 'chargeback_reversals')
    group by 1, 2, 3
)
select metric_date, event_id, currency, metric, value from totals where value <> 0
