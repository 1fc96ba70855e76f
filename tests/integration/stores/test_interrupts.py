"""A run that is cancelled, or Ctrl-C, while PostgreSQL works for it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.locks import advisory_lock
from tests.waiting import until

# a runner in the background of a shell has SIGINT ignored, and so would its child
AT_WORK = """
import contextlib, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from dagster._core.errors import raise_execution_interrupts
from bilten_orchestration.settings.loading import load_settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.driver_errors import translated
from bilten_orchestration.stores.locks import advisory_lock
by_dagster = sys.argv[1] == "DagsterExecutionInterruptedError"
with raise_execution_interrupts() if by_dagster else contextlib.nullcontext(), translated("a test"):
    connection = postgres.connect(load_settings().postgres, application_name="interrupted", autocommit=True)
    with connection, advisory_lock(connection, "interrupted"):
        try:
            connection.execute("select pg_sleep(600)")
        finally:
            print(*connection.execute("select 'cleaned up'").fetchone(), flush=True)
"""
STATEMENTS = "select query from pg_stat_activity where application_name = 'interrupted' and state = 'active'"


@pytest.mark.parametrize("raised", ["DagsterExecutionInterruptedError", "KeyboardInterrupt"])
def test_the_statement_ends_and_the_interrupt_is_what_is_told(
    empty_settings: Settings, environment: Callable[[Settings], dict[str, str]], raised: str
) -> None:
    """Not an error of the store, which a step would try again; and the connection cleans up."""
    with (
        closing(postgres.connect(empty_settings.postgres, autocommit=True)) as watching,
        subprocess.Popen(
            [sys.executable, "-c", AT_WORK, raised],
            env=environment(empty_settings) | {"PYTHONPATH": str(Path(__file__).parents[3])},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as child,
    ):
        try:
            until(
                lambda: watching.execute(STATEMENTS).fetchall() == [("select pg_sleep(600)",)],
                "the statement",
            )
            child.send_signal(signal.SIGINT)
            said, told = child.communicate(timeout=120)
        finally:
            child.kill()
        assert told.strip().splitlines()[-1].split(".")[-1].startswith(raised), told
        assert said == "cleaned up\n"
        assert watching.execute(STATEMENTS).fetchall() == []
        with advisory_lock(watching, "interrupted"):
            pass
