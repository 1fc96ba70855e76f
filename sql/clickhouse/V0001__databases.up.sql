-- description: Databases of the layers
create database if not exists bilten_raw comment 'Copies of operational tables, written by the sync alone';
create database if not exists bilten_stage comment 'Rows of a sync batch before they enter bilten_raw; empty between batches';
create database if not exists analytics comment 'Clickstream, control totals, state of the marts, long-form metrics';
create database if not exists staging comment 'dbt: views over bilten_raw, current rows only';
create database if not exists intermediate comment 'dbt: facts and rules shared by marts';
create database if not exists marts comment 'dbt: what analysts query';
