drop table financial.exchange_rates;
drop table financial.currencies;
drop function financial.minor_unit(text);
