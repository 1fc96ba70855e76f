"""Runs of Dagster that are over: their events and logs grow for ever, and are removed after their days.

    evidence.py   which runs are still needed, and by what; reads only
    prune.py      the plan, and its execution: logs, evaluations, events, run
    assets.py, schedules.py, defs.py   every day

Ticks are removed by Dagster itself (dagster.yaml). Nothing but the last line's modules imports Dagster, and
prune.py only to delete.
"""
