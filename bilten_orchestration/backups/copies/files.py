"""The application's files: every object that PostgreSQL's table assets.files names, copied and checked.

The application may replace an object under its key, and the copy never overwrites: so a copy is named by its
content, assets/<xx>/<sha256>. A row of a restored database, of whatever moment, names its object by digest.
Copies are never removed, for any moment that can be restored may still name them.

Table and listings are read side by side in the same order, so memory does not grow with them. The table is
read before anything is copied: no snapshot is held while objects move.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bilten_orchestration.backups.copies.checked_copy import copy_object, sha256_of, side_by_side
from bilten_orchestration.backups.copies.plan import Lag, Piece, Reread
from bilten_orchestration.backups.repository.bucket import Listed, Repository
from bilten_orchestration.errors import Mismatch, Problem
from bilten_orchestration.progress import Progress
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import object_store, postgres
from bilten_orchestration.stores.driver_errors import translated

if TYPE_CHECKING:
    from bilten_orchestration.stores.postgres import Connection

ROOT = "assets"
_AT_ONE_RUN = 50_000
_NAMED = 50
_ROWS = 2_000
# a row may be committed before its object is put, or the other way round
_SETTLED = "updated_at < now() - interval '10 minutes'"
_LIVING = f"from assets.files where deleted_at is null and {_SETTLED}"


@dataclass(frozen=True, slots=True)
class FilesReport:
    """`files` are living rows of the table. `bad` of them have no object, or one that is not what the row
    says; the first of those are `problems`."""

    files: int
    bad: int
    copied_objects: int
    copied_bytes: int
    reread_objects: int
    lag: Lag
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class _File:
    bucket: str
    key: str
    sha256: str
    bytes: int
    written_at: datetime

    @property
    def name(self) -> str:
        return f"{ROOT}/{self.sha256[:2]}/{self.sha256}"


def copy(settings: Settings, second: Repository, reread: Reread, progress: Progress) -> FilesReport:
    """Raises StoreUnavailable and AccessRefused; what is wrong with single files is in the report."""
    client = object_store.connect(settings.object_store)
    try:
        with translated("reading assets.files"):
            found = _Found(reread)
            with postgres.connect(settings.postgres, application_name="bilten backup copy") as connection:
                if _there(connection):
                    buckets = connection.execute(f"select distinct bucket {_LIVING}").fetchall()
                    for (bucket,) in buckets:
                        found.check(_by_key(connection, bucket), Repository(client, bucket).list(""))
                    found.compare(_by_content(connection), second.list(f"{ROOT}/"))
        if found.missing:
            progress(f"{len(found.missing):,} files of the application to copy")
        for each in found.due:
            found.read_again(second, each)

        def one(file: _File) -> None:
            found.copied(file, Repository(client, file.bucket), second)

        side_by_side(found.missing, one, settings.backups.copies_at_once, found.given_up)
    finally:
        client.close()
    left = [Piece(file.name, file.bytes, file.written_at) for file in found.left.values()]
    return FilesReport(
        found.files,
        len(found.bad),
        found.objects,
        found.bytes,
        found.reread,
        Lag.of(left, datetime.now(UTC)),
        tuple(found.problems),
    )


def _there(connection: Connection) -> bool:
    row = connection.execute("select to_regclass('assets.files') is not null").fetchone()
    return row is not None and bool(row[0])


def _rows(connection: Connection, order: str, condition: str, *values: str) -> Iterator[_File]:
    """Through a cursor of the server, a few thousand at a time."""
    with connection.cursor(name=f"files_{order.partition(' ')[0]}") as cursor:
        cursor.itersize = _ROWS
        cursor.execute(
            f"select bucket, object_key, sha256, size, updated_at {_LIVING} and {condition} order by {order}",
            values,
        )
        for bucket, key, sha256, size, updated_at in cursor:
            yield _File(bucket, key, sha256, size, updated_at)


def _by_key(connection: Connection, bucket: str) -> Iterator[_File]:
    # the order of an S3 listing is that of the bytes
    return _rows(connection, 'object_key collate "C"', "bucket = %s", bucket)


def _by_content(connection: Connection) -> Iterator[_File]:
    return _rows(connection, 'sha256 collate "C"', "true")


class _Found:
    def __init__(self, reread: Reread) -> None:
        self._reread, self._guard, self.given_up = reread, threading.Lock(), threading.Event()
        self.files = self.objects = self.bytes = self.reread = 0
        self.bad: set[tuple[str, str]] = set()
        self.missing: list[_File] = []
        self.left: dict[str, _File] = {}
        self.due: list[_File] = []
        self.problems: list[Problem] = []

    def check(self, files: Iterator[_File], listing: Iterator[Listed]) -> None:
        """Whether each row has its object, by one listing."""
        there: Listed | None = None
        for file in files:
            self.files += 1
            while there is None or there.name < file.key:
                there = next(listing, None)
                if there is None:
                    break
            if there is None or there.name != file.key:
                self._bad(file, "an object", "none")
            elif there.bytes != file.bytes:
                self._bad(file, f"{file.bytes} bytes", f"{there.bytes} bytes")

    def compare(self, files: Iterator[_File], copies: Iterator[Listed]) -> None:
        """What the copy lacks of them."""
        copy = next(copies, None)
        before = ""
        for file in files:
            while copy is not None and copy.name < file.name:
                copy = next(copies, None)
            if file.sha256 == before or (file.bucket, file.key) in self.bad:
                continue
            before = file.sha256
            if copy is None or copy.name != file.name:
                self.left[file.name] = file
                if len(self.missing) < _AT_ONE_RUN:
                    self.missing.append(file)
            elif self._reread.due(file.name):
                self.due.append(file)

    def copied(self, file: _File, source: Repository, second: Repository) -> None:
        try:
            copy_object(source, file.key, second, file.name, file.bytes, file.sha256, self.given_up)
        except Mismatch as error:
            with self._guard:
                self._bad(file, error.problems[0].expected, error.problems[0].found)
        else:
            with self._guard:
                self.objects += 1
                self.bytes += file.bytes
                self.left.pop(file.name, None)

    def read_again(self, second: Repository, file: _File) -> None:
        found = sha256_of(second, file.name)
        self.reread += 1
        if found != file.sha256:
            self._bad(file, f"a copy with SHA-256 {file.sha256}", found)

    def _bad(self, file: _File, expected: str, found: str) -> None:
        self.bad.add((file.bucket, file.key))
        if len(self.problems) < _NAMED:
            self.problems.append(
                Problem(
                    f"the application's file {file.bucket}/{file.key} is not what assets.files says",
                    expected,
                    found,
                    "upload it again or correct its row; where it was overwritten the second bucket may have"
                    f" it as {file.name}",
                )
            )
