"""Backups of every store, and the way back.

plan.py        what is backed up, when and for how long
preflight.py   whether a server is ready for it
create.py      take one, of whatever store
lock.py        one backup of a store at a time
report.py      what taking one tells
keys.py        the key file: what encrypts, and what can still be read
encryption.py  objects as messages of the AWS Encryption SDK
chunks.py      streams as iterators of bytes
repository.py  a bucket: objects that are written once
manifest.py    what is said of a backup, signed
catalogue.py   which backups there are
opened.py      buckets, keys and settings of a deployment, together
objects.py     one object of a backup: compressed, encrypted, stored, and back
compression.py zstd and gzip as streams
tar_slices.py  PostgreSQL's tar stream in slices that unpack alone
verify.py      whether all objects of a backup are whole
postgres/      how its backups are taken and restored
clickhouse/    the same
"""
