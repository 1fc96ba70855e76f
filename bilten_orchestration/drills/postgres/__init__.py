"""Drills of PostgreSQL: every way back is walked, on servers that nobody else reaches.

    drill.py      the door: one way, from the order to its proofs
    point.py      a snapshot of production and the position of WAL that it is of
    slot.py, locks.py, readers.py   the two ways to one
    shipped.py    waiting until WAL of a position is in the repository
    digests.py    a digest of every table, here and there
    restored.py   the restored server, its phases, the first query
    proofs.py     what is asked of it
    ways.py       which backup, from which bucket, up to where: the ways of a physical restore
    table.py      one table from the newest dump

Nothing here imports Dagster. Production is read, and gets a temporary slot for seconds; everything else
happens below the drill's own directory.
"""
