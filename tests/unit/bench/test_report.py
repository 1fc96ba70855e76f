"""Medians, ratios, and the page made of them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from bench import report
from bench.harness import OURS, Comparison, take_turns


def comparison(scale: float = 1, ours: float = 2.0, rival: float = 5.0) -> Comparison:
    return Comparison(
        "first load", scale, "10 rows", {OURS: ours, "pandas": rival}, 3, aim={"pandas": 2.0}, note="n"
    )


def test_contestants_take_turns_and_medians_are_kept() -> None:
    order: list[str] = []
    told = iter([3.0, 30.0, 1.0, 10.0, 2.0, 20.0])

    def contestant(name: str) -> float:
        order.append(name)
        return next(told)

    names = {"a": lambda: contestant("a"), "b": lambda: contestant("b")}
    assert take_turns(names, 3, lambda _: None, before=lambda name: order.append(f"before {name}")) == {
        "a": 2.0,
        "b": 20.0,
    }
    assert order == ["before a", "a", "before b", "b"] * 3


def test_an_aim_is_met_by_the_ratio_and_a_bound_by_the_seconds() -> None:
    assert comparison().met
    assert not comparison(rival=3.9).met
    assert Comparison("loading", 1, "", {OURS: 0.9}, 5, bound_seconds=1.0).met
    assert not Comparison("loading", 1, "", {OURS: 1.1}, 5, bound_seconds=1.0).met


def test_what_is_no_time_names_its_unit() -> None:
    memory = Comparison("up, idle", 1, "all programs", {OURS: 2.5}, 3, bound_seconds=3.5, unit="GiB")
    page = report.page([asdict(memory) | {"machine": "2 cores", "at": "2026-01-01"}])
    assert "| up, idle | 1 | all programs | 2.50 GiB |  |  |  | 3.5 GiB | met |" in page


def test_the_page_shows_ratios_misses_and_growth() -> None:
    results = [
        asdict(found) | {"machine": "2 cores", "at": "2026-01-01"}
        for found in (comparison(), comparison(scale=10, ours=30, rival=45))
    ]
    page = report.page(results)
    assert "| first load | 1 | 10 rows | 2.00 | pandas | 5.00 | 2.5x | 2x | met |" in page
    assert "| first load | 10 | 10 rows | 30.00 | pandas | 45.00 | 1.5x | 2x | **missed** |" in page
    assert "- first load: bilten 15.0x, pandas 9.0x" in page


def test_a_new_result_replaces_the_old_one_of_the_same_bench_and_scale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(report, "PAGE", tmp_path / "benchmarks.md")
    report.save([comparison(), comparison(scale=10)])
    report.save([comparison(ours=1.0)])
    kept = json.loads((tmp_path / "results.json").read_text())
    assert [(result["scale"], result["seconds"][OURS]) for result in kept] == [(1, 1.0), (10, 2.0)]
    assert "5.0x" in (tmp_path / "benchmarks.md").read_text()
