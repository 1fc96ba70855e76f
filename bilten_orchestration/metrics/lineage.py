"""Column lineage of models, from the SQL that dbt compiled.

Computed by sqlglot, some seconds for the whole project, and kept beside the manifest by the checksums of
model, parents and macros: paid once per change of a model, not per run.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bilten_orchestration.metrics.manifest import BUILD_SUFFIX, SWAP
from bilten_orchestration.settings import Settings

DIALECT = "clickhouse"

# column -> [(database, table, column)]
Columns = dict[str, list[tuple[str, str, str]]]


def column_lineage(
    settings: Settings, manifest: Mapping[str, Any], target: Path, models: Iterable[str]
) -> dict[str, Columns]:
    """Lineage of these models (unique ids of dbt's own manifest), of a mart that of its build.

    `target` is the target directory of a run that compiled them. Models that sqlglot cannot read, and those
    that this run did not compile, are left out: lineage explains, it proves nothing.
    """
    found: dict[str, Columns] = {}
    for unique_id in models:
        nodes = manifest["nodes"]
        source = nodes[unique_id]
        if source["config"].get("materialized") == SWAP:
            source = nodes[f"{unique_id}{BUILD_SUFFIX}"]
        kept = settings.home / "dbt" / "lineage" / f"{_state(manifest, source)}.json"
        compiled = target / "compiled" / source["package_name"] / source["original_file_path"]
        if kept.exists():
            found[unique_id] = json.loads(kept.read_text())
        elif compiled.exists():
            columns = _compute(compiled.read_text(), _schema(manifest, source))
            if columns is not None:
                kept.parent.mkdir(parents=True, exist_ok=True)
                scratch = kept.with_suffix(f".{threading.get_native_id()}.part")
                scratch.write_text(json.dumps(columns))
                scratch.rename(kept)
                found[unique_id] = columns
    return found


def _state(manifest: Mapping[str, Any], node: Mapping[str, Any]) -> str:
    nodes = manifest["nodes"]
    parents = [
        nodes[parent]["checksum"]["checksum"]
        for parent in sorted(node["depends_on"]["nodes"])
        if parent in nodes
    ]
    macros = [
        manifest["macros"][macro]["macro_sql"]
        for macro in sorted(node["depends_on"].get("macros", ()))
        if macro.startswith(f"macro.{node['package_name']}.")
    ]
    own = [node["checksum"]["checksum"], *parents, *macros]
    return hashlib.sha256("".join(own).encode()).hexdigest()[:24]


def _schema(manifest: Mapping[str, Any], node: Mapping[str, Any]) -> dict[str, dict[str, dict[str, str]]]:
    """Columns of the parents, as the project describes them: database -> table -> column -> type."""
    schema: dict[str, dict[str, dict[str, str]]] = {}
    for unique_id in node["depends_on"]["nodes"]:
        parent = manifest["nodes"].get(unique_id) or manifest["sources"].get(unique_id)
        if parent is not None and parent.get("columns"):
            columns = {
                name: column.get("data_type") or "String" for name, column in parent["columns"].items()
            }
            name = parent["name"].removesuffix(BUILD_SUFFIX)
            schema.setdefault(parent["schema"], {})[name] = columns
    return schema


def _compute(sql: str, schema: Mapping[str, Any]) -> Columns | None:
    from sqlglot import exp, parse_one
    from sqlglot.errors import SqlglotError
    from sqlglot.lineage import lineage
    from sqlglot.optimizer.qualify import qualify
    from sqlglot.optimizer.scope import build_scope

    try:
        statement = parse_one(sql, dialect=DIALECT)
        for table in statement.find_all(exp.Table):
            if BUILD_SUFFIX in table.name:  # a build of the same run is the mart that it becomes
                table.set("this", exp.to_identifier(table.name.partition(BUILD_SUFFIX)[0]))
        qualified = qualify(
            statement, schema=dict(schema), dialect=DIALECT, validate_qualify_columns=False, identify=False
        )
        scope = build_scope(qualified)
        columns: Columns = {}
        for name in qualified.named_selects if isinstance(qualified, exp.Query) else ():
            leaves = set()
            for node in lineage(name, qualified, schema=dict(schema), scope=scope, dialect=DIALECT).walk():
                table_found = None if node.downstream else node.expression.find(exp.Table)
                if table_found is not None:
                    leaves.add((table_found.db, table_found.name, node.name.rpartition(".")[2].strip('"`')))
            columns[name] = sorted(leaves)
    except SqlglotError:
        return None
    return columns
