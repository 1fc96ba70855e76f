-- With whatever dbt has built in them.
drop database if exists marts sync;
drop database if exists intermediate sync;
drop database if exists staging sync;
drop database if exists analytics sync;
drop database if exists bilten_stage sync;
drop database if exists bilten_raw sync;
