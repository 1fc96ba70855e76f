"""Retention carried out: what rules.py decided is removed, from each bucket by what that bucket holds.

For each store and bucket, under the lock that keeps backups of the store (of the second bucket: copies) away:

    1. listings are read, and it is decided           nothing; a store with documents that cannot be believed
                                                      is left alone whole
    2. journal/prune/<time>-... says what and why     a journal of what was not done; next run decides anew
    3. a backup gets the mark `expired`               a backup that is listed, whole and restorable, and no
                                                      parent any more
    4. its manifest is removed                        no backup any more; the mark tells the next run that the
                                                      rest may go at once (case 14)
    5. its objects, its marks, that mark last         the same
    6. WAL goes, oldest first; leftovers; old         less to do for the next run
       journals; uploads

The right-hand side is what a kill at that step leaves. Backups that build on others go before these. Right
before a removal it is asked again whether what was decided on is still what is there.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from bilten_orchestration.backups import lock, plan
from bilten_orchestration.backups.repository import catalogue
from bilten_orchestration.backups.repository.bucket import Listed, Repository
from bilten_orchestration.backups.repository.catalogue import Backup
from bilten_orchestration.backups.repository.manifest import Mark, Store, seal
from bilten_orchestration.backups.repository.opened import Bucket, Opened
from bilten_orchestration.backups.retention import replayable
from bilten_orchestration.backups.retention.orphans import Orphan, order, orphans
from bilten_orchestration.backups.retention.rules import (
    Decision,
    Rules,
    WalObject,
    chain_first,
    decide,
    decide_journals,
)
from bilten_orchestration.backups.wal import archive, positions
from bilten_orchestration.errors import Problem, TransientError
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import Settings

_TOLD_EVERY_SECONDS = 2
_JOURNAL = "journal/prune"


@dataclass(frozen=True, slots=True)
class Line:
    """One line for people: a backup, or the objects of WAL or journals that share a reason. `number` of
    them."""

    bucket: str
    store: str
    subject: str
    name: str
    action: str
    case: int
    reason: str
    number: int
    bytes: int


@dataclass(frozen=True, slots=True)
class PruneReport:
    """`lines` of what goes and stays; `removed_*` is 0 in a preview. `reach_minutes_lost` is how much less
    time can be restored to in the first bucket, outside the promised window only."""

    executed: bool
    lines: tuple[Line, ...]
    backups_going: int
    wal_objects_going: int
    bytes_going: int
    removed_objects: int
    removed_bytes: int
    reach_minutes: float
    reach_minutes_lost: float
    seconds: float
    problems: tuple[Problem, ...]


def prune(settings: Settings, *, execute: bool = False, by: str, progress: Progress = silent) -> PruneReport:
    """Decide, and with `execute` remove. `by` goes into marks and journal: the command or the run.

    A store that cannot be judged is in the report's problems, and everything of it stays. Raises, after
    everything else was done, LockHeld when a backup or a copy takes too long and StoreUnavailable when a
    bucket is away (a preview has them among its problems); AccessRefused.
    """
    began = time.monotonic()
    done = _Done(execute, by, progress)
    passing: list[TransientError] = []
    turns: list[tuple[Bucket, Store | Literal["copies"], tuple[Store, ...]]] = [
        *(("first", store, (store,)) for store in plan.stores()),
        ("copy", "copies", plan.stores()),
    ]
    for bucket, name, stores in turns:
        locked = lock.held(settings, name, progress) if execute else nullcontext()
        try:
            with locked, Opened.of(settings, new=False, bucket=bucket) as opened:
                for store in stores:
                    _one(settings, opened, bucket, store, done)
                if execute and store == plan.stores()[-1]:
                    done.abort(opened.repository, timedelta(hours=settings.backups.orphan_grace_hours))
        except TransientError as error:
            passing.append(error)
    if passing and execute:
        raise type(passing[0])([problem for error in passing for problem in error.problems])
    done.problems += [problem for error in passing for problem in error.problems]
    return PruneReport(
        execute,
        tuple(done.lines),
        done.going["backup"],
        done.going["wal"],
        done.bytes_going,
        done.objects,
        done.bytes,
        round(done.reach, 1),
        round(done.reach_lost, 1),
        time.monotonic() - began,
        tuple(done.problems),
    )


def rules(segment_bytes: int = positions.SEGMENT_BYTES) -> Rules:
    """Those of the deployment: times from plan.py."""
    kept: dict[tuple[str, str], timedelta] = {
        (planned.store, planned.kind): planned.kept for planned in plan.PLANNED
    }
    return Rules(kept, segment_bytes=segment_bytes)


def wal_objects(opened: Opened, problems: list[Problem]) -> tuple[list[WalObject], int]:
    """Stored segments, and how large one is; timeline histories are none and stay.

    What cannot be believed, and servers of different segment sizes, are added to `problems`.
    """
    servers = archive.servers(opened.repository)
    sizes = sorted({size for _, size in servers}) or [positions.SEGMENT_BYTES]
    if len(sizes) > 1:
        problems.append(
            Problem(
                f"{opened.repository.bucket} holds WAL in segments of several sizes",
                expected="one size",
                found=", ".join(f"{size >> 20} MiB" for size in sizes),
                next="move what is of an older server away, below another prefix",
            )
        )
    found = [
        WalObject(piece.timeline, piece.file, piece.end_offset, piece.name, piece.bytes, piece.written_at)
        for identifier, size in servers
        for piece in archive.Archive(opened.repository, opened.cipher, identifier, size).pieces(
            problems=problems
        )
        if piece.is_segment and piece.written_at is not None
    ]
    return found, sizes[0]


class _Done:
    """What one run found and did."""

    def __init__(self, execute: bool, by: str, progress: Progress) -> None:
        self.execute, self.by, self.progress = execute, by, progress
        self.lines: list[Line] = []
        self.problems: list[Problem] = []
        self.going: Counter[str] = Counter()
        self.objects = self.bytes = self.bytes_going = 0
        self.reach = self.reach_lost = 0.0
        self._told_at = time.monotonic()

    def removed(self, size: int) -> None:
        self.objects += 1
        self.bytes += size
        if time.monotonic() - self._told_at > _TOLD_EVERY_SECONDS:
            self._told_at = time.monotonic()
            self.progress(f"{self.objects:,} objects removed, {self.bytes >> 20:,} MiB")

    def abort(self, repository: Repository, grace: timedelta) -> None:
        now = repository.clock()
        old = [each for each in repository.unfinished() if now - each.begun_at > grace]
        for upload in old:
            repository.abort(upload)
            self.progress(f"gave up the upload of {upload.name}, begun {upload.begun_at:%F %H:%M}")


def _one(settings: Settings, opened: Opened, bucket: Bucket, store: Store, done: _Done) -> None:
    repository, ring = opened.repository, opened.ring
    found = catalogue.read(repository, ring, store)
    problems = list(found.problems)
    wal, segment_bytes = (
        wal_objects(opened, problems) if store == "postgres" else ([], positions.SEGMENT_BYTES)
    )
    if problems:
        done.problems.append(
            Problem(
                f"nothing of {store} is removed from {repository.bucket}",
                expected="a catalogue and WAL without anything that cannot be believed",
                found="; ".join(problem.what for problem in problems[:3]),
                next="bilten backup list and bilten wal audit name them all",
            )
        )
        return
    now, clock, applied = datetime.now(UTC), repository.clock(), rules(segment_bytes)
    journals = list(repository.list(f"{_JOURNAL}/"))
    decisions = (
        *decide(found.backups, wal, applied, now, clock),
        *decide_journals(store, journals, found.backups, applied, now, clock),
    )
    if problem := _implausible(found.backups, now, clock, applied, repository.bucket, store):
        done.problems.append(problem)
    left: tuple[Orphan, ...] = ()
    if abs(now - clock) <= applied.apart:
        left = _orphans(settings, opened, store, found.backups, clock)
    done.lines.extend(_lines(bucket, store, decisions, left))
    going = [each for each in decisions if each.goes]
    going_left = [each for each in left if each.goes]
    done.going.update(each.subject for each in going)
    done.bytes_going += sum(each.bytes for each in going) + sum(each.bytes for each in going_left)
    if store == "postgres" and bucket == "first":
        _reach(found.backups, wal, decisions, applied, done)
    if not done.execute or not (going or going_left):
        return
    body = {
        "at": now.isoformat(),
        "by": done.by,
        "bucket": repository.bucket,
        "store": store,
        "removed": [asdict(each) for each in going],
        "left_behind": [asdict(each) for each in going_left],
    }
    name = f"{_JOURNAL}/{now:%Y%m%dT%H%M%S%fZ}-{store}-{bucket}.json"
    repository.write_small(name, seal("prune", body, ring, ring.current))
    backups = {backup.manifest.id: backup for backup in found.backups}
    for decision in chain_first(going, {name: backup.manifest for name, backup in backups.items()}):
        _expire(opened, backups[decision.name], decision, done)
    _remove_wal(repository, wal, {each.name for each in going if each.subject == "wal"}, done)
    for orphan in going_left:
        _sweep(repository, orphan, done)
    old = {each.name for each in going if each.subject == "journal"}
    _remove_all(repository, (each for each in journals if each.name in old), done)


def _implausible(
    backups: tuple[Backup, ...], now: datetime, clock: datetime, applied: Rules, bucket: str, store: str
) -> Problem | None:
    if abs(now - clock) > applied.apart:
        return Problem(
            f"nothing is removed from {bucket}: this machine and the object store do not agree on the time",
            expected=f"{clock:%F %T} UTC, as the store says",
            found=f"{now:%F %T} UTC",
            next="correct the clock of this machine",
        )
    newest = max((backup.manifest.finished_at for backup in backups), default=None)
    limit = max(applied.silence, *(each.within for each in plan.PLANNED if each.store == store))
    if newest is None or now - newest <= limit:
        return None
    return Problem(
        f"the newest backup of {store} in {bucket} is old: the time since then makes nothing older",
        expected=f"one of the last {limit}",
        found=f"{newest:%F %H:%M} UTC",
        next="see why none is taken (bilten backup list), or correct the clock of this machine",
    )


def _orphans(
    settings: Settings, opened: Opened, store: Store, backups: Iterable[Backup], clock: datetime
) -> tuple[Orphan, ...]:
    repository = opened.repository
    listed = {backup.manifest.id for backup in backups}

    def listing() -> Iterator[Listed]:
        for root in ("objects", catalogue.ROOT):
            yield from (each for each in repository.list(f"{root}/{store}/") if each.name.count("/") > 2)

    names = [each.name for each in repository.list(f"{catalogue.ROOT}/{store}/")]
    expired = {
        mark.backup
        for mark in catalogue.marks_without_manifest(repository, opened.ring, names)
        if mark.name == "expired"
    }
    grace = timedelta(hours=settings.backups.orphan_grace_hours)
    return orphans(listing(), listed, expired, clock, grace)


def _lines(
    bucket: Bucket, store: Store, decisions: Iterable[Decision], left: Iterable[Orphan]
) -> Iterator[Line]:
    objects: dict[tuple[str, str, bool, int, str], list[Decision]] = {}
    for each in decisions:
        if each.subject == "backup":
            action = "expire" if each.goes else "keep"
            yield Line(bucket, store, "backup", each.name, action, each.case, each.reason, 1, each.bytes)
        else:
            place = each.name.rpartition("/")[0]
            objects.setdefault((each.subject, place, each.goes, each.case, each.reason), []).append(each)
    for (subject, place, goes, case, reason), of_it in objects.items():
        ends = [each.name.rpartition("/")[2].partition(".")[0] for each in of_it]
        name = f"{place}/{min(ends)}" + (f" to {max(ends)}" if len(set(ends)) > 1 else "")
        size = sum(each.bytes for each in of_it)
        yield Line(bucket, store, subject, name, "remove" if goes else "keep", case, reason, len(of_it), size)
    for orphan in left:
        action = "remove" if orphan.goes else "keep"
        yield Line(
            bucket,
            store,
            "leftover",
            orphan.backup,
            action,
            orphan.case,
            orphan.reason,
            len(orphan.names),
            orphan.bytes,
        )


def _reach(
    backups: tuple[Backup, ...],
    wal: list[WalObject],
    decisions: Iterable[Decision],
    applied: Rules,
    done: _Done,
) -> None:
    gone = {each.name for each in decisions if each.goes}
    manifests = [backup.manifest for backup in backups]
    done.reach = replayable.minutes(manifests, wal, applied.segment_bytes)
    done.reach_lost = done.reach - replayable.minutes(
        [each for each in manifests if each.id not in gone],
        [each for each in wal if each.name not in gone],
        applied.segment_bytes,
    )


def _expire(opened: Opened, backup: Backup, decision: Decision, done: _Done) -> None:
    """Steps 3 to 5. What changed since it was decided (a drill passed) makes it stay."""
    repository, manifest = opened.repository, backup.manifest
    now = catalogue.read_one(repository, opened.ring, manifest.store, manifest.id)
    if now != backup:
        done.progress(f"{manifest.id} stays: it changed while this ran")
        return
    done.progress(f"{manifest.id}: {decision.reason}")
    if backup.state != "expired":
        details = {"case": str(decision.case), "reason": decision.reason}
        found = Mark(manifest.id, "expired", datetime.now(UTC), done.by, details)
        catalogue.mark(repository, opened.ring, manifest, found)
    place = catalogue.place_of(manifest.store, manifest.id)
    repository.remove(f"{place}/manifest.json")
    done.removed(0)
    _remove_all(
        repository,
        (
            each
            for prefix in (f"objects/{manifest.store}/{manifest.id}/", f"{place}/")
            for each in sorted(repository.list(prefix), key=lambda each: order(each.name))
        ),
        done,
    )


def _remove_all(repository: Repository, listed: Iterable[Listed], done: _Done) -> None:
    for each in listed:
        repository.remove(each.name)
        done.removed(each.bytes)


def _remove_wal(repository: Repository, wal: list[WalObject], names: set[str], done: _Done) -> None:
    going = sorted(
        (each for each in wal if each.name in names), key=lambda each: (each.segment, each.end_offset)
    )
    for each in going:
        there = repository.find(each.name)
        if there is not None and there.bytes == each.bytes:
            repository.remove(each.name)
            done.removed(each.bytes)


def _sweep(repository: Repository, orphan: Orphan, done: _Done) -> None:
    if repository.find(f"{catalogue.ROOT}/{orphan.store}/{orphan.backup}/manifest.json") is not None:
        done.progress(f"{orphan.backup} has a manifest by now, and stays")
        return
    done.progress(f"{orphan.backup}: {orphan.reason}")
    for name in orphan.names:
        repository.remove(name)
        done.removed(0)
    done.bytes += orphan.bytes
