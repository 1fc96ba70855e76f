"""From a dbt call to Dagster's events.

The call is the engine's own (dbt_call.py), so that a run from the UI and one from the command line are
the same process with the same environment. dagster-dbt turns its log into outputs and check results;
events of builds, which the asset graph does not show, are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DbtCliInvocation, DbtProject
from packaging.version import Version

from bilten_orchestration.metrics.dbt_call import DbtCall, told

if TYPE_CHECKING:
    from bilten_orchestration.metrics.locks import LockWatch


@dataclass(slots=True)
class Collected:
    """What a dbt run brought: outputs by asset key, and results of tests."""

    outputs: dict[dg.AssetKey, dg.Output[Any]] = field(default_factory=dict)
    checks: list[dg.AssetCheckResult] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def collect(
    call: DbtCall,
    context: dg.AssetExecutionContext,
    *,
    manifest: Mapping[str, Any],
    translator: DagsterDbtTranslator,
    project: DbtProject,
    watch: LockWatch | None = None,
) -> Collected:
    """Run dbt to its end and collect its events; it does not raise when nodes failed.

    Held back and not yielded on the way, since only the verdicts at the end tell which days of a mart
    were published.
    """
    invocation = DbtCliInvocation.run(
        args=call.argv,
        env=dict(call.environment),
        manifest=manifest,
        dagster_dbt_translator=translator,
        project_dir=call.directory,
        target_path=call.target,
        raise_on_error=False,
        context=context,
        adapter=None,
        cli_version=Version(version("dbt-core")),
        dbt_project=project,
    )
    collected = Collected()
    keys = {
        translator.get_asset_key(node).to_python_identifier(): translator.get_asset_key(node)
        for node in manifest["nodes"].values()
        if node["resource_type"] == "model"
    }
    try:
        if watch is None:
            _read(invocation, context, manifest, translator, project, collected, keys)
        else:
            with watch.guard(invocation.process):
                _read(invocation, context, manifest, translator, project, collected, keys)
    except BaseException:
        invocation.process.kill()
        raise
    return collected


def _read(
    invocation: DbtCliInvocation,
    context: dg.AssetExecutionContext,
    manifest: Mapping[str, Any],
    translator: DagsterDbtTranslator,
    project: DbtProject,
    collected: Collected,
    keys: Mapping[str, dg.AssetKey],
) -> None:
    wanted = _selected(context, manifest, translator)
    for event in invocation.stream_raw_events():
        if text := told(event.raw_event):
            context.log.info(text)
        if event.raw_event["info"].get("level") == "error":
            collected.errors.append(str(event.raw_event["info"].get("msg", "")))
        unique_id = event.raw_event["data"].get("node_info", {}).get("unique_id")
        if unique_id not in wanted:
            continue
        for found in event.to_default_asset_events(
            manifest, translator, context, invocation.target_path, project
        ):
            if isinstance(found, dg.Output):
                key = keys[found.output_name]
                if key in context.selected_asset_keys:
                    collected.outputs[key] = dg.Output(
                        found.value, found.output_name, metadata=_worth_showing(found.metadata)
                    )
            elif isinstance(found, dg.AssetCheckResult):
                collected.checks.append(_plain(found))


def _selected(
    context: dg.AssetExecutionContext, manifest: Mapping[str, Any], translator: DagsterDbtTranslator
) -> set[str]:
    """Ids of the selected models, of the tests attached to them, and of tests selected alone.

    A run may make other nodes as well (missing views, with their tests): they are not its assets.
    """
    nodes = manifest["nodes"].items()
    models = {
        unique_id
        for unique_id, node in nodes
        if node["resource_type"] == "model" and translator.get_asset_key(node) in context.selected_asset_keys
    }
    alone = {check.name for check in context.selected_asset_check_keys}
    tests = {
        unique_id
        for unique_id, node in nodes
        if node["resource_type"] == "test"
        and (
            node["name"] in alone
            or models
            & ({node["attached_node"]} if node.get("attached_node") else set(node["depends_on"]["nodes"]))
        )
    }
    return models | tests


def _worth_showing(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Without what says nothing: dbt's id of the node, that of its process, and that it went as it should."""
    return {
        name: value
        for name, value in metadata.items()
        if name not in ("unique_id", "invocation_id")
        and not (name == "status" and getattr(value, "value", value) in ("success", "pass"))
    }


def _plain(check: dg.AssetCheckResult) -> dg.AssetCheckResult:
    return check.with_metadata(_worth_showing(check.metadata or {}))
