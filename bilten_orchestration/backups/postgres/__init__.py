"""PostgreSQL's backups.

programs.py   the server's own programs, run as children
preflight.py  every prerequisite on the server
server.py     what a backup must know of the server, and what forbids one
base.py       full and incremental backups
parents.py    what an incremental is taken on, or why there is none
restore.py    a data directory from a backup
"""
