"""Drills that are held, each from its order to its attestation.

run.py is the door, and says what a kill leaves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from uuid import uuid4

from bilten_orchestration.backups import scratch
from bilten_orchestration.backups.repository import catalogue
from bilten_orchestration.backups.repository.catalogue import Backup, Catalogue
from bilten_orchestration.backups.repository.manifest import Mark
from bilten_orchestration.backups.repository.opened import Bucket, Opened
from bilten_orchestration.drills import attestation, chain, clocks, plan
from bilten_orchestration.drills.course import Course
from bilten_orchestration.drills.outcome import defect, killed, told, unproven
from bilten_orchestration.drills.plan import Drilled, Walked, Way
from bilten_orchestration.drills.record import Record
from bilten_orchestration.drills.report import DrillReport, Seen
from bilten_orchestration.drills.rpo import exposure
from bilten_orchestration.errors import BiltenError, Problem
from bilten_orchestration.local.privileges import passable_directory
from bilten_orchestration.progress import Progress
from bilten_orchestration.settings import Settings

# of the chain: far more than the ways of eight days
_REMEMBERED = 64


@dataclass
class Held:
    """Drills of one store, one after the other, by who holds its lock and its `place`."""

    settings: Settings
    store: Drilled
    place: Path
    opened: Opened
    record: Record
    run: str | None
    progress: Progress
    walked: dict[str, Walked] = field(default_factory=dict)
    counts: dict[str, Mapping[str, int]] = field(default_factory=dict)
    seen: Seen | None = None

    def remember(self) -> None:
        """Read the chain, and put in order what a kill, or an absence of PostgreSQL, left behind."""
        with Opened.of(self.settings, new=False, bucket="copy", progress=self.progress) as second:
            back = attestation.bring_back(self.opened.repository, second.repository, self.store)
        if back:
            self.progress(f"{back} attestations that the first bucket lost came back from the second")
        series = attestation.read(self.opened.repository, self.opened.ring, self.store, newest=_REMEMBERED)
        for problem in series.problems:
            self.progress(f"the attestations are not whole: {problem.what}")
        reports = [each.report for each in series.drills]
        for report in reports:
            self._know(report)
        with self._record_may_be_away():
            attested = {report.id for report in reports}
            for begun in self.record.left(self.store):
                if begun.id not in attested:
                    self.progress(f"drill {begun.id} ({begun.way}) did not come to its end: told as failed")
                    reports.append(killed(self.store, begun, clocks.here()))
                    self._know(reports[-1])
                    attestation.append(self.opened.repository, self.opened.ring, reports[-1])
            self.record.end(reports)
        if reports and reports[-1].ok:
            self._mark(reports[-1])
        for problem in self._swept():
            self.progress(f"{problem.what}: {problem.found}")

    def walk(self, way: Way) -> DrillReport:
        source = plan.comes_from(self.store)
        found = catalogue.read(self.opened.repository, self.opened.ring, source)
        skewed = self._clocks(found)
        before = exposure(self.settings, source, found, self.record, self.progress)
        drill, started_at, course = str(uuid4()), clocks.here(), Course()
        course.previous, course.previous_seen = self.counts.get(way.name, {}), self.seen
        self.progress(f"drill of {self.store}, way {way.name}")
        with self._record_may_be_away():
            self.record.begin(drill, self.store, way.name, started_at, self.run)
        problems: tuple[Problem, ...] = ()
        try:
            with course.phase("find"):
                needed = chain.needed_bytes(found, source, newest=way.newest)
            with course.phase("room"):
                chain.refuse_without_room(needed, self.store, self.place)
            _walk(self.settings, way, self.place, course, self.progress)
            problems = unproven(course, way)
        except BiltenError as error:
            problems = error.problems
        except Exception as error:  # noqa: BLE001 told as what it is, and attested: a drill that broke off failed
            problems = (defect(error),)
        torn_down = self._tear_down()
        rpo_seconds = None if skewed else before.seconds(self._bucket_name(course.bucket))
        if skewed and not problems:
            course.failed_phase = clocks.PHASE
        told_once = tuple(dict.fromkeys((*problems, *skewed, *torn_down)))
        report = self._report(drill, way, started_at, course, rpo_seconds, told_once)
        attestation.append(self.opened.repository, self.opened.ring, report)
        if report.ok:
            self._mark(report)
        with self._record_may_be_away():
            self.record.end([report])
        self._know(report)
        self.progress(told(report))
        return report

    def _report(
        self,
        drill: str,
        way: Way,
        started_at: datetime,
        course: Course,
        rpo_seconds: float | None,
        problems: tuple[Problem, ...],
    ) -> DrillReport:
        again = f"bilten drill run {self.store} --way {way.name}"
        return DrillReport(
            id=drill,
            store=self.store,
            way=way.name,
            started_at=started_at,
            finished_at=max(clocks.here(), started_at),
            ok=not problems,
            backups=course.backups,
            bucket=course.bucket,
            reached_at=course.reached_at,
            reached_lsn=course.reached_lsn,
            rpo_seconds=rpo_seconds,
            rto_seconds=course.rto_seconds,
            restored_bytes=course.restored_bytes,
            stored_bytes=course.stored_bytes,
            phases=dict(course.phases),
            proofs=tuple(course.proofs),
            failed_phase=(course.failed_phase or "proof") if problems else None,
            problems=tuple(
                Problem(each.what, each.expected, each.found, each.next or again) for each in problems
            ),
            figures=dict(course.figures),
            run=self.run,
            counts=dict(course.counts),
            seen=course.seen,
        )

    def _clocks(self, found: Catalogue) -> tuple[Problem, ...]:
        """What keeps anybody from saying when something was. The way is walked all the same."""
        try:
            return clocks.apart(self.opened.repository, found, self.record)
        except BiltenError as error:
            return error.problems

    def _bucket_name(self, bucket: str | None) -> str:
        """A course may say which of the two, or its name."""
        names = self.settings.object_store
        known = {None: names.bucket_backups, "first": names.bucket_backups, "copy": names.bucket_backups_copy}
        return known.get(bucket) or str(bucket)

    def _know(self, report: DrillReport) -> None:
        self.walked[report.way] = Walked(report.finished_at, report.ok)
        if report.ok:
            self.counts[report.way] = report.counts
            self.seen = report.seen or self.seen

    def _mark(self, report: DrillReport) -> None:
        """On the backups that came back, in the bucket that they came from; said twice it is one mark. What
        PostgreSQL's are worth is said by its own drills alone: search marks none. A mark names its drill, so
        the second bucket has the attestation before it has the mark."""
        if plan.comes_from(self.store) != self.store:
            return
        name = self._bucket_name(report.bucket)
        bucket: Bucket = "copy" if name == self.settings.object_store.bucket_backups_copy else "first"
        with Opened.of(self.settings, new=False, bucket=bucket) as opened:
            if bucket == "copy":
                attestation.carry(self.opened.repository, opened.repository, self.store)
            there = catalogue.read(opened.repository, opened.ring, plan.comes_from(self.store))
            by_id = {backup.manifest.id: backup for backup in there.backups}
            for used in report.backups:
                backup = by_id.get(used)
                if backup is None or _is_marked(backup, report):  # retention may have been here since
                    continue
                details = {attestation.DRILL: report.id, "way": report.way}
                mark = Mark(used, "drilled", report.finished_at, f"drill {report.id}", details)
                catalogue.mark(opened.repository, opened.ring, backup.manifest, mark)

    def _tear_down(self) -> tuple[Problem, ...]:
        """An empty place again, and no index of a drill."""
        swept = self._swept()
        try:
            scratch.clear(self.place, self.progress)
            passable_directory(self.place)
        except OSError as error:
            return (
                Problem(
                    f"{self.place} cannot be emptied",
                    expected="nothing left of a drill",
                    found=f"{error.strerror}: {error.filename}",
                    next="remove it by hand",
                ),
                *swept,
            )
        return swept

    def _swept(self) -> tuple[Problem, ...]:
        """Indices that a drill of search has made are removed, those that a killed one left too."""
        if self.store != "search":
            return ()
        from bilten_orchestration.drills import search

        try:
            search.sweep(self.settings, self.progress)
        except BiltenError as error:
            return error.problems
        return ()

    @contextmanager
    def _record_may_be_away(self) -> Iterator[None]:
        try:
            yield
        except BiltenError as error:
            self.progress(f"system.restore_drills waits for the next drill: {error.problems[0].what}")


def _walk(settings: Settings, way: Way, place: Path, course: Course, progress: Progress) -> None:
    # an engine is imported where its store is asked for: none needs the libraries of the others
    match way.store:
        case "postgres":
            from bilten_orchestration.drills.postgres import drill

            drill.walk(settings, way.name, place, course, progress=progress)
        case "clickhouse":
            from bilten_orchestration.drills import clickhouse

            clickhouse.walk(settings, way.name, place, course, progress=progress)
        case "redis":
            from bilten_orchestration.drills import redis

            redis.walk(settings, way.name, place, course, progress=progress)
        case "search":
            from bilten_orchestration.drills import search

            search.walk(settings, way.name, place, course, progress=progress)


def _is_marked(backup: Backup, report: DrillReport) -> bool:
    return any(mark.details.get(attestation.DRILL) == report.id for mark in backup.marks)
