"""How dbt is called: one place for arguments, environment and paths, for CLI and Dagster alike.

Secrets go by environment only; the child gets the ClickHouse settings it needs and none of the other
secrets of this process. Nothing is written into the source tree: target and log paths lie under
`settings.home/dbt`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bilten_orchestration.errors import Problem, StoreUnavailable, TerminalError, TransientError
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import CHECKOUT, PREFIX, Settings
from bilten_orchestration.stores import origin

if TYPE_CHECKING:
    from bilten_orchestration.metrics.locks import LockWatch

PROJECT = CHECKOUT / "dbt_project"
KEPT_RUNS = 20
RESULTS = "run_results.json"

_SECRET_NAMES = ("AWS_", "DAGSTER_POSTGRES", "PGPASSWORD", "REDIS_URL", "CLICKHOUSE_URL", "DBT_")
_TRANSIENT = re.compile(
    r"connection refused|connection reset|connection aborted|max retries exceeded|broken pipe|remote end"
    r"|timed? ?out|NETWORK_ERROR|TIMEOUT_EXCEEDED|TOO_MANY_SIMULTANEOUS_QUERIES|MEMORY_LIMIT_EXCEEDED"
    r"|server is shutting down|name resolution|bad gateway|service unavailable",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class DbtCall:
    """A dbt command ready to start. `environment` holds the password: never log it.

    `parsed`: the project as parsed before (metrics/manifest.py); without it dbt parses.
    """

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    target: Path
    directory: Path = PROJECT
    parsed: Path | None = None

    @property
    def argv(self) -> list[str]:
        # -P: the folder of dbt_child.py must not be searched for modules
        child = Path(__file__).with_name("dbt_child.py")
        return [
            sys.executable, "-P", str(child), str(os.getpid()), str(self.parsed or ""), *self.arguments
        ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class NodeResult:
    """What dbt says of one model or test. `seconds` is wall time in dbt; `failures` of a test, else None."""

    unique_id: str
    status: str
    message: str
    seconds: float
    failures: int | None
    query_id: str | None

    @property
    def broke(self) -> bool:
        return self.status in ("error", "runtime error")


def runs_directory(settings: Settings) -> Path:
    return settings.home / "dbt" / "runs"


def environment(settings: Settings, target: Path) -> dict[str, str]:
    """The child's environment, password included."""
    clickhouse = settings.clickhouse
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith((PREFIX, *_SECRET_NAMES))
    }
    return inherited | {
        "BILTEN_CLICKHOUSE__HOST": clickhouse.host or "127.0.0.1",
        "BILTEN_CLICKHOUSE__PORT": str(clickhouse.port),
        "BILTEN_CLICKHOUSE__SECURE": str(clickhouse.secure).lower(),
        "BILTEN_CLICKHOUSE__USER": clickhouse.user,
        "DBT_ENV_SECRET_CLICKHOUSE_PASSWORD": clickhouse.password.get_secret_value(),
        "DBT_PROFILES_DIR": str(PROJECT),
        "DBT_PROJECT_DIR": str(PROJECT),
        "DBT_TARGET_PATH": str(target),
        "DBT_LOG_PATH": str(target),
        "DBT_LOG_FORMAT": "json",
        "DBT_LOG_FORMAT_FILE": "text",
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        "DBT_USE_COLORS": "false",
        "PYTHONUNBUFFERED": "1",
        origin.DBT_VARIABLE: found.text if (found := origin.current()) else "",
    }


def call(
    settings: Settings,
    name: str,
    *arguments: str,
    variables: Mapping[str, Any] | None = None,
    parsed: Path | None = None,
) -> DbtCall:
    """A command whose artifacts go to runs/<name>; older ones than the newest KEPT_RUNS are removed."""
    runs = runs_directory(settings)
    target = runs / name
    target.mkdir(parents=True, exist_ok=True)
    (target / RESULTS).unlink(missing_ok=True)  # those of an earlier attempt prove nothing about this one
    for old in sorted(runs.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)[KEPT_RUNS:]:
        shutil.rmtree(old, ignore_errors=True)
    given = ("--vars", json.dumps(variables)) if variables is not None else ()
    threads = ("--threads", str(settings.metrics.dbt_threads)) if arguments[0] != "parse" else ()
    return DbtCall((*arguments, *threads, *given), environment(settings, target), target, parsed=parsed)


def run(dbt: DbtCall, progress: Progress = silent, *, watch: LockWatch | None = None) -> int:
    """Run it to its end, telling what it does; returns dbt's exit code (1: something failed).

    Killed when `watch` says that the locks are lost.

    Raises TransientError or TerminalError, with dbt's own words, when it did not get as far as running
    nodes (exit code 2, or killed).
    """
    errors: list[str] = []
    with subprocess.Popen(
        dbt.argv,
        cwd=dbt.directory,
        env=dict(dbt.environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            with watch.guard(process) if watch else nullcontext():
                for event in _events(process):
                    if text := told(event):
                        progress(text)
                    if event["info"].get("level") == "error":
                        errors.append(str(event["info"].get("msg", "")))
        except BaseException:
            process.kill()
            raise
        code = process.wait()
    if code not in (0, 1):
        raise broken(f"dbt {dbt.arguments[0]} ended with code {code}", errors, dbt)
    return code


def _events(process: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    assert process.stdout is not None  # noqa: S101 (Popen was given a pipe)
    for line in process.stdout:
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        if isinstance(event, dict) and isinstance(event.get("info"), dict):
            yield event
        elif line.strip():  # what comes before dbt's own logging: an import error, a warning of Python
            yield {"info": {"name": "Plain", "level": "error", "msg": line.rstrip()}, "data": {}}


def told(event: Mapping[str, Any]) -> str | None:
    """The line of progress of a log event of dbt: one per node that ended."""
    data = event.get("data", {})
    if event["info"].get("name") not in ("LogModelResult", "LogTestResult", "LogSeedResult"):
        return None
    node = data.get("node_info", {})
    total = data.get("total") or data.get("num_models", "?")  # what a test calls it
    return (
        f"[{data.get('index', '?')}/{total}] {node.get('node_name', '?')}:"
        f" {str(data.get('status', '?')).lower()} in {float(data.get('execution_time') or 0):.1f} s"
    )


def results(target: Path) -> list[NodeResult]:
    """What run_results.json holds; empty when dbt did not come to write it."""
    path = target / RESULTS
    if not path.exists():
        return []
    return [
        NodeResult(
            unique_id=result["unique_id"],
            status=result["status"],
            message=str(result.get("message") or ""),
            seconds=float(result.get("execution_time") or 0),
            failures=result.get("failures"),
            query_id=(result.get("adapter_response") or {}).get("query_id"),
        )
        for result in json.loads(path.read_text())["results"]
    ]


def broken(what: str, messages: Sequence[str], dbt: DbtCall) -> TransientError | TerminalError:
    """The error for a dbt that could not do its work; transient when its words say so."""
    said = [" ".join(message.split())[:600] for message in messages if message.strip()]
    problems = [
        Problem(
            what,
            expected="a whole run",
            found=" | ".join(said[-3:]) or "no message",
            next=f"the log with every statement: {dbt.target / 'dbt.log'}",
        )
    ]
    kind: type[TransientError | TerminalError]
    if any(re.search(r"refused|reset|resolution|max retries", text, re.IGNORECASE) for text in said):
        kind = StoreUnavailable
    elif any(_TRANSIENT.search(text) for text in said):
        kind = TransientError
    else:
        kind = TerminalError
    return kind(problems)
