"""Versioned up and down migrations of both databases.

statements.py   one SQL file into its statements
files.py        what lies in sql/: discovered, read, checked
history.py      system.migrations in PostgreSQL, the history of both stores
plan.py         what a run would do, or every reason why it must not; pure
evidence.py     whether ClickHouse holds what the history says
execute.py      runs one script and keeps its record
losses.py       what a down would destroy, for its preview
status.py       where every migration stands
runner.py       up, down, status: what others call
reports.py      what they return
"""
