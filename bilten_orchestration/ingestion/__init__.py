"""The sync from PostgreSQL to ClickHouse: batches by mark, clickstream, reconciliation."""
