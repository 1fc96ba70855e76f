"""The daily metrics: dbt runs by day, gates, swaps, dirty days, restatements.

build.py           builds days from the command line, `up` or a drill
opened.py          an open build: locks, evidence, journal before dbt; verdicts, dirty days after
resume.py          what dead builds left open, and going on with one
whole.py           views, dimensions, reports: what is built as a whole
dbt_call.py        how dbt is called; dbt_child.py is what is started
manifest.py        dbt's manifest: prepared by `up`, read by all
days.py, late.py   rules: days, reach, which published days are stale
dirty.py, journal.py, evidence.py, verdicts.py   what a build reads and writes
locks.py, leftovers.py   who may build, and what dead builds left in ClickHouse
explain.py         one cell, down to the rows of PostgreSQL
reconciliation.py  published days against PostgreSQL's own totals
assets.py, checks.py, schedules.py, defs.py   the Dagster face, with graph.py, translator.py, events.py
lineage.py         columns, from the SQL that dbt compiled
"""
