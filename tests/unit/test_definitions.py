"""The code location loads in a fresh interpreter with every store unreachable, and is what it was.

Snapshots are written here by hand on purpose: a change of keys, jobs or crons is a change of contract.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from bilten_orchestration.metrics import manifest
from bilten_orchestration.settings import Settings

LOAD = """
import json, sys, time
started = time.process_time()
import dagster, dagster_dbt
imports = time.process_time() - started
before = set(sys.modules)
started = time.process_time()
from bilten_orchestration.definitions import definitions
from bilten_orchestration.face import NO_FRESHNESS
repository = definitions().get_repository_def()
seconds = time.process_time() - started
jobs = repository.get_all_jobs()
plain = lambda value: getattr(value, "value", value)
graph = repository.asset_graph
print(json.dumps({
    "imports": imports,
    "seconds": seconds,
    "modules": sorted({name.partition(".")[0] for name in set(sys.modules) - before}),
    "assets": {
        key.to_user_string(): {
            "group": graph.get(key).group_name,
            "owners": sorted(graph.get(key).owners),
            "description": graph.get(key).description or "",
            "kinds": sorted(graph.get(key).kinds),
            "partitioned": graph.get(key).is_partitioned,
            "backfill": str(graph.get(key).backfill_policy),
            "external": graph.get(key).is_external,
            "fresh": graph.get(key).freshness_policy is not None,
            "no_freshness": str(plain(graph.get(key).metadata.get(NO_FRESHNESS, ""))),
            "checks": sorted(check.name for check in graph.get(key).check_keys),
            "parents": sorted(parent.to_user_string() for parent in graph.get(key).parent_keys),
        }
        for key in graph.get_all_asset_keys()
    },
    "checks": {
        f"{key.asset_key.to_user_string()}:{key.name}": {
            "description": graph.get_check_spec(key).description or "",
            "partitioned": graph.get(key).partitions_def is not None,
        }
        for key in graph.asset_check_keys
    },
    "jobs": sorted(job.name for job in jobs if not job.name.startswith("__")),
    "off": sorted(
        found.name
        for found in (*repository.schedule_defs, *repository.sensor_defs)
        if found.default_status.value != "RUNNING"
    ),
    "schedules": {s.name: [s.cron_schedule, s.execution_timezone] for s in repository.schedule_defs},
    "sensors": sorted(sensor.name for sensor in repository.sensor_defs),
    "named": {
        f"{type(found).__name__} {found.name}": [found.description or "", list(found.owners or [])]
        for found in (
            *(job for job in jobs if not job.name.startswith("__")),
            *repository.schedule_defs,
            *repository.sensor_defs,
        )
    },
    "policies": sorted(
        {n.name for job in jobs for n in job.nodes if n.definition.retry_policy or n.retry_policy}
    ),
    "pools": sorted({pool for job in jobs for node in job.nodes for pool in node.definition.pools}),
}))
"""
GROUPS = ("backups", "drills", "ingestion", "metrics", "observability", "partitions")
HEAVY = {
    "pandas",
    "numpy",
    "pyarrow",
    "clickhouse_connect",
    "chdb",
    "psycopg",
    "psycopg2",
    "boto3",
    "sqlalchemy",
    "redis",
    "opensearchpy",
}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    home = tmp_path_factory.mktemp("home")
    manifest.prepare(Settings(home=home))
    outside = {name: value for name, value in os.environ.items() if not name.startswith("BILTEN_")}
    stores = {
        "BILTEN_HOME": str(home),
        "BILTEN_POSTGRES__HOST": "unreachable.invalid",
        "BILTEN_CLICKHOUSE__HOST": "unreachable.invalid",
    }
    found = subprocess.run(
        [sys.executable, "-c", LOAD],
        env=outside | stores | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert found.returncode == 0, found.stderr[-3000:]
    assert "Warning" not in found.stderr
    content: dict[str, Any] = json.loads(found.stdout.splitlines()[-1])
    return content


def test_nothing_heavy_is_imported_to_load(loaded: dict[str, Any]) -> None:
    assert HEAVY & set(loaded["modules"]) == set()


def test_no_step_has_a_policy_that_an_interrupt_would_follow(loaded: dict[str, Any]) -> None:
    """Of dagster's own: see face.py, which asks for another try itself."""
    assert loaded["policies"] == []


