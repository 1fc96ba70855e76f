"""One way back, walked: restored into the drill's place, asked, and torn down.

Nothing is kept of it but what the course tells. The place is emptied by whoever gave it (scratch.py), also
after a kill at any step: until the server runs there are files alone, then there is one server, which is
known by the record in its directory.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

from bilten_orchestration.backups.postgres import programs
from bilten_orchestration.backups.postgres.targets import Target
from bilten_orchestration.drills.course import Course
from bilten_orchestration.drills.falls import fall
from bilten_orchestration.drills.postgres import digests, point, proofs, shipped, table, ways
from bilten_orchestration.drills.postgres.digests import Digests
from bilten_orchestration.drills.postgres.restored import Server, restored
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores.driver_errors import translated


def walk(settings: Settings, way: str, place: Path, course: Course, *, progress: Progress = silent) -> None:
    """Walk `way` (drills/plan.py) in the empty directory `place`, and tell `course`.

    Proofs that fail are told as such. Raises what keeps it from coming so far: Refused (no backup for it, no
    room), Mismatch (damage, a server that ends), LockHeld (no point), StoreUnavailable, AccessRefused,
    UsageError for a way that is none.
    """
    with translated("the drill"):
        match way:
            case "exact":
                _exact(settings, place, course, progress)
            case "table":
                table.walk(settings, place, course, progress)
            case _:
                _other(settings, ways.chosen(settings, way, course, progress), place, course, progress)


def _exact(settings: Settings, place: Path, course: Course, progress: Progress) -> None:
    with ExitStack() as stack:
        with course.phase("point"):
            exact = stack.enter_context(point.exact(settings, progress))
        with course.phase("digests"):
            production = digests.compute(exact.readers, exact.tables, progress)
    at = exact.point
    course.figures |= {
        "point_wait_seconds": at.wait_seconds,
        "writers_locked_out_seconds": at.lock_seconds,
        "digest_bytes": production.bytes,
        "digest_seconds": production.seconds,
        "digest_bytes_per_second": production.bytes_per_second,
        "digest_seconds_per_100_gb": production.seconds_per_100_gb,
        "unlogged_tables": len(production.unlogged),
    }
    with course.phase("wal"):
        course.figures["wal_wait_seconds"] = shipped.wait(settings, at, progress)
    target = Target("lsn", at.lsn, timeline=at.timeline, inclusive=False)
    course.ordered()
    with restored(settings, target, place / "exact", course, bucket="first", progress=progress) as server:
        _prove(settings, server, course, production=production, newest=True, progress=progress)


def _other(settings: Settings, chosen: ways.Way, place: Path, course: Course, progress: Progress) -> None:
    course.ordered()
    with restored(
        chosen.settings,
        chosen.target,
        place / chosen.name,
        course,
        bucket=chosen.bucket,
        progress=progress,
    ) as server:
        if chosen.target.kind == "latest" and server.beat_at is not None:
            course.figures["lost_seconds"] = (chosen.ordered_at - server.beat_at).total_seconds()
        _prove(settings, server, course, production=None, newest=chosen.newest, progress=progress)


def _prove(
    settings: Settings,
    server: Server,
    course: Course,
    *,
    production: Digests | None,
    newest: bool,
    progress: Progress,
) -> None:
    """Digests come first: they find the server as recovery left it."""
    began = time.monotonic()
    jobs = settings.drills.proof_jobs
    with course.phase("proof"):
        course.prove(proofs.verified(server.report))
        for proof in proofs.reached(server):
            course.prove(proof)
        progress("proving: digests")
        with server.connections(jobs) as connections:
            for connection in connections:
                digests.pin(connection)
            found = digests.compute(connections, digests.tables(connections[0]), progress)
        if production is not None:
            course.prove(proofs.equal(production, found))
        course.counts = dict(found.counts)
        course.figures |= {"tables": len(found.tables), "rows": found.rows}
        course.prove(fall(course.previous, found.counts, "rows", settings.drills.fall_percent))
        course.prove(proofs.migrated(server, newest=newest))
        for proof in proofs.business(server):
            course.prove(proof)
        progress("proving: visibility maps")
        for proof in proofs.visibility(server):
            course.prove(proof)
        progress("proving: pg_amcheck")
        major = int((server.running.directory / "PG_VERSION").read_text())
        program = programs.directory(settings.postgres, major) / "pg_amcheck"
        course.prove(proofs.amcheck(server, program, jobs))
    course.figures["proof_seconds"] = time.monotonic() - began
