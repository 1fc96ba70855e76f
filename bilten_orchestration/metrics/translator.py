"""How dbt's nodes become assets and its tests checks: keys, groups, owners, tags, descriptions."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings, DbtProject

from bilten_orchestration import face
from bilten_orchestration.metrics.manifest import SWAP, WHOLE

GROUP = "metrics"
# Of what is built as a whole, twice a day.
FRESHNESS = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=30), warn_window=timedelta(hours=26))


class Translator(DagsterDbtTranslator):
    """Keys: `<layer>/<model>` for models, `raw/<table>` and `analytics/<table>` for sources.

    `partitions` are those of daily marts, and of the checks that judge their days.
    """

    def __init__(self, partitions: dg.PartitionsDefinition[str] | None = None) -> None:
        super().__init__(DagsterDbtTranslatorSettings(enable_code_references=True))
        self._partitions = partitions

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        schema = dbt_resource_props["schema"]
        name = dbt_resource_props["name"]
        if dbt_resource_props["resource_type"] == "source":
            return dg.AssetKey(["raw" if schema == "bilten_raw" else schema, name])
        return dg.AssetKey([schema, name])

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        return GROUP

    def get_owners(self, dbt_resource_props: Mapping[str, Any]) -> list[str]:
        group = dbt_resource_props.get("group")
        name = group.get("name") if isinstance(group, Mapping) else group
        return [f"team:{name.replace('_', '-')}" if name else face.DATA_PLATFORM]

    def get_description(self, dbt_resource_props: Mapping[str, Any]) -> str:
        # the SQL is one click away, as a code reference
        return str(dbt_resource_props.get("description") or "").strip()

    def get_tags(self, dbt_resource_props: Mapping[str, Any]) -> dict[str, str]:
        return {"layer": dbt_resource_props["schema"]}

    def get_asset_spec(
        self, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None
    ) -> dg.AssetSpec:
        spec = super().get_asset_spec(manifest, unique_id, project)
        whole = WHOLE in manifest["nodes"].get(unique_id, {}).get("tags", ())
        # of a mart by day any partition would count as fresh: those have a check
        return spec.replace_attributes(freshness_policy=FRESHNESS) if whole else spec

    def get_asset_check_spec(
        self,
        asset_spec: dg.AssetSpec,
        manifest: Mapping[str, Any],
        unique_id: str,
        project: DbtProject | None,
    ) -> dg.AssetCheckSpec | None:
        spec = super().get_asset_check_spec(asset_spec, manifest, unique_id, project)
        if spec is None:
            return None
        test = manifest["nodes"][unique_id]
        by_day = judges_days(manifest, test)
        return dg.AssetCheckSpec(
            spec.name,
            asset=spec.asset_key,
            description=described(test),
            additional_deps=spec.additional_deps,
            # a refused day fails the step after the good ones are told; nothing else is left to block
            blocking=spec.blocking and not by_day,
            metadata=spec.metadata,
            automation_condition=spec.automation_condition,
            partitions_def=self._partitions if by_day else None,
        )


def judges_days(manifest: Mapping[str, Any], test: Mapping[str, Any]) -> bool:
    """Whether a test says something of each day of a daily mart: a gate, or the last test after the swaps."""
    attached = manifest["nodes"].get(test.get("attached_node") or "")
    return bool(
        attached is not None
        and attached["config"].get("materialized") == SWAP
        and (_meta(test).get("gate") or _generic(test) == "no_day_refused")
    )


def described(test: Mapping[str, Any]) -> str:
    """What a test holds: in the project's words, or said from its kind and arguments."""
    if text := str(test.get("description") or "").strip():
        return text
    given = (test.get("test_metadata") or {}).get("kwargs") or {}
    column = given.get("column_name") or test.get("column_name")
    match _generic(test):
        case "unique":
            return f"{column}: no value twice."
        case "not_null":
            return f"{column}: never null."
        case "accepted_values":
            return f"{column}: one of {', '.join(map(str, given.get('values', [])))}."
        case "relationships":
            parent = str(given.get("to", "")).removeprefix("ref('").removesuffix("')")
            return f"{column}: each value is a {given.get('field')} of {parent}."
        case "unique_combination":
            return f"One row per {', '.join(given.get('columns', []))}."
        case kind:
            return f"The dbt test {kind or test['name']} finds no row."


def _generic(test: Mapping[str, Any]) -> str:
    return str((test.get("test_metadata") or {}).get("name") or "")


def _meta(test: Mapping[str, Any]) -> Mapping[str, Any]:
    return test["config"].get("meta") or {}
