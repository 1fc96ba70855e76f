"""How dbt's nodes become assets: keys, groups, owners, tags, descriptions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings

from bilten_orchestration import face

GROUP = "metrics"


class Translator(DagsterDbtTranslator):
    """Keys: `<layer>/<model>` for models, `raw/<table>` and `analytics/<table>` for sources."""

    def __init__(self) -> None:
        super().__init__(DagsterDbtTranslatorSettings(enable_code_references=True))

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
