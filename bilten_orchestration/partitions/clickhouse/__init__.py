"""Monthly partitions of ClickHouse, which come with their first row and end as those of PostgreSQL do.

months.py    what there is, from system.parts; names
plan.py      what is over, and why it ends or stays; pure
preview.py   a plan, and what it was made from
digest.py    a month's rows as a number, whatever merges do meanwhile
archive.py   Parquet, streamed from the server into the repository, proven by reading it back
ending.py    out of the table, compared, dropped
restore.py   back from the archive
record.py    what system.partition_metadata is told, and what differs from it
health.py    too many parts, stuck mutations, months that nobody archived
apply.py     all of it in order, under the locks
"""
