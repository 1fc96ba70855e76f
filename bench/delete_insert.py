"""The daily marts as one would build them with dbt-clickhouse alone: incremental, delete+insert.

The model set is made from dbt_project itself, so that both contestants run the same SELECTs over the same
staging and intermediate models: `fct_x__build` becomes an incremental `fct_x` in a database of its own,
and gates, verdicts and day_swap are left out.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

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
    builds = {path: path.read_text() for path in sorted(marts.glob("fct_*__build.sql"))}
    for path in (
        *marts.iterdir(),
        *(directory / "models" / "analytics").iterdir(),
        directory / "models" / "_exposures.yml",
    ):
        path.unlink()
    shutil.rmtree(directory / "models" / "run")
    described = directory / "models" / "intermediate" / "_intermediate.yml"
    described.write_text(described.read_text().partition("\n  # Tables of one run")[0])
    shutil.rmtree(directory / "tests", ignore_errors=True)
    (directory / "macros" / "materializations" / "test.sql").unlink()
    for path, text in builds.items():
        (marts / path.name.replace("__build", "")).write_text(_incremental(text))
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
    return (head + text[found.end() :]).replace("__build'", "'").replace('__build"', '"')
