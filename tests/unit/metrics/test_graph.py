"""The manifest as the face needs it: marts, gates, reach, and the graph without builds."""

from __future__ import annotations

from typing import Any

import pytest

from bilten_orchestration.errors import TerminalError
from bilten_orchestration.metrics import graph, manifest
from bilten_orchestration.metrics.days import Reach

MART, BUILD, VIEW = "model.bilten.fct_x", "model.bilten.fct_x__build", "model.bilten.stg_y"
GATE, LAST = "test.bilten.gate", "test.bilten.last"


def node(unique_id: str, *parents: str, **more: Any) -> dict[str, Any]:
    return {
        "unique_id": unique_id,
        "name": unique_id.rpartition(".")[2],
        "resource_type": unique_id.partition(".")[0],
        "depends_on": {"nodes": list(parents)},
        "config": {},
        **more,
    }


def reaches(back: int, ahead: int) -> dict[str, Any]:
    return {"dirty_expands": {"back": back, "ahead": ahead}}


def parsed(**changes: dict[str, Any]) -> dict[str, Any]:
    nodes = {
        VIEW: node(VIEW, "source.bilten.raw.y", config={"materialized": "view"}),
        BUILD: node(BUILD, VIEW, config={"materialized": "table", "meta": reaches(1, 0)}),
        MART: node(MART, BUILD, config={"materialized": "day_swap", "meta": reaches(0, 3)}),
        GATE: node(GATE, BUILD, attached_node=BUILD, config={"meta": {"gate": True}}),
        LAST: node(LAST, MART, attached_node=MART, config={}),
    }
    return {"nodes": nodes | changes, "sources": {"source.bilten.raw.y": {}}, "exposures": {}}


def test_a_mart_has_its_gates_and_the_wider_reach_of_itself_and_its_build() -> None:
    [mart] = manifest.marts(parsed())
    assert (mart.name, mart.build_id, mart.gates, mart.reach) == ("fct_x", BUILD, ("gate",), Reach(1, 3))


def test_a_gate_may_name_its_mart_itself() -> None:
    gate = node(GATE, VIEW, config={"meta": {"gate": True, "mart": "fct_x"}})
    [mart] = manifest.marts(parsed(**{GATE: gate}))
    assert mart.gates == ("gate",)


@pytest.mark.parametrize(
    "change", [{GATE: node(GATE, BUILD, attached_node=BUILD)}, {BUILD: node("model.bilten.other")}]
)
def test_a_mart_that_nothing_judges_is_refused(change: dict[str, dict[str, Any]]) -> None:
    with pytest.raises(TerminalError, match="has no gate"):
        manifest.marts(parsed(**change))


def test_builds_are_one_with_their_marts() -> None:
    merged = graph.merged(parsed())
    assert BUILD not in merged["nodes"]
    assert merged["nodes"][MART]["depends_on"]["nodes"] == [VIEW]
    assert merged["nodes"][GATE]["attached_node"] == MART
    assert merged["nodes"][GATE]["depends_on"]["nodes"] == [MART]
    assert merged["parent_map"][MART] == [VIEW]
    assert sorted(merged["child_map"][MART]) == [GATE, LAST]
    assert merged["child_map"]["source.bilten.raw.y"] == [VIEW]


def test_a_table_of_a_run_that_is_no_view_is_a_step_of_its_reader() -> None:
    step = "model.bilten.int_z__build"
    nodes = {step: node(step, VIEW), BUILD: node(BUILD, step, config={"materialized": "table"})}
    merged = graph.merged(parsed(**nodes))
    assert step not in {*merged["nodes"], *merged["parent_map"]}
    assert merged["parent_map"][MART] == [VIEW]


def test_merging_leaves_the_manifest_as_it_was() -> None:
    before = parsed()
    graph.merged(before)
    assert before == parsed()
