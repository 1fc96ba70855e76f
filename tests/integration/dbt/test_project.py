"""What must hold of the project itself; needs no server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from bilten_orchestration.settings import ClickHouseSettings, Settings
from tests.integration.dbt.project import Project


@pytest.fixture(scope="module")
def manifest(target_directory: Path, dbt_forks: Path) -> dict[str, Any]:
    nowhere = Settings(clickhouse=ClickHouseSettings(host="127.0.0.1", port=1, password=SecretStr("none")))
    outcome = Project(target_directory, nowhere, forks=dbt_forks).build("parse", build_id="parsed")
    assert outcome.exit_code == 0, outcome.output
    found: dict[str, Any] = json.loads((target_directory / "manifest.json").read_text())
    return found


def marts(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return (node for node in manifest["nodes"].values() if node["config"]["materialized"] == "day_swap")


def test_every_gate_runs_before_the_swap_that_reads_it(manifest: dict[str, Any]) -> None:
    """dbt orders a test before a model only if the model descends from every parent of the test."""
    parents: dict[str, list[str]] = manifest["parent_map"]
    for mart in marts(manifest):
        ancestors, open_ends = set(), [mart["unique_id"]]
        while open_ends:
            for parent in parents[open_ends.pop()]:
                if parent not in ancestors and not parent.startswith("test."):
                    ancestors.add(parent)
                    open_ends.append(parent)
        gates = [
            node
            for node in manifest["nodes"].values()
            if node["config"].get("meta", {}).get("gate")
            and node["attached_node"] == f"{mart['unique_id']}__build"
        ]
        assert gates, f"{mart['name']} has no gate"
        for gate in gates:
            assert gate["config"]["severity"].lower() == "warn", gate["name"]
            missing = set(parents[gate["unique_id"]]) - ancestors
            assert not missing, f"{mart['name']} must depend on {missing}, which {gate['name']} reads"


def test_no_test_of_a_mart_runs_where_views_are_made(manifest: dict[str, Any]) -> None:
    """A build of days makes missing views with every test that touches them (indirect selection: eager).

    A test that reads a view, and a mart of another kind too, would run before that mart is there."""
    nodes = manifest["nodes"]
    daily = {unique_id for unique_id, node in nodes.items() if "daily" in node["tags"]}
    for test in (node for node in nodes.values() if node["resource_type"] == "test"):
        read = {parent for parent in test["depends_on"]["nodes"] if parent in nodes}
        below = {parent for parent in read if nodes[parent]["schema"] in ("staging", "intermediate")}
        if below or read & daily:
            elsewhere = {p for p in read if nodes[p]["schema"] not in ("staging", "intermediate")} - daily
            assert not elsewhere, f"{test['name']} reads {below | read & daily} and {elsewhere}"
        # what reads all of history is no part of a build of days
        if test["name"].startswith(("relationships_", "unique_")) or test["name"].endswith("_unique"):
            assert not read & daily, test["name"]


def test_every_mart_says_its_grain_and_how_far_a_dirty_day_reaches(manifest: dict[str, Any]) -> None:
    for mart in marts(manifest):
        meta = mart["config"]["meta"]
        assert set(meta["grain"]) <= set(mart["columns"]), mart["name"]
        assert set(meta["dirty_expands"]) == {"back", "ahead"}, mart["name"]
        assert mart["config"]["contract"]["enforced"], mart["name"]


def test_every_model_has_a_group_with_an_owner_and_every_mart_an_enforced_contract(
    manifest: dict[str, Any],
) -> None:
    groups = {group["name"] for group in manifest["groups"].values() if group["owner"]["email"]}
    models = [node for node in manifest["nodes"].values() if node["resource_type"] == "model"]
    assert [node["name"] for node in models if node["config"]["group"] not in groups] == []
    # what analysts read: `fct_`, `dim_`, `rpt_`, views over them, and the long form
    read = [node for node in models if node["schema"] in ("marts", "analytics")]
    assert {node["name"].partition("_")[0] for node in read} == {"fct", "dim", "rpt", "ticket", "metrics"}
    loose = [node["name"] for node in read if not node["config"]["contract"]["enforced"]]
    assert loose == []
    untyped = [
        f"{node['name']}.{name}"
        for node in read
        for name, column in node["columns"].items()
        if not column["data_type"]
    ]
    assert untyped == []


def test_every_model_source_and_column_is_described(manifest: dict[str, Any]) -> None:
    bare = []
    nodes = [*manifest["nodes"].values(), *manifest["sources"].values()]
    for node in (node for node in nodes if node["resource_type"] in ("model", "source")):
        if not node["description"] or not node["columns"]:
            bare.append(node["unique_id"])
        bare += [
            f"{node['unique_id']}.{name}"
            for name, column in node["columns"].items()
            if not column["description"]
        ]
    assert not bare


def test_databases_carry_fixed_names_and_builds_the_id_of_the_run(manifest: dict[str, Any]) -> None:
    models = [node for node in manifest["nodes"].values() if node["resource_type"] == "model"]
    assert {node["schema"] for node in models} == {"staging", "intermediate", "marts", "analytics"}
    for node in models:
        expected = f"{node['name']}_parsed" if node["name"].endswith("__build") else node["name"]
        assert node["alias"] == expected
        assert {"daily", "whole"} & set(node["tags"]), f"{node['name']} belongs to neither run"


@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        ({"days": ["2026-02-30'); drop table x; --"]}, "variable days: expected ISO dates"),
        pytest.param(
            {"build_id": "Run 1"},
            "variable build_id: expected 1 to 40 of a-z, 0-9 and _, found 'Run 1'",
            marks=pytest.mark.faults,
        ),
        pytest.param({"days": []}, "variable days: expected at least one ISO date", marks=pytest.mark.faults),
    ],
)
def test_variables_of_the_wrong_form_are_refused_before_anything_is_touched(
    target_directory: Path, dbt_forks: Path, variables: dict[str, object], complaint: str
) -> None:
    nowhere = Settings(clickhouse=ClickHouseSettings(host="127.0.0.1", port=1, password=SecretStr("none")))
    outcome = Project(target_directory, nowhere, forks=dbt_forks).build("parse", **variables)
    assert outcome.exit_code == 2
    assert complaint in " ".join(outcome.output.split())


def test_a_killed_call_takes_its_dbt_along(tmp_path: Path, dbt_forks: Path) -> None:
    """Of tests/dbt_forks.py; tests/unit/metrics/test_child.py is about the platform's own."""
    nowhere = Settings(clickhouse=ClickHouseSettings(host="127.0.0.1", port=1, password=SecretStr("none")))
    call = Project(tmp_path, nowhere, forks=dbt_forks).start("parse", build_id="killed")
    assert call.stdout is not None
    assert "Running with dbt" in call.stdout.readline()
    call.kill()
    call.communicate(timeout=60)  # dbt, which has the other end of the pipe too, is gone
    assert call.returncode == -9
    assert not (tmp_path / "manifest.json").exists()
