"""Tables partitioned by time: partitions ready ahead, old ones archived and gone.

declared.py   which tables, by which interval, how far ahead, how long kept, and what then
bounds.py     months, weeks and days as half-open ranges in UTC
catalogue.py  the partitions a table has, as PostgreSQL itself sees them
metadata.py   what system.partition_metadata is told of each step
plan.py       what has to be done and why, pure
locking.py    how locks of tables are asked for
creation.py   makes one partition, like its parent (likeness.py); premake.py: all that are missing
archives.py   archives in the repository: documents and objects, of either store
listing.py    what there is, and whether enough is ready ahead
"""
