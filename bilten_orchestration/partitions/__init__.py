"""Tables partitioned by time: partitions ready ahead, old ones archived and gone.

declared.py   which tables, by which interval, how far ahead, how long kept, and what then
bounds.py     months, weeks and days as half-open ranges in UTC
catalogue.py  the partitions a table has, as PostgreSQL itself sees them
metadata.py   what system.partition_metadata is told of each step
seen.py       all that a plan needs to know of a table; trust.py: whether time has passed
plan.py       what has to be done and why, pure
apply.py      does it: creation.py (like the parent: likeness.py), detach.py, archive.py, drop.py, expiry.py
premake.py    makes what is missing, and no more
locking.py    how locks of tables are asked for
archives.py   archives in the repository: documents and objects, of either store
columns.py    types of columns in an archive; parquet.py: rows to files and back; digest.py: of rows
journal.py    what was done for good, in the repository
listing.py    what there is, and whether enough is ready ahead
"""
