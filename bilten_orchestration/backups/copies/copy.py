"""The second bucket: a repository of its own, and a copy of the application's files.

A backup is copied in this order, so that the copy never lists one that it does not hold whole:

    1. its objects, side by side, each streamed and hashed on the way; where the digest is not the one in the
       signed manifest the upload is given up, and there is no object
    2. its manifest, once every object is there, and its parent's manifest too
    3. its marks

What a kill leaves: objects without a manifest, which the next run finds and does not copy again. An object
is there as one PUT, or as an upload in parts that was completed; its bytes were hashed as they were read, and
the second store compared the MD5 of every body and part that it was sent. So present with the right size is
verified, and nothing has to be remembered. What rots later is found by reading again (Reread).

Nothing is ever overwritten. What lies there with other bytes is a problem that people solve. What retention
has marked as expired is not copied; the copy's own retention never runs beside this (lock.py).

An archive of a partition likewise: its objects, and its document once all of them are there.

WAL goes first, and again every minute while a large backup is copied: the copy's RPO hangs on it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from bilten_orchestration.backups import lock
from bilten_orchestration.backups.copies import files as application_files
from bilten_orchestration.backups.copies import plan
from bilten_orchestration.backups.copies.checked_copy import copy_object, sha256_of, side_by_side
from bilten_orchestration.backups.copies.files import FilesReport
from bilten_orchestration.backups.copies.plan import Batch, Comparison, Lag, Piece, Reread
from bilten_orchestration.backups.repository import catalogue
from bilten_orchestration.backups.repository.bucket import Repository
from bilten_orchestration.backups.repository.manifest import read_manifest
from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.errors import BiltenError, Mismatch, Problem
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import Settings

_WAL_EVERY_SECONDS = 60
_TOLD_EVERY_SECONDS = 2
_AT_A_TIME = 64


@dataclass(frozen=True, slots=True)
class CopyReport:
    """What one run did. `present_*` was there before; `lag` is what is left, the application's files too."""

    bucket: str
    copied_objects: int
    copied_bytes: int
    present_objects: int
    present_bytes: int
    reread_objects: int
    reread_bytes: int
    lag: Lag
    files: FilesReport | None
    seconds: float
    problems: tuple[Problem, ...]


def copy(settings: Settings, *, deep: bool = False, progress: Progress = silent) -> CopyReport:
    """Bring the second bucket to what the first one holds. `deep` reads again all that is there.

    Objects that cannot be copied are in the report. Raises LockHeld, StoreUnavailable and AccessRefused (of
    either store): what was copied until then stays, and the next run goes on there.
    """
    began = time.monotonic()
    with (
        lock.held(settings, "copies", progress),
        Opened.of(settings, new=False, progress=progress) as first,
        Opened.of(settings, new=False, bucket="copy", progress=progress) as second,
    ):
        now = datetime.now(UTC)
        reread = Reread(settings.backups.copy_reread_days, now, deep)
        found = plan.compare(first.repository, second.repository, first.ring, reread)
        run = _Run(first, second, found, settings.backups.copies_at_once, progress)
        run.all()
        files, problems = _files(settings, second.repository, reread, progress)
        left = Lag.of(run.left.values(), datetime.now(UTC))
        if files is not None:
            left = Lag(
                left.objects + files.lag.objects,
                left.bytes + files.lag.bytes,
                max(left.seconds, files.lag.seconds),
            )
        return CopyReport(
            second.repository.bucket,
            run.objects,
            run.bytes,
            found.present_objects,
            found.present_bytes,
            run.reread_objects,
            run.reread_bytes,
            left,
            files,
            time.monotonic() - began,
            (*found.problems, *run.problems, *problems),
        )


def examine(settings: Settings) -> Comparison:
    """What is not copied, by two listings. Raises as `copy`."""
    with (
        Opened.of(settings, new=False) as first,
        Opened.of(settings, new=False, bucket="copy") as second,
    ):
        nothing = Reread(0, datetime.now(UTC))
        return plan.compare(first.repository, second.repository, first.ring, nothing)


def copied(settings: Settings) -> frozenset[str]:
    """Ids of the backups that the second bucket lists: each of them was copied whole. Raises as `copy`."""
    with Opened.of(settings, new=False, bucket="copy") as second:
        return plan.listed_in(each.name for each in second.repository.list(f"{catalogue.ROOT}/"))


def _files(
    settings: Settings, second: Repository, reread: Reread, progress: Progress
) -> tuple[FilesReport | None, tuple[Problem, ...]]:
    """Backups are copied also while PostgreSQL, which knows the files, is away: then that is a problem."""
    try:
        files = application_files.copy(settings, second, reread, progress)
    except BiltenError as error:
        return None, tuple(
            Problem(
                f"the application's files were not copied: {each.what}", each.expected, each.found, each.next
            )
            for each in error.problems
        )
    return files, files.problems


