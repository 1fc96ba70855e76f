"""ClickHouse's backups.

disks.py       the encrypted disks that the server writes to and reads from, and their keys
sealed.py      files as such a disk stores them
digests.py     every object below a backup: its size and SHA-256
server.py      what a backup must know of the server, and what forbids one
operations.py  BACKUP and RESTORE in the server: started, followed, ended
preflight.py   every prerequisite on the server
base.py        full and incremental backups
parents.py     what an incremental is taken on, or why there is none
selection.py   which tables a restore makes, and under which names
target.py      another server, by its address
scratch.py     an empty engine of our own, for a backup to be proven in
merges.py      merges of restored tables, off while their rows are counted
proof.py       whether restored tables hold what the backup holds
restore.py     tables from a backup, on this server or another one
"""