def test_loading_takes_less_than_half_of_dagsters_own_import(loaded: dict[str, Any]) -> None:
    """Which takes two seconds on an idle machine: a ratio holds on a busy one too, and bench/ has seconds."""
    assert loaded["seconds"] <= loaded["imports"] / 2


def test_every_asset_is_described_owned_and_grouped_by_its_domain(loaded: dict[str, Any]) -> None:
    for key, asset in loaded["assets"].items():
        assert asset["description"], key
        assert asset["owners"], key
        assert asset["kinds"], key
        assert asset["group"] in (
            "backups",
            "drills",
            "ingestion",
            "metrics",
            "observability",
            "partitions",
            "search",
        ), key


# What tells that the newest partition is due and not there; a policy would take any partition for fresh.
OF_PARTITIONS = {"newest_closed_day_is_final", "drilled_recently"}


def test_every_asset_is_fresh_by_a_policy_or_says_why_not(loaded: dict[str, Any]) -> None:
    for key, asset in loaded["assets"].items():
        if asset["partitioned"]:
            assert not asset["fresh"], key
            assert OF_PARTITIONS & set(asset["checks"]), key
        else:
            # one of both, and what no run makes can have no policy
            assert asset["fresh"] != (len(asset["no_freshness"]) > 20), key
            assert not (asset["external"] and asset["fresh"]), key


def test_every_asset_has_a_check(loaded: dict[str, Any]) -> None:
    assert [key for key, asset in loaded["assets"].items() if not asset["checks"]] == []


def test_schedules_and_sensors_are_on(loaded: dict[str, Any]) -> None:
    assert loaded["off"] == []


def _marts(loaded: dict[str, Any]) -> dict[str, Any]:
    """Of those by day."""
    return {
        key: asset
        for key, asset in loaded["assets"].items()
        if asset["partitioned"] and asset["group"] == "metrics"
    }


def test_drills_are_partitioned_and_judged(loaded: dict[str, Any]) -> None:
    drills = {key: asset for key, asset in loaded["assets"].items() if asset["group"] == "drills"}
    assert sorted(drills) == ["drills/clickhouse", "drills/postgres", "drills/redis", "drills/search"]
    for key, asset in drills.items():
        assert asset["partitioned"]
        assert asset["checks"] == [
            "drilled_recently",
            "every_way_was_walked",
            "nothing_warned",
            "recovery_point_is_recent",
            "recovery_time_is_short",
            *(["stores_agreed_recently"] if key in ("drills/clickhouse", "drills/search") else []),
        ]
    assert loaded["pools"] == [
        "backup_copy",
        "backup_retention",
        "clickhouse_backup",
        "clickhouse_build",
        "drill",
        "partitions",
        "postgres_backup",
        "redis_backup",
        "run_history",
        "search_follow",
        "search_popularity",
        "search_write",
    ]


def test_marts_are_partitioned_and_judged(loaded: dict[str, Any]) -> None:
    daily = _marts(loaded)
    assert sorted(daily) == [
        "marts/fct_event_audience_daily",
        "marts/fct_event_sales_daily",
        "marts/fct_organization_audience_daily",
        "marts/fct_ticket_type_sales_daily",
        "marts/fct_traffic_sources_daily",
    ]
    for key, asset in daily.items():
        assert "newest_closed_day_is_final" in asset["checks"]
        # a range is one dbt run: a run per day would start dbt, and take its locks, for each of them
        assert asset["backfill"] == str(dg.BackfillPolicy.single_run()), key
    assert {"event_sales_equal_control_totals", "published_days_equal_postgres"} <= set(
        daily["marts/fct_event_sales_daily"]["checks"]
    )


