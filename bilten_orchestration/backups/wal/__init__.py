"""WAL: taken as it is written, kept in the repository, audited, and what it lets a restore reach.

positions.py   LSNs, segments and timelines, as PostgreSQL names them
archive.py     WAL in a bucket: one object per piece, whose name says what it is
coverage.py    which positions a path of timelines has, and where it has gaps
slots.py       the slots `stream` and `shipped`
receiver.py    pg_receivewal, into the spool
heartbeat.py   a commit every few seconds, so that WAL tells until when it reaches
ship.py        from the spool into the buckets
source.py      the thread that asks PostgreSQL
shared.py      what it and the other one tell each other
stream.py      the service: the thread that asks the buckets
status.py      what the service says of itself
first_day.py   the first day, when there is nothing to audit yet
audit.py       whether every segment that is needed is there, and whole
reach.py       what can be restored, and from where
"""
