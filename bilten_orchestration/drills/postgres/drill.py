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
from bilten_orchestration.drills.postgres import (
    digests,
    point,
    proofs,
    shipped,
    table,
    tail,
    unchanged,
    ways,
)
from bilten_orchestration.drills.postgres.digests import Digests
from bilten_orchestration.drills.postgres.point import Exact
from bilten_orchestration.drills.postgres.restored import Server, restored
from bilten_orchestration.drills.postgres.unchanged import Unchanged
from bilten_orchestration.errors import Mismatch, Refused
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
        production, kept = _production(settings, exact, place, course, progress)
    at = exact.point
    course.figures |= {
        "point_wait_seconds": at.wait_seconds,
        "writers_locked_out_seconds": at.lock_seconds,
        "digest_bytes": production.bytes,
        "digest_seconds": production.seconds,
        "digest_bytes_per_second": production.bytes_per_second,
        "digest_seconds_per_100_gb": production.seconds_per_100_gb,
        "unlogged_tables": len(production.unlogged),
        "unchanged_tables": len(kept.tables),
        "unchanged_bytes": sum(table.bytes for table in exact.tables if table.label in kept.tables),
    }
    with course.phase("wal"):
        course.figures["wal_wait_seconds"] = course.figures.get("wal_wait_seconds", 0.0) + shipped.wait(
            settings, at, progress
        )
    target = Target("lsn", at.lsn, timeline=at.timeline, inclusive=False)
    course.ordered()
    with restored(settings, target, place / "exact", course, bucket="first", progress=progress) as server:
        _prove(settings, server, course, production=production, kept=kept, newest=True, progress=progress)


def _production(
    settings: Settings, exact: Exact, place: Path, course: Course, progress: Progress
) -> tuple[Digests, Unchanged]:
    """Digests at the point: of what may have changed since the drill before they are computed, of the rest
    they are that drill's. The snapshot is open until both are known."""
    with course.phase("digests"):
        facts = unchanged.facts(exact.readers[0])
        kept = unchanged.unchanged(settings, exact.point, facts, course.previous_seen)
        read = [table for table in exact.tables if table.label not in kept.tables]
        parts = [digests.compute(exact.readers, read, progress)]
    if kept.tables:
        with course.phase("wal"):
            # the same wait as of every drill, only with the snapshot open: bounded by its own setting
            course.figures["wal_wait_seconds"] = shipped.wait(settings, exact.point, progress)
        with course.phase("tail"):
            again = _behind(settings, exact, kept, place / "tail", progress)
        if again:
            with course.phase("digests"):
                late = [table for table in exact.tables if table.label in again]
                parts.append(digests.compute(exact.readers, late, progress))
            kept = kept.without(again)
    progress(f"digests: {len(kept.tables)} of {len(exact.tables)} tables unchanged" + _because(kept))
    made = digests.together(exact.tables, parts, kept.digests)
    course.seen = unchanged.seen(exact.point, facts, made.tables, kept)
    return made, kept


def _behind(
    settings: Settings, exact: Exact, kept: Unchanged, place: Path, progress: Progress
) -> tuple[str, ...]:
    """Those that changed behind the newest summary; all of them where that cannot be told."""
    major = exact.readers[0].info.server_version // 10_000
    try:
        named = tail.changed(settings, exact.point, kept.until, major, place, progress)
    except (Mismatch, Refused) as error:
        progress(f"every table is read: {error.problems[0].what} ({error.problems[0].found})")
        return tuple(kept.tables)
    except OSError as error:
        progress(f"every table is read: {place} cannot be written ({error.strerror})")
        return tuple(kept.tables)
    still = unchanged.still(kept.tables, named)
    return tuple(label for label in kept.tables if label not in still)


def _because(kept: Unchanged) -> str:
    return f": {kept.why}" if not kept.tables and kept.why else ""


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
        _prove(
            settings,
            server,
            course,
            production=None,
            kept=Unchanged(),
            newest=chosen.newest,
            progress=progress,
        )


def _prove(
    settings: Settings,
    server: Server,
    course: Course,
    *,
    production: Digests | None,
    kept: Unchanged,
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
            course.prove(proofs.equal(production, found, kept))
        course.counts = dict(found.counts)
        course.figures |= {"tables": len(found.tables), "rows": found.rows}
        course.prove(fall(course.previous, found.counts, "rows", settings.drills.fall_percent))
        course.prove(proofs.migrated(server, newest=newest))
        for proof in proofs.business(server, newest=newest):
            course.prove(proof)
        progress("proving: visibility maps")
        for proof in proofs.visibility(server):
            course.prove(proof)
        progress("proving: pg_amcheck")
        major = int((server.running.directory / "PG_VERSION").read_text())
        program = programs.directory(settings.postgres, major) / "pg_amcheck"
        course.prove(proofs.amcheck(server, program, jobs))
    course.figures["proof_seconds"] = time.monotonic() - began
