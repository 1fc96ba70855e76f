"""The repository of backups: what lies in a bucket, and how it is written and read.

bucket.py      a bucket: objects that are written once
keys.py        the key file: what encrypts, and what can still be read
kms.py         keys wrapped by AWS KMS
key_usage.py   which key what is under, and what is lost
encryption.py  objects as messages of the AWS Encryption SDK
compression.py zstd and gzip as streams
chunks.py      streams as iterators of bytes
tar_slices.py  PostgreSQL's tar stream in slices that unpack alone
objects.py     one object of a backup: compressed, encrypted, stored, and back
manifest.py    what is said of a backup, signed
catalogue.py   which backups there are
opened.py      buckets, keys and settings of a deployment, together
memory.py      of a process that moves large pieces, bounded
"""
