"""Backups of every store, and the way back.

plan.py        what is backed up, when and for how long
preflight.py   whether a server is ready for it
create.py      take one, of whatever store
lock.py        one backup of a store at a time
report.py      what taking one tells
verify.py      whether all objects of a backup are whole; verify_deep.py restores it
scratch.py     a place for servers that prove something, and are gone afterwards
repository/    what lies in a bucket: objects, keys, manifests, the catalogue
postgres/      how its backups are taken and restored
wal/           its WAL: streamed, shipped, audited, and what can be reached
clickhouse/    how its backups are taken and restored
redis/         the same
copies/        the second bucket: what it lacks, brought there
retention/     what may go, and why the rest stays
"""
