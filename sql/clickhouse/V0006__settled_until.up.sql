-- description: Batches know what was open when they began: a day is final once that has ended

alter table analytics.sync_batches
    add column if not exists next_xid UInt64 default 0
        comment 'Transaction id given when the batch began: who had one then has a lower one. 0 for batches of before'
        after mark,
    add column if not exists began_at DateTime64(6, 'UTC') default toDateTime64(0, 6, 'UTC')
        comment 'When that was (UTC)'
        after next_xid,
    add column if not exists settled_until DateTime64(6, 'UTC') default toDateTime64(0, 6, 'UTC')
        comment 'The batch has all of every transaction that had an id at this moment (UTC)'
        after began_at;
