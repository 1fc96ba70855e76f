"""Partitioned tables of PostgreSQL.

catalogue.py  the partitions a table has, as PostgreSQL itself sees them
seen.py       all that a plan needs to know of a table; trust.py: whether time has passed
plan.py       what has to be done and why, pure; obstacles.py: what stands in the way, as it is told
preview.py    a plan, and what it was made from
apply.py      carries it out: creation.py (like the parent: likeness.py), detach.py, archive.py, drop.py
premake.py    makes what is missing, and no more
columns.py    types of columns in an archive; parquet.py: rows to files and back; digest.py: of rows
restore.py    back from an archive; restored_table.py: the table it comes back in; fitting.py: whether it fits
drift.py      what is recorded against the catalogues; reconcile.py: measures it anew, or accepts it
adoption/     a table that exists becomes partitioned, and back; a default partition is emptied
"""
