"""What the databases say about their own work: slow statements, indexes, dead rows, and advice from them.

collect.py       one look at pg_stat_statements, every five minutes: what the watchdog and the CLI call
statistics.py    reads the counters; prerequisites.py: what the server must have for it
difference.py    two looks, and what happened between them; pure
baseline.py      the last look and the totals per day, in PostgreSQL
text.py          statements without literals and secrets
plans.py         generic plans, where asking for one is safe
"""
