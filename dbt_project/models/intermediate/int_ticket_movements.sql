{{ ticket_movements() }}
