"""The dbt project as two sets of assets: marts by day, and what is built as a whole.

Built by a function since the graph is read from the manifest: loading definitions reads files alone.
"""

# Dagster reads annotations of decorated functions as objects: no postponed ones in this module.

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster_dbt import DbtProject, dbt_assets

from bilten_orchestration import face
from bilten_orchestration.errors import BiltenError
from bilten_orchestration.metrics import dbt_call, evaluations, graph, manifest, server_costs
from bilten_orchestration.metrics.days import AHEAD
from bilten_orchestration.metrics.events import Collected, collect
from bilten_orchestration.metrics.manifest import DAILY, WHOLE, Mart
from bilten_orchestration.metrics.report import BuildReport
from bilten_orchestration.metrics.server_costs import Cost
from bilten_orchestration.metrics.translator import GROUP, Translator
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores.resources import Platform

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

POOL = "clickhouse_build"

MART_DAYS = dg.AssetSpec(
    ["analytics", "mart_days"],
    group_name=GROUP,
    description="State of each day of each mart: provisional or final, batch, verdict. Written by the swaps.",
    owners=[face.DATA_PLATFORM],
    kinds={"clickhouse", "table"},
    tags={"layer": "analytics"},
    metadata={
        "dagster/table_name": "analytics.mart_days",
        face.NO_FRESHNESS: "written by every swap; each mart has its check newest_closed_day_is_final",
    },
)


def mart_days(marts: Sequence[Mart]) -> dg.AssetSpec:
    """Below the marts whose swaps write it."""
    return MART_DAYS.replace_attributes(deps=[dg.AssetKey(mart.table.split(".")) for mart in marts])


Events = Iterator[dg.Output[Any] | dg.AssetCheckResult | dg.AssetCheckEvaluation]


def partitions(settings: Settings) -> dg.DailyPartitionsDefinition:
    """Local days, named by their date. The newest is tomorrow (UTC): at 10:00 it begins in UTC+14."""
    return dg.DailyPartitionsDefinition(
        start_date=settings.metrics.first_day, timezone="UTC", end_offset=AHEAD.days
    )


