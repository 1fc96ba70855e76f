"""Whether Dagster's definitions are loaded: a code location with an error has no assets, schedules or
sensors, while daemon and webserver look well.

Two questions, since either alone is answered well while the other is not: whether something listens where
the code server should (its port refuses at once when it is dead; the webserver goes on showing what it loaded
before), and what the webserver says of each location (a code server that is up and could not load the module
tells its error there).
"""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from bilten_orchestration.errors import Problem, StoreUnavailable
from bilten_orchestration.local import addresses
from bilten_orchestration.local.ports import LOOPBACK
from bilten_orchestration.observability.finding import Finding, Reading
from bilten_orchestration.settings import Settings

_CONNECT_SECONDS: Final = 5
_ANSWER_SECONDS: Final = 20
_SAID: Final = 600
_LOGS: Final = "bilten logs dagster-code; once the code loads again: bilten up"
_QUERY: Final = """
query { workspaceOrError {
  __typename
  ... on PythonError { message }
  ... on Workspace { locationEntries {
    name loadStatus locationOrLoadError {
      __typename ... on PythonError { message errorChain { error { message } } }
    }
  } }
} }"""


@dataclass(frozen=True, slots=True)
class CodeLocation:
    """One finding for each location that is not loaded; one where no code server listens."""

    settings: Settings
    name: str = "dagster/code"
    interval_seconds: float = 30
    needs: tuple[str, ...] = ("store/dagster-webserver",)

    def read(self) -> Reading:
        """Raises StoreUnavailable where the webserver does not answer, and the code server listens."""
        silent = self._silent()
        if silent is not None:
            return Reading((silent,), detail="no code server")
        entries = _asked(addresses.webserver(self.settings).url)
        ui = addresses.ui(self.settings)
        findings = [found for entry in entries if (found := _judged(entry, ui)) is not None]
        if not entries:
            findings.append(
                _finding("location/none", "Dagster has no code location", "one that is loaded", "none", ui)
            )
        return Reading(tuple(findings), detail=f"{len(entries) - len(findings)} code locations are loaded")

    def overdue(self, began_at: datetime, now: datetime) -> None:
        return None

    def _silent(self) -> Finding | None:
        port = self.settings.dagster.code_server_port
        try:
            with socket.create_connection((LOOPBACK, port), timeout=_CONNECT_SECONDS):
                return None
        except OSError as error:
            return _finding(
                "location/server",
                "Dagster's code server does not listen: no run starts, and nothing is scheduled",
                f"a connection to {LOOPBACK}:{port}",
                error.strerror or str(error),
                "",
            )


def _judged(entry: dict[str, Any], ui: str) -> Finding | None:
    name, loaded = str(entry["name"]), entry.get("locationOrLoadError") or {}
    if loaded.get("__typename") == "RepositoryLocation" or entry.get("loadStatus") == "LOADING":
        return None
    return _finding(
        f"location/{name}",
        f"the code location {name} does not load: it has no assets, schedules or sensors",
        "definitions",
        _reason(loaded)[-_SAID:],
        f"{ui}/locations",
    )


def _reason(error: dict[str, Any]) -> str:
    """The innermost one: Dagster's own around it names the module alone."""
    chain = [str(link["error"]["message"]).strip() for link in error.get("errorChain") or []]
    return next((each for each in reversed(chain) if each), "") or str(error.get("message") or "no reason")


def _finding(key: str, what: str, expected: str, found: str, link: str) -> Finding:
    return Finding(key, "code-location", "critical", Problem(what, expected, found, _LOGS), link=link)


def _asked(url: str) -> list[dict[str, Any]]:
    request = urllib.request.Request(  # noqa: S310 - our own webserver
        f"{url}/graphql",
        data=json.dumps({"query": _QUERY}).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS) as answer:  # noqa: S310
            workspace = json.load(answer)["data"]["workspaceOrError"]
        return list(workspace["locationEntries"])
    except (OSError, ValueError, KeyError, TypeError, urllib.error.URLError) as error:
        raise StoreUnavailable(
            "Dagster's webserver does not tell which code locations are loaded",
            expected="an answer to a GraphQL request",
            found=f"{type(error).__name__}: {error}"[:300],
            next="bilten logs dagster-webserver",
        ) from None
