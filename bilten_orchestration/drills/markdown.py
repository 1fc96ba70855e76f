"""A drill as a page for people: who operates, and who audits and has never seen the platform."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bilten_orchestration.drills import plan
from bilten_orchestration.drills.projection import projection
from bilten_orchestration.drills.report import DrillReport
from bilten_orchestration.settings import DrillSettings

_SHOWN_COUNTS = 40


def page(reports: Sequence[DrillReport], settings: DrillSettings) -> str:
    """Of all ways of one run, in their order."""
    return "\n".join(line for report in reports for line in _one(report, settings)) + "\n"


def _one(report: DrillReport, settings: DrillSettings) -> Iterable[str]:
    way = next((each for each in plan.ways_of(report.store) if each.name == report.way), None)
    verdict = "passed" if report.ok else f"FAILED in {report.failed_phase}"
    yield f"## {report.store}, way `{report.way}`: {verdict}"
    yield ""
    if way is not None:
        yield way.description
        yield ""
    for problem in report.problems:
        yield f"- **{_cell(problem.what)}**"
        yield f"  - expected: {_cell(problem.expected)}"
        yield f"  - found: {_cell(problem.found)}"
        yield f"  - next: `{_cell(problem.next)}`"
    if report.problems:
        yield ""
    yield from _table(("Fact", "Value"), _facts(report, settings))
    yield from _table(
        ("Phase", "Seconds"), [(name, f"{seconds:,.2f}") for name, seconds in report.phases.items()]
    )
    yield from _table(
        ("Proof", "Result", "Expected", "Found", "Seconds"),
        [
            (
                proof.name,
                "proven" if proof.ok else "warns" if proof.warns else "NOT PROVEN",
                proof.expected,
                proof.found,
                f"{proof.seconds:,.2f}",
            )
            for proof in report.proofs
        ],
    )
    counts = list(report.counts.items())
    yield from _table(("Counted", "Number"), [(name, f"{count:,}") for name, count in counts[:_SHOWN_COUNTS]])
    if len(counts) > _SHOWN_COUNTS:
        yield f"{len(counts) - _SHOWN_COUNTS} more are in the attestation."
        yield ""


def _facts(report: DrillReport, settings: DrillSettings) -> list[tuple[str, str]]:
    projected = projection(report, settings.production_bytes(report.store))
    facts = [
        ("Drill", report.id),
        ("Ordered (UTC)", f"{report.started_at:%Y-%m-%d %H:%M:%S}"),
        ("Ended (UTC)", f"{report.finished_at:%Y-%m-%d %H:%M:%S}"),
        ("Backups", ", ".join(report.backups) or "none"),
        ("From the bucket", report.bucket or "none"),
        ("Would have been lost (RPO)", _seconds(report.rpo_seconds)),
        ("From the order to the first query (RTO)", _seconds(report.rto_seconds)),
        ("Restored", f"{report.restored_bytes / 1e6:,.1f} MB"),
        ("Downloaded", f"{report.stored_bytes / 1e6:,.1f} MB"),
    ]
    if report.reached_at is not None:
        facts.append(("Data as of (UTC)", f"{report.reached_at:%Y-%m-%d %H:%M:%S.%f}"))
    if report.reached_lsn is not None:
        facts.append(("Stopped at", report.reached_lsn))
    if projected is not None:
        facts.append(("Projected for production", projected.formula))
    if report.run is not None:
        facts.append(("Run", report.run))
    return facts + [(name, f"{value:,.4g}") for name, value in report.figures.items()]


def _seconds(value: float | None) -> str:
    return "not known" if value is None else f"{value:,.1f} s"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterable[str]:
    if not rows:
        return
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for row in rows:
        yield f"| {' | '.join(_cell(each) for each in row)} |"
    yield ""


def _cell(text: str) -> str:
    """No text of a store becomes markup, or another column."""
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
