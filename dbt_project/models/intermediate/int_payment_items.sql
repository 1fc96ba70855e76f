{{ payment_items() }}
