"""When advice is made. Statements are counted by the watchdog's clock, every five minutes: a run of Dagster
would cost more than what it counts."""

from __future__ import annotations

import dagster as dg

from bilten_orchestration import face
from bilten_orchestration.observability.queries.assets import advice, platform_figures
from bilten_orchestration.observability.queries.checks import tables_in_shape

database_advice = dg.define_asset_job(
    "database_advice",
    selection=dg.AssetSelection.assets(advice),
    owners=[face.DATA_PLATFORM],
    description="Reads what the databases tell of themselves and writes the week's advice; changes nothing.",
    tags={face.COMMAND: "bilten advice", face.HELP: "bilten advice"},
)

weekly = dg.ScheduleDefinition(
    name="database_advice_weekly",
    job=database_advice,
    cron_schedule="30 6 * * 1",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    owners=[face.DATA_PLATFORM],
    description="Mondays, after the night's backups and retention, with two whole weeks to compare.",
)

key_figures = dg.define_asset_job(
    "key_figures",
    selection=dg.AssetSelection.assets(platform_figures),
    owners=[face.DATA_PLATFORM],
    description="Rolls up what the watchdog sampled to hours in ClickHouse; hours that were missed come too.",
    tags={face.HELP: "bilten queries collect, which samples; then the schedule of this job"},
)

hourly = dg.ScheduleDefinition(
    name="key_figures_hourly",
    job=key_figures,
    cron_schedule="10 * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    owners=[face.DATA_PLATFORM],
    description="Every hour, when the one before is over.",
)

table_checks = dg.define_asset_job(
    "table_checks",
    selection=dg.AssetSelection.checks(tables_in_shape),
    owners=[face.DATA_PLATFORM],
    description="Whether each operational table is there, vacuumed, frozen and analysed.",
    tags={face.COMMAND: "bilten advice", face.HELP: "bilten advice"},
)

daily = dg.ScheduleDefinition(
    name="table_checks_daily",
    job=table_checks,
    cron_schedule="40 6 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    owners=[face.DATA_PLATFORM],
    description="When the night is over, in which autovacuum had time.",
)