def build_assets(settings: Settings, parsed: Mapping[str, Any]) -> list[dg.AssetsDefinition]:
    """`daily_marts` and `whole_models`, from dbt's manifest; in the asset graph builds are one with marts."""
    shown = graph.merged(parsed)
    days_of_marts = partitions(settings)
    translator = Translator(days_of_marts)
    marts = manifest.marts(parsed)
    places = graph.ranks(shown)
    project = DbtProject(dbt_call.PROJECT)

    @dbt_assets(
        manifest=shown,
        select=f"tag:{DAILY}",
        name="daily_marts",
        partitions_def=days_of_marts,
        backfill_policy=dg.BackfillPolicy.single_run(),
        dagster_dbt_translator=translator,
        project=project,
        pool=POOL,
        op_tags={face.COMMAND: "bilten metrics build --from DAY --to DAY"},
    )
    def daily_marts(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> Events:
        from bilten_orchestration.metrics.opened import open_build

        face.keep_connection(context)
        days = [date.fromisoformat(key) for key in context.partition_keys]
        if not context.selected_asset_keys:  # checks alone: what was found when the days were built
            with face.step(context), platform.clickhouse() as client:
                yield from evaluations.evaluations(context, client, marts, days)
            return
        wanted = None if not context.is_subset else [key.path[-1] for key in context.selected_asset_keys]
        with (
            face.step(context),
            open_build(
                platform.settings, days, run_id=context.run_id, marts=wanted, progress=context.log.info
            ) as build,
        ):
            collected = Collected()
            began = server_costs.now(build.client)
            if build.pending:
                collected = collect(
                    build.call(),
                    context,
                    manifest=shown,
                    translator=translator,
                    project=project,
                    watch=build.watch,
                )
            # those that judge days are told day by day, from what they wrote; others as dbt told them
            by_day = {check.name for check in evaluations.by_day(context)}
            checks = [check for check in collected.checks if check.check_name not in by_day]
            try:
                report = build.close(collected.errors)
            except BiltenError:
                yield from checks
                raise
            more = _lineage(platform, parsed, build.target, context, translator)
            costs = server_costs.by_node(build.client, began)
            for key, numbers in _costs(parsed, build.marts, costs).items():
                more.setdefault(key, {}).update(numbers)
            order = [mart.name for mart in sorted(build.marts, key=lambda mart: places[mart.unique_id])]
            yield from _published(context, report, order, collected, more)
            yield from checks
            yield from evaluations.evaluations(context, build.client, marts, days)
            if report.refusals:
                raise face.failure(report.refusals)

    @dbt_assets(
        manifest=shown,
        select=f"tag:{WHOLE}",
        name="whole_models",
        dagster_dbt_translator=translator,
        project=project,
        pool=POOL,
        op_tags={face.COMMAND: "bilten metrics build --from DAY --to DAY"},
    )
    def whole_models(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> Events:
        from bilten_orchestration.metrics import whole

        face.keep_connection(context)
        settings = platform.settings
        with (
            face.step(context),
            whole.opened(settings, context.log.info) as (batch, watch),
            platform.clickhouse() as client,
        ):
            call = whole.call(settings, batch, f"whole-{context.run_id[:8]}", _selection(context))
            began = server_costs.now(client)
            collected = collect(
                call, context, manifest=shown, translator=translator, project=project, watch=watch
            )
            rows = _rows(client, collected)
            costs = server_costs.by_node(client, began)
            lineage = _lineage(platform, parsed, call.target, context, translator)
            nodes = {key: unique_id for unique_id, key in _keys(parsed, translator).items()}
            for key, output in sorted(collected.outputs.items(), key=lambda found: places[nodes[found[0]]]):
                cost = costs.get(nodes[key], Cost())
                more = {
                    "batch": batch.number,
                    **_numbers(cost),
                    **lineage.get(key, {}),
                    **({"dagster/row_count": rows[key]} if key in rows else {}),
                }
                context.add_output_metadata(more, output_name=output.output_name)
                yield output
            yield from collected.checks
            if problems := whole.failed_tests(call, collected.errors):
                raise face.failure(problems)

    return [daily_marts, whole_models]


def _selection(context: dg.AssetExecutionContext) -> list[str]:
    """What dbt is to build: everything, or the selected models and each selected test by its name.

    A test that reads two models of which neither is below the other is in no selection of models, and a run
    of several steps would leave it out.
    """
    if not context.is_subset:
        return [f"tag:{WHOLE}"]
    models = sorted(key.path[-1] for key in context.selected_asset_keys)
    return models + sorted(check.name for check in context.selected_asset_check_keys)


def _costs(
    parsed: Mapping[str, Any], marts: Sequence[Mart], costs: Mapping[str, Cost]
) -> dict[dg.AssetKey, dict[str, Any]]:
    """What each mart's build, gates and swaps cost the server in this run."""
    gates = {node["name"]: unique_id for unique_id, node in parsed["nodes"].items()}
    found: dict[dg.AssetKey, dict[str, Any]] = {}
    for mart in marts:
        parts = {
            "build": server_costs.total(costs, [mart.build_id]),
            "gates": server_costs.total(costs, [gates[gate] for gate in mart.gates]),
            "swap": server_costs.total(costs, [mart.unique_id]),
        }
        whole = sum(parts.values(), Cost())
        if whole.statements:
            found[dg.AssetKey(["marts", mart.name])] = {
                **_numbers(whole),
                **{f"{name}_server_seconds": round(part.seconds, 3) for name, part in parts.items()},
            }
    return found


def _numbers(cost: Cost) -> dict[str, Any]:
    """Numeric, so that the UI plots them from run to run."""
    if not cost.statements:
        return {}
    return {
        "server_seconds": round(cost.seconds, 3),
        "statements": cost.statements,
        "read_rows": cost.read_rows,
        "read_bytes": cost.read_bytes,
    }


def _published(
    context: dg.AssetExecutionContext,
    report: BuildReport,
    order: Sequence[str],
    collected: Collected,
    more: Mapping[dg.AssetKey, Mapping[str, Any]],
) -> Events:
    """Record each published day of each mart with its own numbers; refused days stay unrecorded."""
    for mart in order:
        key = next(key for key in context.selected_asset_keys if key.path[-1] == mart)
        days = [built for built in report.days if built.mart == mart]
        counts = {verdict: sum(built.verdict == verdict for built in days) for verdict in report.counts()}
        common: dict[str, Any] = {
            "batch": report.batch,
            "as_of": dg.MetadataValue.timestamp(report.as_of),
            "settled_until": dg.MetadataValue.timestamp(report.settled_until),
            "build_id": report.build_id,
            "days_in_run": len(days),
            **{f"days_{verdict}": count for verdict, count in counts.items()},
            **more.get(key, {}),
        }
        if mart in report.query_ids:
            common["query_id"] = report.query_ids[mart]
        by_day: dict[str, dict[str, Any]] = {
            str(built.date): {
                "dagster/partition_row_count": built.rows,
                "rows": built.rows,
                "restated_cells": built.restated,
                "verdict": built.verdict,
                "final": built.is_final,
            }
            for built in days
        }
        if counts["refused"]:
            # an Output would record every day of the run
            for built in days:
                if built.verdict != "refused":
                    context.log_event(
                        dg.AssetMaterialization(
                            key, partition=str(built.date), metadata={**common, **by_day[str(built.date)]}
                        )
                    )
            continue
        output = collected.outputs.get(key) or dg.Output(None, output_name=key.to_python_identifier())
        for day, metadata in by_day.items():
            context.add_asset_metadata({**common, **metadata}, asset_key=key, partition_key=day)
        yield output


def _lineage(
    platform: Platform,
    parsed: Mapping[str, Any],
    target: Path,
    context: dg.AssetExecutionContext,
    translator: Translator,
) -> dict[dg.AssetKey, dict[str, Any]]:
    """Column lineage of the selected models, as the UI takes it."""
    from bilten_orchestration.metrics.lineage import column_lineage

    keys = {
        unique_id: key
        for unique_id, key in _keys(parsed, translator).items()
        if key in context.selected_asset_keys
    }
    sources = {
        (node["schema"], node["name"]): translator.get_asset_key(node)
        for node in (*parsed["nodes"].values(), *parsed["sources"].values())
        if node["resource_type"] in ("model", "source")
    }
    return {
        keys[unique_id]: {
            "dagster/column_lineage": dg.TableColumnLineage(
                {
                    column: [
                        dg.TableColumnDep(asset_key=sources[database, table], column_name=name)
                        for database, table, name in leaves
                        if (database, table) in sources
                    ]
                    for column, leaves in columns.items()
                }
            )
        }
        for unique_id, columns in column_lineage(platform.settings, parsed, target, keys).items()
    }


def _keys(parsed: Mapping[str, Any], translator: Translator) -> dict[str, dg.AssetKey]:
    """Asset keys of the models, by dbt's unique id."""
    return {
        unique_id: translator.get_asset_key(node)
        for unique_id, node in parsed["nodes"].items()
        if node["resource_type"] == "model"
    }


def _rows(client: "Client", collected: Collected) -> dict[dg.AssetKey, int]:
    """Row counts of tables, from the server's own books; views have none."""
    found = client.query(
        "select database, name, total_rows from system.tables"
        " where database in ('intermediate', 'marts', 'analytics') and total_rows is not null"
    ).result_rows
    return {
        key: int(rows)
        for database, name, rows in found
        if (key := dg.AssetKey([database, name])) in collected.outputs
    }
