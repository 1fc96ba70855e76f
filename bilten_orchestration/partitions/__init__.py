"""Tables partitioned by time: partitions ready ahead, old ones archived and gone.

What both stores share:

declared.py           which tables, by which interval, how far ahead, how long kept, and what then
bounds.py             months, weeks and days as half-open ranges in UTC
actions.py            what a plan consists of
run.py                one run over both stores, as CLI and Dagster call it
metadata.py           what system.partition_metadata is told of each step
locking.py            how locks of tables are asked for
archives.py           archives in the repository: documents and objects, of either store
archive_retention.py  when an archive's own time is over; expiry.py ends it
journal.py            what was done for good, in the repository

Each store: postgres/ and clickhouse/. What is shown: listing.py, standing.py (whether enough is ready ahead),
pruning.py (queries that read what they ask for), judged.py (checks), markdown.py (a run, in the UI).
"""
