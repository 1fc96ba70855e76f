"""Restore drills: every day the data come back, and what would be lost and how long it takes is measured.

    plan.py          every way back there is, and which are walked on a day
    report.py        what a drill tells: phases, proofs, what was lost and how long it took
    run.py           drills of a store: the one door for Dagster and the CLI
    held.py          one drill, from the order to the attestation
    clocks.py        whether the clocks agree by which it is told what would be lost
    course.py        a drill under way: phases, proofs, what it has found so far
    attestation.py   the signed chain of drills in the repository, readable without any database
    listing.py       the chain read and verified, marks and the second bucket included
    record.py, rpo.py   system.restore_drills; what would have been lost before the order
    postgres/        the exact point, digests, proofs, and a drill per way
    clickhouse.py, marts.py, redis.py   a drill of each; whether the stores agree
    search.py, search_live.py   an index from the PostgreSQL that comes back, and the live one
    projection.py, markdown.py, promises.py   production's size, a page for people, what the checks judge
    assets.py, checks.py, schedules.py, defs.py   the Dagster face

A drill restores into a scratch place of its own (backups/scratch.py) and tears it down whatever happens; on
production it leaves a heartbeat and, for seconds, a temporary slot.
"""
