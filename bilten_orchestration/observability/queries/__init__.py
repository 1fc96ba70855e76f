"""What the databases say about their own work: slow statements, indexes, dead rows, and advice from them.

    collect.py       one look at pg_stat_statements, every five minutes: what the watchdog and the CLI call
    statistics.py    reads the counters; prerequisites.py: what the server must have for it
    difference.py    two looks, and what happened between them; pure
    baseline.py      the last look and the totals per day, in PostgreSQL
    samples.py       what each database did and how it stood; figures.py rolls them up to hours of ClickHouse
    text.py          statements without literals and secrets
    plans.py         generic plans, where asking for one is safe
    regressions.py   two weeks compared; scans.py: plans that read a whole table for little
    indexes.py, tables.py   what the catalogues of PostgreSQL tell; clickhouse.py: the query log
    shape.py         single tables by the rules of the advice
    advice.py        puts it together, as lines.py words it and markdown.py shows it; listing.py: what is slow
    assets.py, checks.py, schedules.py, defs.py   advice every week, figures every hour

Nothing but the last line's modules imports Dagster.
"""
