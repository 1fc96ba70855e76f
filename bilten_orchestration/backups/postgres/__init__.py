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
scratch.py    an empty one, for a dump to be proven in

logical.py    logical backups: pg_dump of each database, and the roles
databases.py  what restoring a database needs to know beside its dump
dump_rows.py  the rows of a dump, counted while it passes
logical_restore.py   a database, or one table, from a logical backup
logical_target.py    the server and database that it goes to; logical_sql.py is what they are asked
dump_contents.py     what is in a dump, and what belongs to one table
pg_restore.py        the program at work
globals.py           roles made on another server
"""
