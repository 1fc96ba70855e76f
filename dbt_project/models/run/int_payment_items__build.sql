{{ payment_items(of_run=true) }}