def test_every_check_says_what_it_holds(loaded: dict[str, Any]) -> None:
    checks = loaded["checks"]
    assert "clicks_arrive" in loaded["assets"]["analytics/events"]["checks"]
    assert "tickets_gone_say_when" in loaded["assets"]["staging/stg_bilten__tickets"]["checks"]
    assert not [key for key, check in checks.items() if not check["description"]]
    described = {key.rpartition(":")[2]: check["description"] for key, check in checks.items()}
    assert described["event_sales_equal_control_totals"].startswith("Equal to PostgreSQL's own computation")
    assert described["unique_dim_dates_date_day"] == "date_day: no value twice."
    assert described["stg_bilten__exchange_rates_unique"].startswith("One row per ")
    assert (
        described["relationships_dim_events_venue_id__venue_id__ref_dim_venues_"]
        == "venue_id: each value is a venue_id of dim_venues."
    )


def test_what_judges_days_is_partitioned_by_day(loaded: dict[str, Any]) -> None:
    by_day = {key for key, check in loaded["checks"].items() if check["partitioned"]}
    assert {key.rpartition(":")[0] for key in by_day} == set(_marts(loaded))
    assert "marts/fct_event_sales_daily:event_sales_equal_control_totals" in by_day
    assert "marts/fct_event_sales_daily:event_sales_no_day_refused" in by_day
    # those that say something of the whole mart are not
    assert not [key for key in by_day if key.endswith((":newest_closed_day_is_final", "_equal_postgres"))]


def test_jobs_schedules_and_sensors_are_described_and_owned(loaded: dict[str, Any]) -> None:
    for name, (description, owners) in loaded["named"].items():
        assert description, name
        assert owners == ["team:data-platform"], name
    assert len(loaded["named"]) == 64


def test_the_graph_reads_from_table_to_mart(loaded: dict[str, Any]) -> None:
    assets = loaded["assets"]
    assert assets["raw/payments_payments"]["parents"] == ["operational/payments/payments"]
    assert assets["staging/stg_bilten__payments"]["parents"] == ["raw/payments_payments"]
    assert "staging/stg_bilten__payments" in assets["intermediate/int_postings"]["parents"]
    assert "intermediate/int_postings" in assets["marts/fct_event_sales_daily"]["parents"]
    assert not [key for key in assets if "__build" in key]


def test_the_graph_reads_from_table_and_mart_to_backup_to_retention(loaded: dict[str, Any]) -> None:
    assets = loaded["assets"]
    of = {key: set(asset["parents"]) for key, asset in assets.items()}
    operational = {key for key in assets if key.startswith("operational/")}
    raw = {key for key in assets if key.startswith("raw/")}
    assert (len(operational), len(raw)) == (18, 14)
    assert of["backups/postgres/full"] == of["backups/postgres/logical"] == operational
    assert of["backups/postgres/incremental"] == {"backups/postgres/full"}
    assert of["backups/clickhouse/full"] == raw | {
        "analytics/control_days",
        "analytics/control_totals",
        "analytics/events",
        "analytics/mart_days",
    }
    assert of["analytics/mart_days"] == set(_marts(loaded))
    backups = {key for key in assets if key.startswith("backups/")}
    drills = {key for key in assets if key.startswith("drills/")}
    # of search there is no backup that a drill could mark
    assert of["backups/retention"] == backups - {"backups/retention"} | drills - {"drills/search"}
    assert of["drills/search"] == {
        "backups/postgres/full",
        "backups/postgres/incremental",
        "backups/postgres/wal",
        "search/events_index",
    }
    for drill in drills - {"drills/search"}:
        taken = {key for key in backups if key.startswith(drill.replace("drills/", "backups/"))}
        more = {"backups/copies"} if drill == "drills/postgres" else set()
        assert of[drill] == taken | more
    assert of["backups/copies"] == backups - {"backups/retention", "backups/copies", "backups/postgres/wal"}


