"""Recovery: data that a bad statement changed, or stores that are gone, brought back until they agree again.

    rows.py          what one transaction did is taken back: the one door for the CLI
    candidates.py    which transactions changed a table, by the audit log, the tombstones and the sync's marks
    evidence.py      a transaction in the WAL: where it was committed, and which tables it wrote
    beside.py        a server beside production, just before that commit and just after: what was changed
    tables.py        columns, keys and foreign keys of the tables, and their order
    images.py        that, in files
    comparison.py    the three states of a row (before, after, now), and what is to be done with it
    obstacles.py     what keeps rows from being copied back
    copying.py       the comparison, the journal's entry and the writing, in their order
    writing.py       rows copied back, in one transaction
    journal.py       what is going to be done, in the repository, before it is done; and how it ended
    unended.py       recoveries that were killed: what became of them
    settled.py       the other stores follow, and are proven equal
    site.py          everything from the second bucket: phases in their order
    site_plan.py, site_phases.py, site_state.py, site_files.py   the plan, each phase, how far it came, files
    site_sources.py  what each store is brought back from
    site_records.py  what drills proved and the journal, back in the first bucket
    site_spool.py    WAL that only this machine has, shipped first
    dagster_runs.py  runs of a restored storage that nobody serves

No module here imports Dagster, but dagster_runs.py within its functions.
"""
