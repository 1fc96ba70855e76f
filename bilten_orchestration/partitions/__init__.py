"""Tables partitioned by month.

declared.py   which tables, how far ahead, how long kept
bounds.py     months as half-open ranges in UTC
catalogue.py  the partitions a table has, as PostgreSQL itself sees them
premake.py    makes the months that are missing
listing.py    what there is, and whether enough is ready ahead
"""
