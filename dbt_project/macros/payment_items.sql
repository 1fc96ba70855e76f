{#-
    Items of captured payments: all of them (int_payment_items), or those of the days of a run
    (int_payment_items__build), whose joins then hold the payments and tickets of these days alone (macros/postings.sql
    says why).
-#}
{% macro payment_items(of_run=false) -%}
with payments as (
    {%- if of_run %}
    select
        payment_id as id,
        event_id,
        currency,
        metric_date as captured_date
    from {{ ref('int_postings__build') }}
    where posting_type = 'payment' and {{ in_run_days('metric_date') }}
    {%- else %}
    select
        id,
        event_id,
        currency,
        assumeNotNull(captured_date) as captured_date
    from {{ ref('stg_bilten__payments') }}
    where not is_soft_deleted and captured_date is not null
    {%- endif %}
),

items as (
    select
        id,
        payment_id,
        item_type,
        ticket_id,
        amount
    from {{ ref('stg_bilten__payment_items') }}
    {%- if of_run %}
    where payment_id in (select id from payments)
    {%- endif %}
),

tickets as (
    select
        id,
        ticket_type_id
    from {{ ref('stg_bilten__tickets') }}
    {%- if of_run %}
    where id in (select assumeNotNull(ticket_id) from items where ticket_id is not null)
    {%- endif %}
)

select
    items.id as item_id,
    items.payment_id as payment_id,
    payments.captured_date as metric_date,
    owners.organization_id as organization_id,
    owners.organizer_id as organizer_id,
    payments.event_id as event_id,
    payments.currency as currency,
    items.item_type as item_type,
    items.ticket_id as ticket_id,
    tickets.ticket_type_id as ticket_type_id,
    items.amount as amount
from items
inner join payments on items.payment_id = payments.id
left join tickets on items.ticket_id = tickets.id
left join {{ ref('int_event_owners') }} as owners on payments.event_id = owners.event_id
{%- endmacro %}
