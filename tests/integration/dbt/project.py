"""Runs the dbt project as its users do: a process of its own, settings by environment alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from bilten_orchestration.metrics import dbt_child, manifest
from bilten_orchestration.settings import CHECKOUT, Settings
from tests import dbt_forks

PROJECT = CHECKOUT / "dbt_project"
LIMIT_SECONDS = 300

#: The first build on an empty server: the views below the marts as well.
FROM_NOTHING = (
    "build", "--select", "path:models/staging", "path:models/intermediate", "tag:daily",
    "--exclude-resource-type", "unit_test",
)  # fmt: skip

#: The same for one mart, and that mart alone once the views are there.
SALES_FROM_NOTHING = (
    "build", "--select", "+fct_event_sales_daily", "--indirect-selection", "buildable",
    "--exclude-resource-type", "unit_test",
)  # fmt: skip
SALES = (
    "build", "--select", "+fct_event_sales_daily,tag:daily", "--indirect-selection", "buildable",
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """How one `dbt build` ended. `statuses`: success, pass, warn, fail, error or skipped, by node."""

    exit_code: int
    output: str
    statuses: dict[str, str]


@dataclass(frozen=True)
class Project:
    """One target directory for a whole test module, so that files are parsed once."""

    target: Path
    settings: Settings
    port: int | None = None
    directory: Path = PROJECT
    parsed: Path | None = None
    forks: Path | None = None

    def parsed_once(self) -> Project:
        """For further calls: with the project as the call before has parsed it."""
        return replace(self, parsed=self.target / manifest.PARSED)

    def environment(self) -> dict[str, str]:
        clickhouse = self.settings.clickhouse
        outside = {
            name: text for name, text in os.environ.items() if not name.startswith(("BILTEN_", "DBT_"))
        }
        return outside | {
            "BILTEN_CLICKHOUSE__HOST": str(clickhouse.host),
            "BILTEN_CLICKHOUSE__PORT": str(self.port or clickhouse.port),
            "BILTEN_CLICKHOUSE__USER": clickhouse.user,
            "DBT_ENV_SECRET_CLICKHOUSE_PASSWORD": clickhouse.password.get_secret_value(),
            "DBT_TARGET_PATH": str(self.target),
            "DBT_LOG_PATH": str(self.target / "logs"),
            "DBT_PROFILES_DIR": str(self.directory),
            "DBT_USE_COLORS": "false",
        }

    def start(self, *arguments: str, **variables: object) -> subprocess.Popen[str]:
        """dbt as builds call it; with `parsed` the project is not parsed in every call."""
        dbt = [sys.executable, "-P", dbt_child.__file__, str(os.getpid()), str(self.parsed or "")]
        if self.forks is not None:
            dbt = dbt_forks.argv(self.forks, dbt)
        return subprocess.Popen(
            [
                *dbt,
                *(arguments or ("build", "--selector", "daily")),
                "--project-dir",
                str(self.directory),
                "--vars",
                json.dumps(variables),
            ],
            env=self.environment(),
            cwd=self.target,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def build(self, *arguments: str, **variables: object) -> Outcome:
        results = self.target / "run_results.json"
        results.unlink(missing_ok=True)
        process = self.start(*arguments, **variables)
        output, _ = process.communicate(timeout=LIMIT_SECONDS)
        statuses = {}
        if results.exists():
            for result in json.loads(results.read_text())["results"]:
                statuses[result["unique_id"].split(".")[2]] = result["status"]
        return Outcome(process.returncode, output, statuses)
