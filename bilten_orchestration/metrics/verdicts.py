"""What the swaps and gates of a build left in ClickHouse: states of mart days, verdicts, restatements."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from bilten_orchestration.errors import Problem
from bilten_orchestration.metrics.late import Shown
from bilten_orchestration.metrics.manifest import Mart

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

VERDICTS = ("swapped", "unchanged", "refused")
SAMPLE_ROWS = 5


@dataclass(frozen=True, slots=True)
class MartDay:
    """State of one day of one mart. `rows` are those published; of a refused day, of the build before."""

    mart: str
    day: date
    verdict: str
    rows: int
    is_final: bool
    as_of: datetime
    batch: int
    run_id: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one gate found for one day: `failures` rows, with a bounded `sample` of them."""

    mart: str
    day: date
    gate: str
    failures: int
    sample: tuple[dict[str, Any], ...]


def mart_days(
    client: Client, marts: Iterable[str], *, days: Sequence[date] | None = None, run_id: str | None = None
) -> list[MartDay]:
    """In order of day and mart; with `run_id` only what that run decided."""
    conditions = ["mart in {marts:Array(String)}"]
    parameters: dict[str, Any] = {"marts": list(marts)}
    if days is not None:
        conditions.append("day in {days:Array(Date32)}")
        parameters["days"] = list(days)
    if run_id is not None:
        conditions.append("run_id = {run_id:String}")
        parameters["run_id"] = run_id
    rows = client.query(
        "select mart, day, verdict, rows, is_final, as_of, batch, run_id from analytics.mart_days final"
        f" where {' and '.join(conditions)} order by day, mart",
        parameters,
    ).result_rows
    return [
        MartDay(mart, day, verdict, int(count), bool(final), as_of.replace(tzinfo=UTC), int(batch), run)
        for mart, day, verdict, count, final, as_of, batch, run in rows
    ]


def shown(client: Client, marts: Sequence[Mart]) -> list[Shown]:
    """The days that each of these marts shows, with their batches and moments, and which are provisional."""
    batches: dict[str, dict[date, int]] = {mart.name: {} for mart in marts}
    moments: dict[str, dict[date, datetime]] = {mart.name: {} for mart in marts}
    provisional: dict[str, set[date]] = {mart.name: set() for mart in marts}
    for name, day, batch, as_of, final in client.query(
        "select mart, day, batch, as_of, is_final from analytics.mart_days final"
        " where mart in {marts:Array(String)} and batch > 0",
        {"marts": list(batches)},
    ).result_rows:
        batches[name][day] = int(batch)
        moments[name][day] = as_of.replace(tzinfo=UTC)
        if not final:
            provisional[name].add(day)
    return [
        Shown(mart.name, mart.reach, batches[mart.name], moments[mart.name], provisional[mart.name])
        for mart in marts
    ]


def judged(client: Client, run_id: str, *, failed_only: bool = True) -> list[Verdict]:
    """Verdicts of a run, in order of day, mart and gate."""
    rows = client.query(
        "select mart, metric_date, gate, failures, sample from analytics.mart_verdicts final"
        " where run_id = {run_id:String}"
        + (" and failures > 0" if failed_only else "")
        + " order by metric_date, mart, gate",
        {"run_id": run_id},
    ).result_rows
    return [
        Verdict(mart, day, gate, int(failures), _sample(sample)) for mart, day, gate, failures, sample in rows
    ]


def restatements(client: Client, run_id: str) -> dict[tuple[str, date], int]:
    """How many published cells a run changed, per mart and day."""
    rows = client.query(
        "select mart, metric_date, count() from analytics.metric_restatements final"
        " where run_id = {run_id:String} group by mart, metric_date",
        {"run_id": run_id},
    ).result_rows
    return {(mart, day): int(count) for mart, day, count in rows}


def refusals(
    refused: Iterable[MartDay], verdicts: Iterable[Verdict], gates: dict[str, tuple[str, ...]]
) -> list[Problem]:
    """One problem per refused day, mart and gate: what was expected and found, and what helps."""
    by_day: dict[tuple[str, date], list[Verdict]] = {}
    for verdict in verdicts:
        by_day.setdefault((verdict.mart, verdict.day), []).append(verdict)
    problems = []
    for day in refused:
        given = by_day.get((day.mart, day.day), [])
        missing = sorted(set(gates.get(day.mart, ())) - {verdict.gate for verdict in given})
        problems += [failed(verdict) for verdict in given if verdict.failures]
        problems += [
            Problem(
                f"{day.mart} of {day.day} was refused: the gate {gate} gave no verdict",
                expected=f"a verdict of {gate}",
                found="none",
                next="look for its error in the log of dbt, then"
                f" bilten metrics build --from {day.day} --to {day.day}",
            )
            for gate in missing
        ]
        if not missing and not any(verdict.failures for verdict in given):
            problems.append(
                Problem(
                    f"{day.mart} of {day.day} was refused",
                    expected="every gate passed",
                    found="passed, but the swap refused the day",
                    next=f"bilten metrics build --from {day.day} --to {day.day}",
                )
            )
    return problems


def failed(verdict: Verdict) -> Problem:
    """What a gate found, with one of the rows at fault and the step that helps."""
    first = verdict.sample[0] if verdict.sample else {}
    keys = {key: value for key, value in first.items() if key not in ("expected", "found")}
    cell = ", ".join(f"{key}={value}" for key, value in keys.items())
    event, metric = first.get("event_id"), first.get("metric") or first.get("metric_name")
    return Problem(
        f"{verdict.mart} of {verdict.day} was refused by {verdict.gate}: {verdict.failures} rows;"
        " what was published stays",
        expected=str(first.get("expected", "0 rows that fail")),
        found=str(first.get("found", f"{verdict.failures} rows that fail")) + (f" ({cell})" if cell else ""),
        next=(
            f"bilten explain {verdict.day} {event} {metric}"
            if event and metric
            else f"bilten sync, then bilten metrics build --from {verdict.day} --to {verdict.day}"
        ),
    )


def _sample(text: str) -> tuple[dict[str, Any], ...]:
    try:
        rows = json.loads(text) if text else []
    except ValueError:
        return ({"sample": text[:300]},)
    listed = rows if isinstance(rows, list) else [rows]
    return tuple(row if isinstance(row, dict) else {"sample": row} for row in listed[:SAMPLE_ROWS])
