"""The drill of ClickHouse: the newest backup into an engine of our own, never the live one.

    rows       every object's SHA-256 is compared with the signed manifest before RESTORE, CHECK TABLE reads
               every part after, rows are those that the manifest and the first restore know
    live       each day of each mart that both servers hold from the same build has the same rows in both, and
               the live one has lost none
    agreement  all final days are built anew from a restored PostgreSQL and are again the same (marts.agree):
               the stores agree with each other, and not only each with itself

The last two warn that they prove nothing while a live server does not answer, or nothing can be compared; the
last one also while PostgreSQL cannot be restored to that moment (its own drill says why). A check shows what
warned, and another one goes red when the stores have not agreed for days (promises.py). What a kill leaves:
see run.py; the engine dies with us.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from bilten_orchestration.backups.clickhouse import scratch
from bilten_orchestration.backups.clickhouse.restore import Wanted, restore
from bilten_orchestration.backups.repository import catalogue
from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.drills import marts
from bilten_orchestration.drills.chain import newest_chain
from bilten_orchestration.drills.course import Course
from bilten_orchestration.drills.falls import fall
from bilten_orchestration.drills.promises import AGREED_DAYS
from bilten_orchestration.drills.report import Proof
from bilten_orchestration.errors import BiltenError, Mismatch, Refused, TransientError
from bilten_orchestration.progress import Progress
from bilten_orchestration.settings import ClickHouseSettings, Settings
from bilten_orchestration.stores import clickhouse


def walk(settings: Settings, way: str, place: Path, course: Course, *, progress: Progress) -> None:
    """Fills the course. Raises what the restore raises, Refused without the embedded engine."""
    with ExitStack() as stack:
        with course.phase("find"):
            opened = stack.enter_context(Opened.of(settings, new=False, progress=progress))
            found = catalogue.read(opened.repository, opened.ring, "clickhouse")
            chain = newest_chain(found, "clickhouse")
            backup = chain[-1]
            course.backups = tuple(each.id for each in chain)
            course.bucket = settings.object_store.bucket_backups
            course.reached_at = backup.consistent_at
        with course.phase("start"):
            server = stack.enter_context(scratch.empty(settings, opened.ring, place / "clickhouse", progress))
        with course.phase("restore"):
            report = restore(
                settings, backup.id, Wanted(), target=server, by="bilten drill", progress=progress
            )
        whole = course.phases.pop("restore")
        course.took("check", report.check_seconds)
        course.took("restore", max(0.0, whole - report.check_seconds - report.prove_seconds))
        with course.phase("first_query"), closing(clickhouse.connect(server)) as client:
            client.query("select count() from system.tables where database = 'marts'")
            course.first_query()
        # the restore proves what came back before it returns; it served before that
        assert course.rto_seconds is not None  # noqa: S101
        course.rto_seconds -= report.prove_seconds
        course.restored_bytes = sum(each.raw_bytes for each in chain)
        course.stored_bytes = report.bytes
        course.counts.update(report.rows)
        course.prove(
            Proof(
                "every object is the one that was written, every part is accepted, every row is there",
                report.verified,
                f"the SHA-256 of {report.objects:,} objects, CHECK TABLE, the rows that are known",
                f"the same, {sum(report.rows.values()):,} rows in {len(report.rows)} tables",
                report.check_seconds + report.prove_seconds,
            )
        )
        course.prove(fall(course.previous, course.counts, "rows", settings.drills.fall_percent))
        with course.phase("proof"), _alive(server):
            course.prove(_as_live(settings, server))
        with course.phase("agree"), _alive(server):
            _agree(settings, server, place, course, progress)


@contextmanager
def _alive(server: ClickHouseSettings) -> Iterator[None]:
    """That it came up once proves little: it has to answer until the end. Asked also behind what ended well,
    for a comparison that cannot be made only warns."""
    try:
        yield
    except BiltenError:
        _refuse_silence(server)
        raise
    _refuse_silence(server)


def _refuse_silence(server: ClickHouseSettings) -> None:
    try:
        with closing(clickhouse.connect(server)) as client:
            client.query("select 1")
    except BiltenError as error:
        raise Mismatch(
            "the engine that was restored into ended while it was asked",
            expected="an answer to every query until the end of the drill",
            found=error.problems[0].found or error.problems[0].what,
            next="look for memory that ran out (dmesg); then bilten drill run clickhouse",
        ) from None


def _as_live(settings: Settings, server: ClickHouseSettings) -> Proof:
    """Days that both hold from the same build: whatever was built since is compared by nobody."""
    began = time.monotonic()
    try:
        with closing(clickhouse.connect(settings.clickhouse)) as client:
            live = marts.published(client)
    except BiltenError as error:
        return marts.without_evidence("marts are those of the live server", error, began)
    with closing(clickhouse.connect(server)) as client:
        restored = marts.published(client)
    return judged(restored, live, time.monotonic() - began)


def judged(
    restored: Mapping[marts.Cell, marts.Published], live: Mapping[marts.Cell, marts.Published], seconds: float
) -> Proof:
    """No I/O. A day that was published stays published, so one that the live server has lost is no proof;
    where all were built anew since, nothing is proven either way."""
    lost = sorted(cell for cell in restored if cell not in live)
    same = {cell for cell, day in restored.items() if cell in live and live[cell].build == day.build}
    differ = sorted(cell for cell in same if restored[cell].content != live[cell].content)
    found = marts.told(differ, len(same))
    if lost:
        found = f"{len(lost):,} days of the backup are not in the live server: {marts.named(lost)}; {found}"
    return Proof(
        "marts are those of the live server",
        bool(same) and not differ and not lost,
        f"{len(same):,} days of marts, of the same build in both, with the same rows" if same else "some",
        found if restored else "the backup has no mart",
        seconds,
        warns=not same and not lost,
    )


def _agree(
    settings: Settings, server: ClickHouseSettings, place: Path, course: Course, progress: Progress
) -> None:
    name = "marts built from the restored PostgreSQL are the restored and the live ones"
    began = time.monotonic()
    try:
        with marts.restored_postgres(settings, place / "postgres", progress) as (postgres, reached_at):
            found = marts.agree(
                settings,
                postgres=postgres,
                clickhouse=server,
                home=place / "agree",
                reached_at=reached_at,
                progress=progress,
            )
    except (marts.NothingToCompare, Refused, TransientError) as error:
        course.prove(marts.without_evidence(name, error, began))
        return
    course.figures[AGREED_DAYS] = found.compared
    course.prove(
        Proof(
            name,
            not found.differ and found.compared > 0,
            f"{found.compared:,} final days of marts, the same rows three times",
            marts.told(found.differ, found.compared),
            time.monotonic() - began,
        )
    )
