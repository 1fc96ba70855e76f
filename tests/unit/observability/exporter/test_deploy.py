"""deploy/: rules and dashboard name what is exported, every alert has its section, and promtool agrees."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from bilten_orchestration.observability.exporter import listing
from tests.unit.observability.exporter.promql import matchers, names

ROOT = Path(__file__).parents[4]
DEPLOY = ROOT / "deploy"
RULES = sorted((DEPLOY / "prometheus").glob("*.rules.yml"))
BY_PROMETHEUS = {"job", "instance"}
PROCESS = {"process_cpu_seconds_total", "process_resident_memory_bytes"}


def rules() -> list[dict[str, Any]]:
    return [
        rule
        for file in RULES
        for group in yaml.safe_load(file.read_text("utf-8"))["groups"]
        for rule in group["rules"]
    ]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def recorded() -> dict[str, str]:
    return {rule["record"]: rule["expr"] for rule in rules() if "record" in rule}


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DEPLOY / "grafana" / "bilten.json").read_text("utf-8"))
    return found


def expressions() -> list[str]:
    panels = [target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", [])]
    variables = [each["definition"] for each in dashboard()["templating"]["list"] if "definition" in each]
    return [*(rule["expr"] for rule in rules()), *panels, *variables]


def test_there_is_something_to_check() -> None:
    assert len(RULES) == 2
    assert len(alerts()) > 40 and len(recorded()) > 10
    assert names('a:bilten_x:ratio{b="bilten_y"} + rate(bilten_z_total[5m])') == {
        "a:bilten_x:ratio",
        "bilten_z_total",
    }


def test_every_series_in_rules_and_dashboard_is_declared_or_recorded() -> None:
    declared = {family.name: {*family.labels} for family in listing.families()}
    used = set().union(*(names(each) for each in expressions()))
    assert used - {*declared, *recorded(), *PROCESS} == set()
    for expression in expressions():
        for name, label in matchers(expression):
            if name in declared:
                assert label in declared[name] | BY_PROMETHEUS, f"{name} has no label {label}"
    assert set(recorded()) & used == set(recorded()), "a rule that nobody reads"


def test_names_of_recorded_series_say_level_metric_and_operation() -> None:
    assert [name for name in recorded() if not re.fullmatch(r"[a-z]+:bilten_\w+:[a-z]\w+", name)] == []


def test_every_alert_says_what_it_is_and_leads_to_its_section() -> None:
    page = (ROOT / "docs" / "operations.md").read_text("utf-8")
    sections = set(re.findall(r"^### ([a-z-]+)$", page, re.MULTILINE))
    for alert in alerts():
        name, notes = alert["alert"], alert["annotations"]
        assert re.fullmatch(r"Bilten[A-Z]\w+", name)
        assert alert["labels"]["severity"] in ("info", "warning", "critical"), name
        assert "for" in alert, name
        assert set(notes) == {"summary", "description", "runbook_url"}, name
        path, _, anchor = notes["runbook_url"].partition("#")
        assert path == "docs/operations.md" and anchor in sections, name
    own = page.partition("\n## From Prometheus\n")[2].partition("\n## ")[0]
    linked = {alert["annotations"]["runbook_url"].partition("#")[2] for alert in alerts()}
    assert set(re.findall(r"^### ([a-z-]+)$", own, re.MULTILINE)) - linked == set(), "no alert leads there"
    for section in re.findall(r"^### [a-z-]+\n(.+?)(?=^### |\Z)", own, re.MULTILINE | re.DOTALL):
        assert len(section) > 130 and "`" in section
    assert len({alert["alert"] for alert in alerts()}) == len(alerts())


def test_the_dashboard_can_be_imported_anywhere() -> None:
    found = dashboard()
    panels = found["panels"]
    assert [panel["title"] for panel in panels if panel["type"] == "row"] == [
        "Promises",
        "PostgreSQL",
        "ClickHouse",
        "Redis",
        "OpenSearch",
        "Object store",
        "Dagster",
        "Watchdog",
    ]
    assert found.get("id") is None  # an id is of one installation
    assert len({panel["id"] for panel in panels}) == len(panels)
    sources = {
        json.dumps(each["datasource"], sort_keys=True)
        for panel in panels
        if panel["type"] != "row"
        for each in (panel, *panel["targets"])
    }
    assert sources == {json.dumps({"type": "prometheus", "uid": "${datasource}"}, sort_keys=True)}
    assert found["templating"]["list"][0]["type"] == "datasource"
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, f"{panel['title']} lies on another panel"
        assert place["x"] + place["w"] <= 24
        taken |= cells


def promtool() -> str | None:
    """On PATH, or where PROMTOOL says."""
    return os.environ.get("PROMTOOL") or shutil.which("promtool")


@pytest.mark.skipif(promtool() is None, reason="no promtool on PATH, and PROMTOOL names none")
@pytest.mark.parametrize("what", ["check", "test"])
def test_promtool_takes_the_rules(what: str) -> None:
    files = RULES if what == "check" else [DEPLOY / "prometheus" / "bilten.rules.test.yml"]
    told = subprocess.run(
        [str(promtool()), what, "rules", *map(str, files)], capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stdout + told.stderr
    assert "SUCCESS" in told.stdout + told.stderr
