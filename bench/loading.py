"""Loading the definitions in a fresh interpreter, beyond what importing dagster and dagster-dbt takes."""

from __future__ import annotations

import os
import subprocess
import sys

from bench.harness import OURS, Comparison, Context, take_turns
from bilten_orchestration.metrics import manifest
from bilten_orchestration.settings import CHECKOUT
from bilten_orchestration.settings.loading import as_environment

BOUND_SECONDS = 1.0
_HEAVY = (
    "pandas",
    "dbt.cli",
    "sqlalchemy.orm",
    "clickhouse_connect",
    "pyarrow",
    "numpy",
    "boto3",
    "psycopg",
    "redis",
)
_PROGRAM = """
import sys, time
import dagster, dagster_dbt
before, started = set(sys.modules), time.process_time()
from bilten_orchestration.definitions import definitions
definitions()
print(time.process_time() - started)
print(*sorted(set(sys.modules) - before))
"""


def definitions(context: Context) -> Comparison:
    """Seconds of CPU beyond the imports; what else is imported is named in the note."""
    heavy: set[str] = set()

    def load() -> float:
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM],
            cwd=CHECKOUT,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT), **as_environment(context.settings)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        seconds, modules = done.stdout.splitlines()[-2:]
        heavy.update(name for name in modules.split() if name in _HEAVY)
        return float(seconds)

    manifest.prepare(context.settings)  # as `up` does
    runs = max(context.runs, 5)
    seconds = take_turns({OURS: load}, runs, context.progress)
    besides = ", ".join(sorted(heavy)) or "none"
    return Comparison(
        "loading the definitions",
        context.scale,
        "a fresh interpreter",
        seconds,
        runs,
        bound_seconds=BOUND_SECONDS,
        note=f"seconds of CPU beyond importing dagster and dagster-dbt; heavy modules besides: {besides}",
    )
