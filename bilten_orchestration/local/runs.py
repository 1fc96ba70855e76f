"""Jobs as Dagster runs, for `up`: what it fills is then seen in the UI like any other run.

Spoken over the webserver's GraphQL, so that the command imports no Dagster. A run outlives the command
that launched it: one that is still going is followed by the next `up` instead of a second one.
"""

from __future__ import annotations

import json
import textwrap
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import date
from typing import Any

from bilten_orchestration.errors import Mismatch, Problem, StoreUnavailable
from bilten_orchestration.local.addresses import Webserver
from bilten_orchestration.local.dagster_services import LOCATION
from bilten_orchestration.progress import Progress

POLL_SECONDS = 1.0
REQUEST_SECONDS = 60
RUN_SECONDS = 3600
LINE = 74  # with the indent of `up` within 80 columns; a whole command of dbt is in the run's log
_GOING = ("QUEUED", "NOT_STARTED", "MANAGED", "STARTING", "STARTED", "CANCELING")

_LOCATION = """
query ($name: String!) {
  workspaceLocationEntryOrError(name: $name) {
    __typename
    ... on WorkspaceLocationEntry {
      locationOrLoadError { __typename ... on PythonError { message } }
    }
    ... on PythonError { message }
  }
}"""

_RELOAD = """
mutation ($name: String!) { reloadRepositoryLocation(repositoryLocationName: $name) { __typename } }"""

_FIND = """
query ($job: String!, $statuses: [RunStatus!]) {
  runsOrError(filter: {pipelineName: $job, statuses: $statuses}, limit: 20) {
    __typename ... on Runs { results { runId tags { key value } } } ... on PythonError { message }
  }
}"""

_LAUNCH = """
mutation ($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } }
  }
}"""

_FOLLOW = """
query ($run: ID!, $cursor: String) {
  runOrError(runId: $run) { __typename ... on Run { status } }
  logsForRun(runId: $run, afterCursor: $cursor) {
    __typename
    ... on EventConnection {
      cursor
      events {
        __typename
        ... on LogMessageEvent { message }
        ... on ExecutionStepFailureEvent { stepKey error { message } }
        ... on RunFailureEvent { message }
      }
    }
  }
}"""


def await_location(web: Webserver, seconds: float) -> None:
    """Until the webserver has the definitions: it may have started before the code server had them.

    Raises StoreUnavailable with what it found instead.
    """
    deadline = time.monotonic() + seconds
    while True:
        entry = _ask(web, _LOCATION, {"name": LOCATION})["workspaceLocationEntryOrError"]
        location = entry.get("locationOrLoadError") or entry
        if location["__typename"] == "RepositoryLocation":
            return
        if time.monotonic() > deadline:
            raise StoreUnavailable(
                f"the Dagster webserver has not loaded the code location {LOCATION}",
                expected=f"its definitions within {seconds:g} s",
                found=f"{location['__typename']}: {location.get('message', '')}"[:600],
                next="bilten logs dagster-code",
            )
        if location["__typename"] == "PythonError":
            _ask(web, _RELOAD, {"name": LOCATION})
        time.sleep(POLL_SECONDS)


def run_job(web: Webserver, job: str, progress: Progress, *, days: tuple[date, date] | None = None) -> str:
    """Launch `job` (for the days from first to last) and follow it to its good end; returns the run id.

    Raises Mismatch with what its steps said when it fails, StoreUnavailable when the webserver does not
    answer or the run does not end within an hour.
    """
    tags = {} if days is None else _range_tags(days)
    run_id = _going(web, job, tags)
    if run_id is None:
        run_id = _launch(web, job, tags)
        progress(f"{web.shown}/runs/{run_id}")
    else:
        progress(f"still going: {web.shown}/runs/{run_id}")
    _follow(web, job, run_id, progress)
    return run_id


