"""`bilten serve` as part of the embedded stack: always, for it watches outside stores as well."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request

from bilten_orchestration.errors import StoreUnavailable
from bilten_orchestration.local import addresses, dagster_services
from bilten_orchestration.local.fingerprint import fingerprint
from bilten_orchestration.local.health import REQUEST_SECONDS, wait
from bilten_orchestration.local.layout import Layout
from bilten_orchestration.local.programs import Program
from bilten_orchestration.local.supervision import Supervisor
from bilten_orchestration.settings import Settings

NAME = "watchdog"
_SECONDS = 60


def program(layout: Layout, settings: Settings, *, outside: bool) -> Program:
    return Program(
        name=NAME,
        argv=(sys.executable, "-m", "bilten_orchestration.cli.main", "serve"),
        directory=layout.home,
        port=settings.serve.port,
        environment=dagster_services.environment_of_services(layout, settings, outside=outside)
        | {"CODE_FINGERPRINT": fingerprint("bilten_orchestration")},
        files=(layout.stack_env,),  # other addresses, another token: news to it
        stop_seconds=30,
        start_order=40,
    )


def start(supervisor: Supervisor, settings: Settings) -> None:
    """Start it, once the schema is there, and wait for its first answer. Raises StoreUnavailable."""
    supervisor.start(NAME)
    wait(
        lambda: check(settings),
        seconds=_SECONDS,
        alive=lambda: not supervisor.states()[NAME].ended,
    )


def check(settings: Settings) -> str:
    """Whether it lives and judges, not whether all is well. Raises StoreUnavailable."""
    url = f"{addresses.watchdog_here(settings)}/health/live"
    try:
        with urllib.request.urlopen(url, timeout=REQUEST_SECONDS) as answer:  # noqa: S310
            document = json.load(answer)
    except (OSError, ValueError, urllib.error.URLError) as error:
        raise StoreUnavailable(
            "the watchdog does not answer: nobody is told when something breaks",
            expected=f"200 from {url}",
            found=str(error),
            next=f"bilten logs {NAME}; bilten up starts it",
        ) from None
    incidents = document.get("open_incidents")
    return f"{incidents} open incident{'' if incidents == 1 else 's'}"
