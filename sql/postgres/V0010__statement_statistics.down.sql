drop table system.statement_days;
drop table system.statement_baseline;
drop table system.statement_looks;
