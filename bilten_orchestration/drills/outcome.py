"""How a drill ended, in problems and words. No I/O."""

from __future__ import annotations

from datetime import datetime

from bilten_orchestration.drills.course import Course
from bilten_orchestration.drills.plan import Drilled, Way
from bilten_orchestration.drills.record import Begun
from bilten_orchestration.drills.report import DrillReport
from bilten_orchestration.errors import Problem

KILLED = "killed"


def unproven(course: Course, way: Way) -> tuple[Problem, ...]:
    if not course.proofs:
        return (Problem(f"way {way.name} proved nothing", expected="proofs of what came back", found="none"),)
    return tuple(
        Problem(f"not proven: {proof.name}", proof.expected, proof.found)
        for proof in course.proofs
        if not proof.ok and not proof.warns
    )


def defect(error: Exception) -> Problem:
    return Problem(
        "the drill broke off by a defect, or by something that nobody thought of",
        expected="a report",
        found=f"{type(error).__name__}: {error}"[:500],
        next="report it with the log of this run; until then drill by hand (bilten restore)",
    )


def killed(store: Drilled, begun: Begun, now: datetime) -> DrillReport:
    return DrillReport(
        begun.id,
        store,
        begun.way,
        begun.started_at,
        max(now, begun.started_at),
        False,
        failed_phase=KILLED,
        problems=(
            Problem(
                "the drill did not come to its end",
                expected="a report",
                found="none: it was killed, or the repository went away under it",
                next=f"bilten drill run {store} --way {begun.way}",
            ),
        ),
        run=begun.run,
    )


def told(report: DrillReport) -> str:
    """In one line, or with what failed."""
    head = f"{report.store} {report.way}"
    if not report.ok:
        return "\n".join([f"{head} FAILED in {report.failed_phase}", *map(str, report.problems)])
    rto = "no server started" if report.rto_seconds is None else f"back in {report.rto_seconds:.1f} s"
    warned = "".join(f"; WARNS: {proof.name}: {proof.found}" for proof in report.warnings)
    return f"{head}: {rto}, {len(report.proofs)} proofs{warned}"
