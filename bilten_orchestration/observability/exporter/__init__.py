"""Server internals for /metrics: one module per store, each with the families it declares and a source that
samples them on the watchdog's clock.

    postgres.py         connections, locks, transactions, WAL, checkpoints, slots, statements
    postgres_tables.py  the largest tables and indexes: size, rows, bloat
    clickhouse.py  redis.py  opensearch.py  object_store.py  dagster.py
    platform.py         the watchdog itself, and how every promise stands
    listing.py          all families; reference.py writes docs/metrics-of-the-platform.md from it

A scrape asks no server: it writes what the newest readings hold (docs/adr/0038). Servers are asked in few
statements, over one connection each; names of tables are the largest ones, parts of a partitioned table
count as one.
"""
