"""`bilten metrics build` and `bilten explain`: usage is refused before a store is asked."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from bilten_orchestration.cli.main import build

runner = CliRunner()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["metrics", "build", "--json"], "which days?"),
        (["metrics", "build", "--from", "2026-01-01", "--json"], "which days?"),
        (["metrics", "build", "--from", "2026-01-02", "--to", "2026-01-01", "--json"], "ends before it"),
    ],
)
def test_a_wrong_call_is_one_document_with_the_right_one_beside_it(arguments: list[str], told: str) -> None:
    result = runner.invoke(build(), arguments)
    assert result.exit_code == 2
    document = json.loads(result.stdout)
    assert not document["ok"]
    assert told in document["problems"][0]["what"]
    assert document["problems"][0]["expected"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["metrics", "build", "--from", "yesterday", "--to", "2026-01-01"],
        ["explain", "2026-01-01", "no-uuid", "gross_sales"],
        ["explain", "soon", "6f1a54d6-3f7c-4c37-9a52-8f3c2f0f1d10", "gross_sales"],
    ],
)
def test_what_is_no_day_or_no_id_is_told(arguments: list[str]) -> None:
    result = runner.invoke(build(), arguments)
    assert result.exit_code == 2
    assert "expected a" in result.output


def test_an_unknown_metric_is_told_with_the_known_ones() -> None:
    result = runner.invoke(
        build(), ["explain", "2026-01-01", "6f1a54d6-3f7c-4c37-9a52-8f3c2f0f1d10", "revenue", "--json"]
    )
    assert result.exit_code == 2
    assert "net_revenue" in json.loads(result.stdout)["problems"][0]["expected"]
