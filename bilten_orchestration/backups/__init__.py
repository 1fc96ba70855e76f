"""Backups of every store, and the way back.

plan.py        what is backed up, when and for how long
preflight.py   whether a server is ready for it
create.py      take one, of whatever store
lock.py        one backup of a store at a time
report.py      what taking one tells
keys.py        the key file: what encrypts, and what can still be read
kms.py         keys wrapped by AWS KMS
key_usage.py   which key what is under, and what is lost
encryption.py  objects as messages of the AWS Encryption SDK
chunks.py      streams as iterators of bytes
repository.py  a bucket: objects that are written once
manifest.py    what is said of a backup, signed
catalogue.py   which backups there are
opened.py      buckets, keys and settings of a deployment, together
objects.py     one object of a backup: compressed, encrypted, stored, and back
compression.py zstd and gzip as streams
tar_slices.py  PostgreSQL's tar stream in slices that unpack alone
copies.py      the second bucket: what it lacks (copy_plan.py), brought there (checked_copy.py)
copied_files.py the application's files, copied likewise
retention.py   what may go, and why the rest stays (leftovers: orphans.py; lost reach: replayable.py)
prune.py       retention carried out, in both buckets
verify.py      whether all objects of a backup are whole
postgres/      how its backups are taken and restored
clickhouse/    the same
"""
