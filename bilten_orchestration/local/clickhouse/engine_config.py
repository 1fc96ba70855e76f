"""The engine's own configuration files, generated from EndpointConfig at every start.

Only what an embedded engine needs differs from a server's defaults: paths below the data directory,
bounded memory, small background pools, and no system log but query_log. Settings that change what a
query means stay as a server has them.
"""

import os
import xml.etree.ElementTree as ET
from pathlib import Path

from bilten_orchestration.local.clickhouse.config import EndpointConfig
from bilten_orchestration.local.clickhouse.grants import (
    BEHIND_VIEWS,
    INFORMATION_SCHEMAS,
    READABLE_DATABASES,
    READABLE_SYSTEM_TABLES,
)

#: Roles inside the engine. Its one user, `default`, holds both; a connection takes the one it needs.
ETL_ROLE = "bilten_etl"
ANALYST_ROLE = "bilten_analyst"

#: Where the engine itself writes; system.query_log is a view over it (engine.py says why).
QUERY_LOG_STORE = "query_log_store"


def _element(parent: ET.Element, path: str, text: object) -> None:
    for name in path.split("/"):
        found = parent.find(name)
        parent = ET.SubElement(parent, name) if found is None else found
    parent.text = str(text)


def _merge(into: ET.Element, extra: ET.Element) -> None:
    """Leaves of `extra` (also several of one name) replace those of that name; branches are extended."""
    given = {id(child) for child in into}
    for child in extra:
        found = [each for each in into.findall(child.tag) if id(each) in given]
        if found and len(child):
            _merge(found[0], child)
            continue
        for each in found:
            into.remove(each)
        into.append(child)


def engine_path(config: EndpointConfig) -> Path:
    """Where the engine keeps its tables, apart from the endpoint's own files."""
    return config.data_dir.resolve() / "data"


def engine_config(config: EndpointConfig, users_file: Path) -> ET.Element:
    """The <clickhouse> document the engine starts with."""
    data = engine_path(config)
    logs = config.data_dir.resolve() / "log"
    root = ET.Element("clickhouse")
    for path, value in {
        "path": f"{data}/",
        "tmp_path": f"{data / 'tmp'}/",
        "user_files_path": f"{data}/user_files/",
        "format_schema_path": f"{data}/format_schemas/",
        "users_config": users_file,
        "display_name": config.display_name,
        # The engine takes its level from here, and from logger/level nothing.
        "log-level": "warning",
        "logger/log": logs / "engine.log",
        "logger/errorlog": logs / "engine.err.log",
        "logger/size": "20M",
        "logger/count": 3,
        "max_server_memory_usage": config.max_server_memory_bytes,
        "memory_worker_period_ms": 1000,
        # Caches share the memory above; a server's defaults are gigabytes.
        "mark_cache_size": 64 * 1024**2,
        "index_mark_cache_size": 8 * 1024**2,
        "uncompressed_cache_size": 0,
        "primary_index_cache_size": 32 * 1024**2,
        "query_cache/max_size_in_bytes": 32 * 1024**2,
        "query_condition_cache_size": 8 * 1024**2,
        "mmap_cache_size": 100,
        "compiled_expression_cache_size": 16 * 1024**2,
        "background_pool_size": config.background_threads,
        "background_merges_mutations_concurrency_ratio": 2,
        "background_move_pool_size": 1,
        "background_fetches_pool_size": 1,
        "background_common_pool_size": 2,
        "background_schedule_pool_size": 4,
        "background_buffer_flush_schedule_pool_size": 1,
        "background_distributed_schedule_pool_size": 1,
        "background_message_broker_schedule_pool_size": 1,
        "tables_loader_foreground_pool_size": 2,
        "tables_loader_background_pool_size": 2,
        "max_thread_pool_free_size": 64,
        "async_insert_threads": 1,
        # Mutations and merges ask for this many free slots of a pool that is small here.
        "merge_tree/number_of_free_entries_in_pool_to_lower_max_size_of_merge": 1,
        "merge_tree/number_of_free_entries_in_pool_to_execute_mutation": 1,
        "merge_tree/number_of_free_entries_in_pool_to_execute_optimize_entire_partition": 1,
        "query_log/database": "system",
        "query_log/table": QUERY_LOG_STORE,
        "query_log/flush_interval_milliseconds": 7500,
        "query_log/max_size_rows": 16384,
        "query_log/reserved_size_rows": 1024,
        "query_log/buffer_size_rows_flush_threshold": 8192,
        "query_log/ttl": f"event_date + INTERVAL {config.query_log_days} DAY DELETE",
        "backups/allowed_path": f"{data}/backups/",
    }.items():
        _element(root, path, value)
    if config.extra_engine_config is not None:
        _merge(root, ET.parse(config.extra_engine_config).getroot())  # noqa: S314 - written by the operator
    return root


def users_config() -> ET.Element:
    """Profiles, roles and the engine's user.

    The analyst's role is the second wall: whatever the parsed statement let through, the engine itself
    grants no source (file, url, s3, remote, ...), no system table beyond the list, no write. It may
    SELECT from bilten_raw and intermediate too, because a view runs with the rights of who reads it;
    that a statement does not name them is access.py's part.
    """
    root = ET.Element("clickhouse")
    ET.SubElement(ET.SubElement(root, "profiles"), "default")
    ET.SubElement(ET.SubElement(root, "quotas"), "default")
    roles = ET.SubElement(root, "roles")

    def role(name: str, grants: list[str]) -> None:
        element = ET.SubElement(ET.SubElement(roles, name), "grants")
        for grant in grants:
            ET.SubElement(element, "query").text = grant

    role(ETL_ROLE, ["GRANT ALL ON *.* WITH GRANT OPTION"])
    role(
        ANALYST_ROLE,
        [f"GRANT SELECT ON {database}.*" for database in sorted(READABLE_DATABASES | BEHIND_VIEWS)]
        + [f"GRANT SELECT ON system.{table}" for table in sorted(READABLE_SYSTEM_TABLES)]
        + [f"GRANT SELECT ON {schema}.*" for schema in sorted(INFORMATION_SCHEMAS)],
    )
    user = ET.SubElement(ET.SubElement(root, "users"), "default")
    ET.SubElement(user, "password")
    ET.SubElement(ET.SubElement(user, "networks"), "ip").text = "::/0"
    ET.SubElement(user, "profile").text = "default"
    ET.SubElement(user, "quota").text = "default"
    grants = ET.SubElement(user, "grants")
    for name in (ETL_ROLE, ANALYST_ROLE):
        ET.SubElement(grants, "query").text = f"GRANT {name}"
    return root


def write_engine_config(config: EndpointConfig) -> Path:
    """Write both files below the data directory, mode 0600 (disks may carry keys); returns the main one."""
    directory = config.data_dir.resolve() / "config"
    for path in (directory, *(config.data_dir / name for name in ("tmp", "user_files", "log", "backups"))):
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
    users_file = directory / "users.xml"
    config_file = directory / "config.xml"
    for path, root in ((users_file, users_config()), (config_file, engine_config(config, users_file))):
        ET.indent(root)
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            ET.ElementTree(root).write(file, encoding="utf-8", xml_declaration=True)
    return config_file
