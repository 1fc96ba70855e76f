-- depends_on: {{ ref('int_ticket_movements') }}, which `bilten explain` reads for the days that are built here
{{ ticket_movements(of_run=true) }}
