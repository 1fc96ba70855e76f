"""The embedded ClickHouse: one chdb engine behind ClickHouse's HTTP protocol.

A ClickHouse server cannot be had from a package index, its engine can (`chdb`). This package puts the
protocol in front of that engine, so that every client of a real server works against it unchanged.
Started as `python -m bilten_orchestration.local.clickhouse --config FILE.json`.
"""
