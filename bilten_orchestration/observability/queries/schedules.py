"""When advice is made. Statements are counted by the watchdog's clock, every five minutes: a run of Dagster
would cost more than what it counts."""

from __future__ import annotations

import dagster as dg

from bilten_orchestration import face
from bilten_orchestration.observability.queries.assets import advice, platform_figures
from bilten_orchestration.observability.queries.checks import tables_in_shape

database_advice = face.job(
    "database_advice",
    dg.AssetSelection.assets(advice),
    "Reads what the databases tell of themselves and writes the week's advice; changes nothing.",
    by_hand="bilten advice",
    on_failure="bilten advice",
)

weekly = face.schedule(
    "database_advice_weekly",
    database_advice,
    "30 6 * * 1",
    "Mondays, after the night's backups and retention, with two whole weeks to compare.",
)

key_figures = face.job(
    "key_figures",
    dg.AssetSelection.assets(platform_figures),
    "Rolls up what the watchdog sampled to hours in ClickHouse; hours that were missed come too.",
    on_failure="bilten queries collect, which samples; then the schedule of this job",
)

hourly = face.schedule(
    "key_figures_hourly",
    key_figures,
    "10 * * * *",
    "Every hour, when the one before is over.",
)

table_checks = face.job(
    "table_checks",
    dg.AssetSelection.checks(tables_in_shape),
    "Whether each operational table is there, vacuumed, frozen and analysed.",
    by_hand="bilten advice",
    on_failure="bilten advice",
)

daily = face.schedule(
    "table_checks_daily",
    table_checks,
    "40 6 * * *",
    "When the night is over, in which autovacuum had time.",
)
