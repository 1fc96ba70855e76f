"""Redis's backups.

programs.py   redis-server here, which is also redis-check-rdb
rdb.py        an RDB file checked, its keys counted
server.py     what a backup must know of the server, and what forbids one
preflight.py  every prerequisite on the server
stream.py     the server's snapshot over the network, as a replica gets it
spool.py      where it lies while it is checked: bounded, and without a name
dump.py       a backup
scratch.py    a server of our own on a socket
target.py     where a restore goes
restore.py    a data directory from a backup
"""
