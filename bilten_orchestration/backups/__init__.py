"""Backups of every store, and the way back.

keys.py        the key file: what encrypts, and what can still be read
encryption.py  objects as messages of the AWS Encryption SDK
chunks.py      streams as iterators of bytes
repository.py  a bucket: objects that are written once
manifest.py    what is said of a backup, signed
catalogue.py   which backups there are
"""
