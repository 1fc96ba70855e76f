select
    items.id as item_id,
    items.payment_id as payment_id,
    assumeNotNull(payments.captured_date) as metric_date,
    owners.organization_id as organization_id,
    owners.organizer_id as organizer_id,
    payments.event_id as event_id,
    payments.currency as currency,
    items.item_type as item_type,
    items.ticket_id as ticket_id,
    tickets.ticket_type_id as ticket_type_id,
    items.amount as amount
from {{ ref('stg_bilten__payment_items') }} as items
inner join {{ ref('stg_bilten__payments') }} as payments on items.payment_id = payments.id
left join {{ ref('stg_bilten__tickets') }} as tickets on items.ticket_id = tickets.id
left join {{ ref('int_event_owners') }} as owners on payments.event_id = owners.event_id
where not payments.is_soft_deleted and payments.captured_date is not null
