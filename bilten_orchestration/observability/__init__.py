"""Observability: a watchdog outside Dagster that collects, judges and tells, and answers questions.

    sources/      one collector per module: what it read, as findings (what is wrong) and promises (numbers)
    exporter/     numbers of the servers for /metrics, as samples of declared families (series.py)
    board.py      the newest reading of every source, and what is not known
    incidents.py  findings become incidents with a stable key; no I/O
    ledger.py     incidents and messages on this machine's disk: the truth
    record.py     a copy of them in PostgreSQL, written when it is there
    delivery.py   messages to receivers: in order, tried again, many as one
    watchdog.py   the process; api.py what it answers over HTTP

Nothing here imports Dagster: the watchdog works on while Dagster or a store is dead.
"""
