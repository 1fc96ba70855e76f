alter table analytics.sync_batches
    drop column if exists settled_until,
    drop column if exists began_at,
    drop column if exists next_xid;
