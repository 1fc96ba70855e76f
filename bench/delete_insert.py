"""The daily marts as one would build them with dbt-clickhouse alone: incremental, delete+insert.

The model set is made from dbt_project itself, so that both contestants run the same SELECTs over the same
staging and intermediate models: `fct_x__build` becomes an incremental `fct_x` in a database of its own, and
verdicts and day_swap are left out. Intermediate models are the views that they are: the tables of a run,
which several marts share, are this project's own. The gates become plain dbt tests of what is published, for
whoever wants them pays for them there too; the bench tells both, with and without.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from bilten_orchestration.metrics.dbt_call import PROJECT

DATABASE = "bench_marts"
_CONFIG = re.compile(r"\{\{ config\((.*?)\n\) \}\}", re.DOTALL)
_MARTS = re.compile(r"(\n    marts:\n      \+schema: )marts.*?(?=\n    analytics:)", re.DOTALL)
_RUN = re.compile(r"\n    run:.*?(?=\n    marts:)", re.DOTALL)
_ENGINE = re.compile(r"engine='[^']*'|order_by=\[[^]]*\]")


def write_project(directory: Path) -> list[str]:
    """Write the project there; returns the names of its marts."""
    shutil.copytree(PROJECT, directory, ignore=shutil.ignore_patterns("target", "logs", "dbt_packages"))
    marts = directory / "models" / "marts"
    described = yaml.safe_load((marts / "_marts.yml").read_text())
    builds = {path: path.read_text() for path in sorted(marts.glob("fct_*__build.sql"))}
    for path in (
        *marts.iterdir(),
        *(directory / "models" / "analytics").iterdir(),
        directory / "models" / "_exposures.yml",
    ):
        path.unlink()
    shutil.rmtree(directory / "models" / "run")
    views = directory / "models" / "intermediate" / "_intermediate.yml"
    views.write_text(views.read_text().partition("\n  # Tables of one run")[0])
    for path in (directory / "macros" / "generic_tests").iterdir():
        path.write_text(_published(path.read_text()))
    shutil.rmtree(directory / "tests", ignore_errors=True)
    (directory / "macros" / "materializations" / "test.sql").unlink()
    for path, text in builds.items():
        (marts / path.name.replace("__build", "")).write_text(_incremental(text))
    gated = [_as_tests(model) for model in described["models"] if model["name"].endswith("__build")]
    (marts / "_marts.yml").write_text(yaml.safe_dump({"version": 2, "models": gated}))
    settings = directory / "dbt_project.yml"
    settings.write_text(_RUN.sub("", _MARTS.sub(rf"\1{DATABASE}", settings.read_text())))
    return [path.name.removesuffix("__build.sql") for path in builds]


def _incremental(text: str) -> str:
    found = _CONFIG.search(text)
    assert found is not None, "a build model without the config that this bench knows"
    config = ", ".join(_ENGINE.findall(found.group(1)))
    head = (
        "{{ config(materialized='incremental', incremental_strategy='delete_insert',"
        f" unique_key=['metric_date'], partition_by='toYYYYMM(metric_date)', {config}) }}}}"
    )
    return _published(head + text[found.end() :])


def _as_tests(model: Mapping[str, Any]) -> dict[str, Any]:
    """The gates of a build as tests of what is published."""
    tests = []
    for test in model["data_tests"]:
        ((kind, told),) = test.items()
        arguments = yaml.safe_load(_published(yaml.safe_dump(told.get("arguments", {}))))
        tests.append({kind: {"name": told["name"], "arguments": arguments}})
    return {"name": _published(model["name"] + "'")[:-1], "data_tests": tests}


def _published(text: str) -> str:
    return text.replace("__build'", "'").replace('__build"', '"')