def test_the_graph_reads_from_table_and_mart_to_search(loaded: dict[str, Any]) -> None:
    of = {key: set(asset["parents"]) for key, asset in loaded["assets"].items() if key.startswith("search/")}
    joined = {
        "operational/events/events",
        "operational/events/venues",
        "operational/tickets/ticket_types",
        "operational/users/organizations",
    }
    assert of == {
        "search/definition": set(),
        "search/popularity": {"marts/fct_event_sales_daily"},
        "search/events_index": joined | {"search/definition", "search/popularity"},
        "search/changes": joined | {"search/events_index", "search/popularity"},
        "search/drift": {"search/changes"},
        "search/kept_indices": {"search/events_index"},
    }
    checks = {key: asset["checks"] for key, asset in loaded["assets"].items() if key in of}
    assert checks["search/events_index"] == ["gates"]
    assert checks["search/popularity"] == ["equals_the_mart"]
    assert checks["search/kept_indices"] == ["nothing_left"]
    assert checks["search/changes"] == ["search_lag"]
    assert checks["search/drift"] == ["no_drift"]
    assert checks["search/definition"] == ["serves_the_definition"]


def test_jobs_schedules_and_sensors(loaded: dict[str, Any]) -> None:
    assert loaded["jobs"] == [
        "backup_copies",
        "backup_retention",
        "clickhouse_drill",
        "clickhouse_full_backup",
        "clickhouse_incremental_backup",
        "data_checks",
        "database_advice",
        "drill_promises",
        "ingestion",
        "key_figures",
        "metrics_final",
        "metrics_late_days",
        "metrics_provisional",
        "partition_maintenance",
        "postgres_drill",
        "postgres_full_backup",
        "postgres_incremental_backup",
        "postgres_logical_backup",
        "postgres_wal_audit",
        "raw_reconciliation",
        "redis_drill",
        "redis_full_backup",
        "run_retention",
        "search_changes",
        "search_definition",
        "search_drift",
        "search_drill",
        "search_popularity",
        "search_promises",
        "search_prune",
        "search_rebuild",
        "table_checks",
    ]
    assert loaded["schedules"] == {
        "backup_copies_every_30_minutes": ["7,37 * * * *", "UTC"],
        "backup_retention_daily": ["0 6 * * *", "UTC"],
        "clickhouse_drill_daily": ["30 5 * * *", "UTC"],
        "clickhouse_full_backup": ["0 3 * * 0", "UTC"],
        "clickhouse_incremental_backup": ["0 3 * * 1-6", "UTC"],
        "data_checks_hourly": ["50 * * * *", "UTC"],
        "database_advice_weekly": ["30 6 * * 1", "UTC"],
        "drill_promises_hourly": ["55 * * * *", "UTC"],
        "ingestion_every_15_minutes": ["*/15 * * * *", "UTC"],
        "key_figures_hourly": ["10 * * * *", "UTC"],
        "metrics_final_daily": ["0 13 * * *", "UTC"],
        "metrics_provisional_daily": ["0 4 * * *", "UTC"],
        "partition_maintenance_daily": ["0 1 * * *", "UTC"],
        "postgres_drill_daily": ["0 5 * * *", "UTC"],
        "postgres_full_backup": ["0 2 * * *", "UTC"],
        "postgres_incremental_backup": ["0 */4 * * *", "UTC"],
        "postgres_logical_backup": ["45 2 * * 0", "UTC"],
        "postgres_wal_audit": ["25 * * * *", "UTC"],
        "raw_reconciliation_daily": ["22 12 * * *", "UTC"],
        "redis_drill_daily": ["30 5 * * *", "UTC"],
        "redis_full_backup": ["0 */6 * * *", "UTC"],
        "run_retention_daily": ["20 6 * * *", "UTC"],
        "search_changes_every_5_minutes": ["*/5 * * * *", "UTC"],
        "search_drift_daily": ["30 6 * * *", "UTC"],
        "search_drill_daily": ["45 5 * * *", "UTC"],
        "search_popularity_daily": ["45 13 * * *", "UTC"],
        "search_promises_hourly": ["58 * * * *", "UTC"],
        "search_prune_daily": ["45 6 * * *", "UTC"],
        "search_rebuild_weekly": ["30 0 * * 0", "UTC"],
        "table_checks_daily": ["40 6 * * *", "UTC"],
    }
    assert loaded["sensors"] == ["metrics_late_days", "search_definition_changed"]


def test_without_a_prepared_manifest_the_message_says_what_to_do(tmp_path: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-c", "from bilten_orchestration.definitions import definitions; definitions()"],
        env={**os.environ, "BILTEN_HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert found.returncode != 0
    assert "bilten up prepares it" in found.stderr
