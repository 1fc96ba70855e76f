"""Checks of the advice, evaluated with it: on what it rests, and whether statements became slower; and of
every operational table, whether it is in shape."""

# Dagster reads annotations of decorated functions as objects: no postponed ones in this module.

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING

import dagster as dg

from bilten_orchestration import face
from bilten_orchestration.ingestion.assets import OPERATIONAL
from bilten_orchestration.partitions.assets import OPERATIONAL as PARTITIONED
from bilten_orchestration.stores.resources import Platform

if TYPE_CHECKING:
    from bilten_orchestration.observability.queries.advice import AdviceReport
    from bilten_orchestration.observability.queries.figures import RollUpReport
    from bilten_orchestration.observability.queries.shape import Shape

LATE = timedelta(minutes=20)  # four looks that did not happen
NAMES = {
    "read_whole": "Statistics, catalogues and query log could all be read; what is missing is said with the"
    " statement that mends it.",
    "collected": "Statements were counted within the last 20 minutes (bilten queries collect, by the"
    " watchdog); never counted fails too.",
    "no_regressions": "No statement became slower than in the week before, by the limits of the settings.",
}


def specs(key: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    return [dg.AssetCheckSpec(name, asset=key, description=text) for name, text in NAMES.items()]


def results(report: "AdviceReport") -> list[dg.AssetCheckResult]:
    """One of each, in the order of NAMES."""
    last = report.last_look_at
    return [
        dg.AssetCheckResult(
            passed=not report.problems,
            check_name="read_whole",
            description="\n".join(map(str, report.problems[: face.TOLD_PROBLEMS])) or None,
            metadata={
                "problems": len(report.problems),
                **({"found": face.table(report.problems)} if report.problems else {}),
            },
        ),
        dg.AssetCheckResult(
            passed=last is not None and report.at - last <= LATE,
            check_name="collected",
            description="statements were never counted: bilten queries collect" if last is None else None,
            metadata={}
            if last is None
            else {
                "age_seconds": (report.at - last).total_seconds(),
                "limit_seconds": LATE.total_seconds(),
            },
        ),
        dg.AssetCheckResult(
            passed=not report.weeks.regressions,
            severity=dg.AssetCheckSeverity.WARN,
            check_name="no_regressions",
            metadata={
                "regressions": len(report.weeks.regressions),
                "statements_compared": report.weeks.compared,
                "days_before": report.weeks.days_before,
                "days_now": report.weeks.days_now,
                "added_seconds": sum(each.added_milliseconds for each in report.weeks.regressions) / 1000,
            },
        ),
    ]


SAMPLED = "sampled"
SAMPLED_TEXT = (
    "The newest closed hour has samples of the operational database: none means that nobody looked, and an"
    " unknown hour fails."
)


def figure_specs(key: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    return [dg.AssetCheckSpec(SAMPLED, asset=key, description=SAMPLED_TEXT)]


def figure_results(report: "RollUpReport") -> list[dg.AssetCheckResult]:
    newest = report.newest_hour
    wanted = report.span.end - timedelta(hours=1)
    return [
        dg.AssetCheckResult(
            passed=newest == wanted,
            check_name=SAMPLED,
            description=None
            if newest == wanted
            else f"expected samples of {wanted:%F %H:00}, found the newest of"
            f" {'no hour' if newest is None else f'{newest:%F %H:00}'}; next: bilten queries collect",
            metadata={"samples": report.samples, "hours": report.span.hours},
        )
    ]


def _said(found: "Shape") -> str | None:
    if not found.is_there:
        return "the table is not there; next: bilten migrate status"
    lines = (f"{line.object}: {line.reason}; next: {line.statements[0]}" for line in found.advice)
    return "\n".join([*lines][: face.TOLD_PROBLEMS]) or None


IN_SHAPE = "in_shape"
_TABLES = [spec.key for spec in (*OPERATIONAL, *PARTITIONED)]


@dg.multi_asset_check(
    name="tables_in_shape",
    specs=[
        dg.AssetCheckSpec(
            IN_SHAPE,
            asset=key,
            description="The table is there, and neither it nor a partition of it waits for a vacuum, a"
            " freeze or an analyze that autovacuum should have done (bilten advice has the statements).",
        )
        for key in _TABLES
    ],
    can_subset=True,
)
def tables_in_shape(
    context: dg.AssetCheckExecutionContext, platform: dg.ResourceParam[Platform]
) -> Iterator[dg.AssetCheckResult]:
    from bilten_orchestration.observability.queries import shape

    selected = {check.asset_key for check in context.selected_asset_check_keys}
    names = {key: ".".join(key.path[1:]) for key in _TABLES if key in selected}
    with face.step(context):
        found = shape.read(platform.settings, list(names.values()))
    for key, name in names.items():
        each = found[name]
        yield dg.AssetCheckResult(
            passed=each.is_there and not each.advice,
            asset_key=key,
            check_name=IN_SHAPE,
            severity=dg.AssetCheckSeverity.WARN if each.is_there else dg.AssetCheckSeverity.ERROR,
            description=_said(each),
            metadata={
                "live_rows": each.live_rows,
                "dead_rows": each.dead_rows,
                "bytes": each.bytes,
                "waiting": len(each.advice),
            },
        )
