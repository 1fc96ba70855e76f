"""A data directory from a backup.

It grows under another name and gets its own at the end, so that a directory of that name is a whole one:

    1. the target, the room, the key, the programs are looked at    nothing is written
    2. slices are unpacked side by side into <target>.restoring     a kill leaves that; the next call for the
                                                                    same target begins anew and removes it
    3. pg_combinebackup makes one directory of an incremental and its parent
    4. pg_verifybackup reads every file against PostgreSQL's own manifest
    5. it is renamed to <target>; what else lies in <target>.restoring is removed
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
    combine_seconds: float
    verify_seconds: float


def restore(
    settings: Settings, backup_id: str, target: Path, *, progress: Progress = silent
) -> RestoreReport:
    """The data directory of one backup, verified, not started. An incremental is combined with its parent.

    Raises Refused before anything is written (target not empty, too little room, other programs), Mismatch
    (no such backup, a lost key, damaged objects, a file that PostgreSQL's manifest does not know).
    """
    with Opened.of(settings, new=False) as opened:
        chain = _chain(catalogue.read(opened.repository, opened.ring, "postgres"), backup_id)
        _refuse(chain, target)
        for backup in chain:
            opened.ring.key(backup.key_id)
        bin_directory = programs.directory(settings.postgres, _major(chain[-1]))
        growing = target.with_name(f"{target.name}.restoring")
        if growing.exists():
            progress(f"removing {growing}, which a restore that was killed left")
            shutil.rmtree(growing)
        growing.mkdir(0o700, parents=True)
        began = time.monotonic()
        parts = [growing / str(number) for number in range(len(chain))]
        size = sum(
            _unpack_all(opened, backup, part, progress) for backup, part in zip(chain, parts, strict=True)
        )
        unpacked = combined = time.monotonic()
        whole = parts[0]
        if len(parts) > 1:
            progress("combining")
            whole = growing / "combined"
            # what the parts hold is not needed any more: files that did not change are not copied
            _run(bin_directory / "pg_combinebackup", "--link", f"--output={whole}", *parts)
            combined = time.monotonic()
        progress("verifying")
        _run(bin_directory / "pg_verifybackup", "--quiet", "--exit-on-error", whole)
        if target.exists():
            target.rmdir()  # empty, or _refuse had refused it
        os.rename(whole, target)
        shutil.rmtree(growing)
    return RestoreReport(
        backup_id, target, size, unpacked - began, combined - unpacked, time.monotonic() - combined
    )


def _chain(found: catalogue.Catalogue, backup_id: str) -> list[Manifest]:
    """The backup with what it is built on, which comes first."""
    backup = found.find(backup_id).manifest
    if backup.kind == "logical":
        raise Refused(
            f"{backup_id} is a logical backup",
            expected="a full or an incremental one",
            found=backup.kind,
            next=f"bilten restore logical --backup {backup_id} --into DATABASE",
        )
    chain = [backup]
    while (parent := chain[0].parent) is not None:
        chain.insert(0, found.find(parent).manifest)
    return chain


def _refuse(chain: list[Manifest], target: Path) -> None:
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
    free, needed = shutil.disk_usage(place).free, int(sum(backup.raw_bytes for backup in chain) * _ROOM)
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


def _run(*arguments: str | Path) -> None:
    """Raises Mismatch when one of PostgreSQL's programs does not accept what was restored."""
    program = Path(arguments[0])
    done = subprocess.run(
        arguments,
        env={"PATH": str(program.parent), "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Mismatch(
            f"{program.name} does not accept what was restored to {arguments[-1]}",
            expected="exit code 0",
            found=f"exit code {done.returncode}: {(done.stderr or done.stdout).strip()[-600:]}",
            next="restore another backup; this one is damaged where nobody else could see it",
        )
