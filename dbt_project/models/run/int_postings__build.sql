-- depends_on: {{ ref('int_postings') }}, which `bilten explain` reads for the days that are built here
{{ postings(of_run=true, ahead=funnel_days()) }}
