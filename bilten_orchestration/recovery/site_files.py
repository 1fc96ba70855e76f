"""The application's files, from the second bucket back to where assets.files says that they lie.

A copy is named by its content, and hashed while it is read: where that is not its name the upload is given
up, and nothing lies under its key. An object that is there under its key stays, and is told when it is not of
the size of its row.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from bilten_orchestration.backups.copies.checked_copy import copy_object
from bilten_orchestration.backups.copies.files import ROOT
from bilten_orchestration.backups.repository.bucket import Repository
from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.errors import Mismatch, Problem
from bilten_orchestration.progress import Progress
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import object_store, postgres

_NAMED = 20
_ROWS = 2_000


@dataclass(frozen=True, slots=True)
class FilesBack:
    """Living rows of assets.files: `copied` to their bucket, `present` already, `missing` in the copy too;
    the first of those are `problems`."""

    copied: int
    present: int
    missing: int
    problems: tuple[Problem, ...]


def copy_back(settings: Settings, progress: Progress) -> FilesBack:
    """Raises StoreUnavailable and AccessRefused; what is wrong with single files is in the report."""
    copied = present = missing = 0
    problems: list[Problem] = []
    client = object_store.connect(settings.object_store)
    try:
        with (
            Opened.of(settings, new=False, bucket="copy") as opened,
            postgres.connect(settings.postgres, application_name="bilten recover files") as connection,
            connection.cursor(name="files") as rows,
        ):
            second = opened.repository
            rows.itersize = _ROWS
            rows.execute(
                "select bucket, object_key, sha256, size from assets.files where deleted_at is null"
                " order by bucket, object_key"
            )
            for bucket, key, digest, size in rows:
                target = Repository(client, bucket)
                there = target.find(key)
                if there is not None:
                    present += 1
                    if there.bytes != size:
                        problems += _other(bucket, key, size, there.bytes) if len(problems) < _NAMED else ()
                    continue
                copy = f"{ROOT}/{digest[:2]}/{digest}"
                try:
                    copy_object(second, copy, target, key, size, digest, threading.Event())
                except Mismatch as error:
                    missing += 1
                    problems += _lost(bucket, key, error) if len(problems) < _NAMED else ()
                    continue
                copied += 1
                if copied % 500 == 0:
                    progress(f"{copied:,} files")
    finally:
        client.close()
    return FilesBack(copied, present, missing, tuple(problems))


def _other(bucket: str, key: str, expected: int, found: int) -> tuple[Problem, ...]:
    return (
        Problem(
            f"{bucket}/{key} is there, and is not what its row says",
            expected=f"{expected:,} bytes",
            found=f"{found:,} bytes",
            next="it stays; remove it and run this again when the copy is wanted",
        ),
    )


def _lost(bucket: str, key: str, error: Mismatch) -> tuple[Problem, ...]:
    (problem,) = error.problems
    return (
        Problem(
            f"{bucket}/{key} does not come back: {problem.what}",
            expected=problem.expected,
            found=problem.found,
            next="its bytes are lost here: put the file back from where it came, or delete its row; then this"
            " command again (or with --store for the others)",
        ),
    )