def _range_tags(days: tuple[date, date]) -> dict[str, str]:
    return {
        "dagster/asset_partition_range_start": str(days[0]),
        "dagster/asset_partition_range_end": str(days[1]),
        "bilten/by_hand": f"bilten metrics build --from {days[0]} --to {days[1]}",
    }


def _going(web: Webserver, job: str, tags: Mapping[str, str]) -> str | None:
    found = _ask(web, _FIND, {"job": job, "statuses": list(_GOING)})["runsOrError"]
    for run in found.get("results", ()):
        has = {tag["key"]: tag["value"] for tag in run["tags"]}
        if tags.items() <= has.items():
            return str(run["runId"])
    return None


def _launch(web: Webserver, job: str, tags: Mapping[str, str]) -> str:
    answer = _ask(
        web,
        _LAUNCH,
        {
            "params": {
                "selector": {
                    "repositoryLocationName": LOCATION,
                    "repositoryName": "__repository__",
                    "jobName": job,
                },
                "runConfigData": {},
                "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in tags.items()]},
            }
        },
    )["launchRun"]
    if answer["__typename"] != "LaunchRunSuccess":
        said = answer.get("message") or "; ".join(each["message"] for each in answer.get("errors", ()))
        raise Mismatch(
            f"Dagster did not launch the job {job}",
            expected="a run",
            found=f"{answer['__typename']}: {said}"[:600],
            next="bilten logs dagster-code",
        )
    return str(answer["run"]["runId"])


def _follow(web: Webserver, job: str, run_id: str, progress: Progress) -> None:
    deadline = time.monotonic() + RUN_SECONDS
    cursor: str | None = None
    failures: list[str] = []
    while True:
        answer = _ask(web, _FOLLOW, {"run": run_id, "cursor": cursor})
        status = answer["runOrError"].get("status", "GONE")
        events = answer["logsForRun"].get("events", [])
        cursor = answer["logsForRun"].get("cursor", cursor)
        for event in events:
            if event["__typename"] == "LogMessageEvent":
                progress(textwrap.shorten(event["message"], LINE, placeholder=" ..."))
            elif event["__typename"] == "ExecutionStepFailureEvent":
                failures.append(f"{event['stepKey']}: {(event['error'] or {}).get('message', '')}".strip())
            elif event["__typename"] == "RunFailureEvent" and not failures:
                failures.append(event["message"])
        if status == "SUCCESS":
            return
        if status not in _GOING:
            raise Mismatch(
                [
                    Problem(
                        f"the run of {job} ended as {status.lower()}",
                        expected="success",
                        found=" | ".join(failures)[:2000] or "no failure in its log",
                        next=f"{web.shown}/runs/{run_id}",
                    )
                ]
            )
        if time.monotonic() > deadline:
            raise StoreUnavailable(
                f"the run of {job} has not ended",
                expected=f"an end within {RUN_SECONDS // 60} minutes",
                found=status.lower(),
                next=f"{web.shown}/runs/{run_id}; bilten up follows it again",
            )
        # the last events of a run may be written after its last step; the cursor goes on from there
        time.sleep(POLL_SECONDS)


def _ask(web: Webserver, query: str, variables: Mapping[str, Any]) -> Any:
    request = urllib.request.Request(  # noqa: S310 - our own webserver
        f"{web.url}/graphql",
        data=json.dumps({"query": query, "variables": variables}).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=REQUEST_SECONDS) as answer:  # noqa: S310
            document = json.load(answer)
    except (urllib.error.URLError, TimeoutError, json.JSONDecodeError) as error:
        raise StoreUnavailable(
            f"the Dagster webserver at {web.url} does not answer",
            expected="an answer to a GraphQL request",
            found=f"{type(error).__name__}: {error}"[:300],
            next="bilten status; bilten logs dagster-webserver",
        ) from None
    if document.get("errors"):
        raise Mismatch(
            "the Dagster webserver refused a request",
            expected="data",
            found="; ".join(each["message"] for each in document["errors"])[:600],
            next="bilten logs dagster-webserver",
        )
    return document["data"]
