"""`bilten wal stream` as part of the embedded stack.

Only beside the embedded PostgreSQL: on an outside server it makes replication slots, which keep WAL while it
is down, and that is for whoever runs that server to decide (docs/backups.md).
"""

from __future__ import annotations

import sys

from bilten_orchestration.backups.wal import status as statuses
from bilten_orchestration.errors import Problem, StoreUnavailable
from bilten_orchestration.local import dagster_services
from bilten_orchestration.local.fingerprint import fingerprint
from bilten_orchestration.local.health import wait
from bilten_orchestration.local.layout import Layout
from bilten_orchestration.local.programs import Program
from bilten_orchestration.local.supervision import Supervisor
from bilten_orchestration.settings import Settings

NAME = "wal"
_SECONDS = 60


def program(layout: Layout, settings: Settings, *, outside: bool) -> Program:
    return Program(
        name=NAME,
        argv=(sys.executable, "-m", "bilten_orchestration.cli.main", "wal", "stream"),
        directory=layout.home,
        port=0,
        environment=dagster_services.environment_of_services(layout, settings, outside=outside)
        | {"CODE_FINGERPRINT": fingerprint("bilten_orchestration")},
        files=(layout.stack_env,),  # it keeps its connections: another port is news to it
        stop_seconds=30,  # it ships what there is
        start_order=40,
    )


def start(supervisor: Supervisor, settings: Settings) -> None:
    """Start it, once the schema is there, and wait for its first word, whatever that is: `up` goes on without
    a second bucket, and `bilten status` says what is wrong."""
    supervisor.start(NAME)
    wait(
        lambda: _first_word(supervisor, settings),
        seconds=_SECONDS,
        alive=lambda: not supervisor.states()[NAME].ended,
    )


def _first_word(supervisor: Supervisor, settings: Settings) -> str:
    found, problems = statuses.read(statuses.place(settings))
    if found is None or found.pid != supervisor.states()[NAME].pid:
        raise StoreUnavailable(problems or (_no_word(),))
    return found.state


def _no_word() -> Problem:
    return Problem(
        "the stream of WAL has not begun", expected="a word of it", found="none", next=f"bilten logs {NAME}"
    )


def check(settings: Settings) -> str:
    """Until when PostgreSQL can be restored. Raises StoreUnavailable with what is wrong."""
    found, problems = statuses.read(statuses.place(settings))
    if problems:
        raise StoreUnavailable(problems)
    assert found is not None  # noqa: S101
    until = found.buckets[0].reachable_until if found.buckets else None
    return "no heartbeat stored yet" if until is None else f"reaches {until:%H:%M:%S} UTC"
