"""A data directory from a backup.

It grows under another name and gets its own at the end, so that a directory of that name is a whole one:

    1. the target, the room, the key, the programs are looked at    nothing is written
    2. slices are unpacked side by side into <target>.restoring     a kill leaves that; the next call for the
                                                                    same target begins anew and removes it
    3. pg_verifybackup reads every file against PostgreSQL's own manifest
    4. it is renamed to <target>
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bilten_orchestration.backups import catalogue
from bilten_orchestration.backups.manifest import BackupObject, Manifest
from bilten_orchestration.backups.opened import Opened
from bilten_orchestration.backups.postgres import programs
from bilten_orchestration.backups.tar_slices import unpack
from bilten_orchestration.errors import Mismatch, Problem, Refused
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import Settings

_AT_ONCE = 2
_ROOM = 1.05  # file systems count their own blocks


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """`directory` is ready to be started; `bytes` of files. Seconds by phase."""

    backup_id: str
    directory: Path
    bytes: int
    unpack_seconds: float
    verify_seconds: float


def restore(
    settings: Settings, backup_id: str, target: Path, *, progress: Progress = silent
) -> RestoreReport:
    """The data directory of one full backup, verified, not started.

    Raises Refused before anything is written (target not empty, too little room, other programs), Mismatch
    (no such backup, a lost key, damaged objects, a file that PostgreSQL's manifest does not know).
    """
    with Opened.of(settings, new=False) as opened:
        backup = catalogue.read(opened.main, opened.ring, "postgres").find(backup_id).manifest
        _refuse(backup, target)
        opened.ring.key(backup.key_id)
        verifier = programs.directory(settings.postgres, _major(backup)) / "pg_verifybackup"
        growing = target.with_name(f"{target.name}.restoring")
        if growing.exists():
            progress(f"removing {growing}, which a restore that was killed left")
            shutil.rmtree(growing)
        growing.mkdir(0o700, parents=True)
        began = time.monotonic()
        size = _unpack_all(opened, backup, growing, progress)
        unpacked = time.monotonic()
        progress(f"{size >> 20:,} MiB unpacked; verifying")
        _verify(verifier, growing)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            target.rmdir()  # empty, or _refuse had refused it
        os.rename(growing, target)
    return RestoreReport(backup.id, target, size, unpacked - began, time.monotonic() - unpacked)


def _refuse(backup: Manifest, target: Path) -> None:
    problems = []
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        problems.append(
            Problem(
                f"{target} is not empty",
                expected="a new directory",
                found="files",
                next="name another directory; nothing is ever restored over files",
            )
        )
    place = next(parent for parent in target.absolute().parents if parent.exists())
    free, needed = shutil.disk_usage(place).free, int(backup.raw_bytes * _ROOM)
    if free < needed:
        problems.append(
            Problem(
                f"{place} has too little room",
                expected=f"{needed >> 20:,} MiB",
                found=f"{free >> 20:,} MiB",
                next="name a directory on another file system",
            )
        )
    if problems:
        raise Refused(problems)


def _major(backup: Manifest) -> int:
    return int(backup.versions["postgres"].split(".")[0])


def _unpack_all(opened: Opened, backup: Manifest, directory: Path, progress: Progress) -> int:
    def one(wanted: BackupObject) -> int:
        size = unpack(opened.get(backup, wanted), wanted.continues, directory)
        progress(f"{wanted.name}: {size >> 20:,} MiB")
        return size

    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="restore") as pool:
        return sum(pool.map(one, backup.objects))


def _verify(verifier: Path, directory: Path) -> None:
    done = subprocess.run(
        [verifier, "--quiet", "--exit-on-error", directory],
        env={"PATH": str(verifier.parent), "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Mismatch(
            f"pg_verifybackup does not accept what was restored to {directory}",
            expected="exit code 0",
            found=f"exit code {done.returncode}: {(done.stderr or done.stdout).strip()[-600:]}",
            next="restore another backup; this one is damaged where nobody else could see it",
        )
