-- description: Currencies with their minor units, and exchange rates

-- ISO 4217. A function and not a look-up, so that CHECK constraints stay immutable and a dump
-- restores in any order; currencies.minor_unit is checked against it and cannot disagree.
create function financial.minor_unit(currency text) returns integer
language sql immutable strict parallel safe
return case
    when currency in ('BIF', 'CLP', 'DJF', 'GNF', 'ISK', 'JPY', 'KMF', 'KRW', 'PYG', 'RWF', 'UGX', 'VND', 'VUV', 'XAF', 'XOF', 'XPF') then 0
    when currency in ('BHD', 'IQD', 'JOD', 'KWD', 'LYD', 'OMR', 'TND') then 3
    else 2
end;
comment on function financial.minor_unit(text) is 'Decimal places of a currency by ISO 4217';

create table financial.currencies (
    code char(3) primary key check (code ~ '^[A-Z]{3}$'),
    name varchar(100) not null,
    minor_unit smallint not null check (minor_unit = financial.minor_unit(code::text)),
    symbol varchar(8),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    sync_xid xid8 not null default pg_current_xact_id()
);
comment on table financial.currencies is 'ISO 4217 currencies that may be charged';
comment on column financial.currencies.code is 'ISO 4217 alphabetic code';
comment on column financial.currencies.name is 'English name';
comment on column financial.currencies.minor_unit is 'Decimal places: 0 for JPY, 2 for EUR, 3 for KWD';
comment on column financial.currencies.symbol is 'Sign used in print';
comment on column financial.currencies.created_at is 'When the row was made (UTC)';
comment on column financial.currencies.updated_at is 'When the row last changed (UTC); never runs backwards';
comment on column financial.currencies.sync_xid is 'Transaction that last wrote the row; the sync reads by it';

insert into financial.currencies (code, name, minor_unit, symbol) values
    ('AED', 'United Arab Emirates dirham', 2, null),
    ('AUD', 'Australian dollar', 2, 'A$'),
    ('BRL', 'Brazilian real', 2, 'R$'),
    ('CAD', 'Canadian dollar', 2, 'C$'),
    ('CHF', 'Swiss franc', 2, null),
    ('EUR', 'Euro', 2, '€'),
    ('GBP', 'Pound sterling', 2, '£'),
    ('INR', 'Indian rupee', 2, '₹'),
    ('JPY', 'Yen', 0, '¥'),
    ('KWD', 'Kuwaiti dinar', 3, null),
    ('MXN', 'Mexican peso', 2, null),
    ('NPR', 'Nepalese rupee', 2, null),
    ('NZD', 'New Zealand dollar', 2, 'NZ$'),
    ('SEK', 'Swedish krona', 2, 'kr'),
    ('TND', 'Tunisian dinar', 3, null),
    ('USD', 'United States dollar', 2, '$'),
    ('ZAR', 'South African rand', 2, 'R');

create table financial.exchange_rates (
    rate_date date not null,
    from_currency char(3) not null references financial.currencies,
    to_currency char(3) not null references financial.currencies,
    rate numeric(20, 10) not null check (rate > 0),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    sync_xid xid8 not null default pg_current_xact_id(),
    primary key (rate_date, from_currency, to_currency),
    check (from_currency <> to_currency)
);
create index exchange_rates_sync_xid on financial.exchange_rates (sync_xid);
comment on table financial.exchange_rates is 'One rate per day and pair; reports may convert, stored metrics never do';
comment on column financial.exchange_rates.rate_date is 'Day the rate holds for';
comment on column financial.exchange_rates.from_currency is 'Currency of the amount at hand';
comment on column financial.exchange_rates.to_currency is 'Currency wanted';
comment on column financial.exchange_rates.rate is 'Amount in from_currency times rate is the amount in to_currency';
comment on column financial.exchange_rates.created_at is 'When the row was made (UTC)';
comment on column financial.exchange_rates.updated_at is 'When the row last changed (UTC); never runs backwards';
comment on column financial.exchange_rates.sync_xid is 'Transaction that last wrote the row; the sync reads by it';
