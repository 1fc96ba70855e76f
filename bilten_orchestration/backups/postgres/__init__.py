"""PostgreSQL's backups.

programs.py   the server's own programs, run as children
preflight.py  every prerequisite on the server
server.py     what a backup must know of the server, and what forbids one
base.py       full and incremental backups
parents.py    what an incremental is taken on, or why there is none
targets.py    where a restore is to stop, and what it starts from
restore.py    a data directory as of a moment
recovery.py   what it is told of its recovery, and what became of it
private.py    a restored server on a private socket
"""
