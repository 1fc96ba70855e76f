drop table financial.payouts;
drop table payments.chargebacks;
drop table payments.refunds;
drop table payments.payment_items;
drop table tickets.tickets;
drop table payments.payments;
drop table tickets.ticket_type_capacity_log;
drop table tickets.ticket_types;

drop function tickets.check_ticket();
drop function tickets.check_currency();
drop function tickets.log_capacity();
drop function payments.check_ticket();
drop function payments.check_payment();
drop function payments.check_scale();

drop type financial.payout_status;
drop type tickets.ticket_status;
drop type payments.chargeback_status;
drop type payments.refund_status;
drop type payments.item_type;
drop type payments.payment_status;
drop type payments.payment_method;