class _Run:
    """One run: what it did, and what is left. Counters move under a lock; repositories are shared."""

    def __init__(
        self, first: Opened, second: Opened, found: Comparison, at_once: int, progress: Progress
    ) -> None:
        self._first, self._second, self._ring = first.repository, second.repository, first.ring
        self._found, self._at_once, self._progress = found, at_once, progress
        self._listed = set(found.listed)
        self._given_up, self._guard = threading.Event(), threading.Lock()
        self._wal_at = self._told_at = time.monotonic()
        self.left = {piece.name: piece for piece in found.pieces}
        self.objects = self.bytes = self.reread_objects = self.reread_bytes = 0
        self.problems: list[Problem] = []

    def all(self) -> None:
        if self.left:
            lag = Lag.of(self.left.values(), datetime.now(UTC))
            self._progress(f"{lag.objects:,} objects to copy, {lag.bytes >> 20:,} MiB")
        self._side_by_side(self._found.loose, self._one)
        for pieces in self._found.archives:
            self._archive(pieces)
        for batch in self._found.batches:
            self._batch(batch)
        self._side_by_side(self._found.due, self._again)

    def _archive(self, pieces: tuple[Piece, ...]) -> None:
        """Its document is the last piece, and what makes it an archive there too."""
        *objects, last = pieces
        self._side_by_side(objects, self._one)
        if not any(piece.name in self.left for piece in objects):
            self._one(last)
        self._wal()

    def _batch(self, batch: Batch) -> None:
        for at in range(0, len(batch.objects), _AT_A_TIME):
            self._side_by_side(batch.objects[at : at + _AT_A_TIME], self._one)
            self._wal()
        manifest = batch.manifest
        whole = not any(piece.name in self.left for piece in batch.objects)
        if not whole or (manifest.parent is not None and manifest.parent not in self._listed):
            return
        # marks say something of a manifest, which comes first
        if all(self._document(piece) for piece in batch.documents):
            self._listed.add(manifest.id)

    def _document(self, piece: Piece) -> bool:
        """A manifest or mark; one that is gone in the first bucket belongs to a backup that just expired."""
        try:
            body = self._first.read_small(piece.name)
            if piece.name.endswith("/manifest.json"):
                read_manifest(body, piece.name, self._ring)
            self._second.write_small(piece.name, body)
        except Mismatch as error:
            self._failed(piece, error)
            return False
        self._done(piece)
        return True

    def _wal(self) -> None:
        if time.monotonic() - self._wal_at < _WAL_EVERY_SECONDS:
            return
        pieces = plan.missing_below(self._first, self._second, "wal/")
        new = [piece for piece in pieces if piece.name not in self.left]  # the others failed already
        self.left |= {piece.name: piece for piece in new}
        self._side_by_side(new, self._one)
        self._wal_at = time.monotonic()

    def _side_by_side(self, pieces: Iterable[Piece], work: Callable[[Piece], None]) -> None:
        side_by_side(pieces, work, self._at_once, self._given_up)

    def _one(self, piece: Piece) -> None:
        try:
            copy_object(
                self._first,
                piece.name,
                self._second,
                piece.name,
                piece.bytes,
                piece.sha256,
                self._given_up,
            )
        except Mismatch as error:
            if not self._is_there(piece):
                self._failed(piece, error)
                return
        self._done(piece)

    def _is_there(self, piece: Piece) -> bool:
        """The stream of WAL brings what it ships to both buckets: between the listing and the copy."""
        found = self._second.find(piece.name)
        if found is None or found.bytes != piece.bytes:
            return False
        try:
            return sha256_of(self._second, piece.name) == (piece.sha256 or sha256_of(self._first, piece.name))
        except Mismatch:
            return False

    def _again(self, piece: Piece) -> None:
        try:
            wanted = piece.sha256 or sha256_of(self._first, piece.name)
            found = sha256_of(self._second, piece.name)
        except Mismatch as error:
            self._failed(piece, error)
            return
        with self._guard:
            self.reread_objects += 1
            self.reread_bytes += piece.bytes
            if found != wanted:
                self.problems.append(plan.other(piece.name, f"SHA-256 {wanted}", found))

    def _failed(self, piece: Piece, error: Mismatch) -> None:
        gone = self._first.find(piece.name) is None
        with self._guard:
            if gone and self._expired(piece):
                self.left.pop(piece.name, None)
            else:
                self.problems.extend(error.problems)

    def _expired(self, piece: Piece) -> bool:
        """Retention removed it meanwhile: WAL by itself, the rest of a backup after its manifest."""
        kind, *parts = piece.name.split("/")
        if kind not in ("objects", catalogue.ROOT) or len(parts) < 2:
            return True
        return self._first.find(f"{catalogue.ROOT}/{parts[0]}/{parts[1]}/manifest.json") is None

    def _done(self, piece: Piece) -> None:
        with self._guard:
            self.left.pop(piece.name, None)
            self.objects += 1
            self.bytes += piece.bytes
            if time.monotonic() - self._told_at > _TOLD_EVERY_SECONDS:
                self._told_at = time.monotonic()
                self._progress(f"{self.objects:,} objects copied, {self.bytes >> 20:,} MiB")
