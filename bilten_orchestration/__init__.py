"""The data side of Bilten: one Dagster code location and the engines beneath it.

Every domain is a folder (ingestion, metrics, partitions, ...) with plain modules that know no
Dagster, and a thin face beside them (assets.py, checks.py, schedules.py, defs.py).
"""

__version__ = "0.1.0"
