"""Who owns an asset or a job, as the definitions say: asked of Dagster's webserver, and kept on disk for the
time when that is dead.

Definitions are the only place where owners are written; loading them takes Dagster, which stays out of here.
"""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Final

from bilten_orchestration.errors import StoreUnavailable
from bilten_orchestration.local import addresses
from bilten_orchestration.local.privileges import server_file
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import Settings

_REFRESH_SECONDS: Final = 600.0
_ANSWER_SECONDS: Final = 20
_OWNERS = "owners { __typename ... on UserAssetOwner { email } ... on TeamAssetOwner { team } }"
_JOB_OWNERS = "owners { __typename ... on UserDefinitionOwner { email } ... on TeamDefinitionOwner { team } }"
_QUERY = f"""
query {{
  assetNodes {{ assetKey {{ path }} {_OWNERS} }}
  repositoriesOrError {{ ... on RepositoryConnection {{ nodes {{ jobs {{ name {_JOB_OWNERS} }} }} }} }}
}}"""


class Owners:
    """By name of a job, or key of an asset joined by /. Called by sources; asks in its own thread."""

    def __init__(self, settings: Settings, directory: Path, progress: Progress = silent) -> None:
        self._settings, self._file, self._progress = settings, directory / "owners.json", progress
        self._known: dict[str, str] = _kept(self._file)

    def __call__(self, name: str) -> str:
        return self._known.get(name, "")

    def run(self, stop: threading.Event) -> None:
        """Keep them up to date until `stop`."""
        told = False
        while not stop.is_set():
            began = time.monotonic()
            try:
                self.refresh()
                told = False
            except (StoreUnavailable, OSError) as error:  # or a disk that is full
                if not told:  # that it is dead is an incident of its own
                    self._progress(str(error))
                told = True
            stop.wait(max(1.0, (30.0 if told else _REFRESH_SECONDS) - (time.monotonic() - began)))

    def refresh(self) -> None:
        """Raises StoreUnavailable; what was known stays."""
        found = _asked(addresses.webserver(self._settings).url)
        if found and found != self._known:
            self._known = found
            server_file(self._file, json.dumps(found, indent=1, sort_keys=True), None)


def _kept(file: Path) -> dict[str, str]:
    try:
        found = json.loads(file.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return {str(name): str(owner) for name, owner in found.items()} if isinstance(found, dict) else {}


def _asked(url: str) -> dict[str, str]:
    request = urllib.request.Request(  # noqa: S310 - our own webserver
        f"{url}/graphql",
        data=json.dumps({"query": _QUERY}).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS) as answer:  # noqa: S310
            document = json.load(answer)
        data = document["data"]
        nodes = [("/".join(node["assetKey"]["path"]), node["owners"]) for node in data["assetNodes"]]
        repositories = data["repositoriesOrError"].get("nodes", [])
        nodes += [(job["name"], job["owners"]) for each in repositories for job in each["jobs"]]
    except (OSError, ValueError, KeyError, TypeError, urllib.error.URLError) as error:
        raise StoreUnavailable(
            "Dagster's webserver does not tell the owners of assets",
            expected="an answer to a GraphQL request",
            found=f"{type(error).__name__}: {error}"[:300],
            next="bilten logs dagster-webserver; what was known before counts on",
        ) from None
    return {name: _owner(owners[0]) for name, owners in nodes if owners}


def _owner(owner: dict[str, Any]) -> str:
    return f"team:{owner['team']}" if "team" in owner else str(owner.get("email", ""))
