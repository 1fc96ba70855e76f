"""A data directory as of a moment, from a backup and the WAL behind it.

It grows under another name and gets its own at the end, so that a directory of that name is a whole one:

    1. the target, the room, the keys, the programs are looked at   nothing is written
    2. slices are unpacked side by side into <target>.restoring     a kill leaves that; the next call for the
                                                                    same target begins anew and removes it
    3. WAL is fetched beside them, every segment proved             the same
    4. pg_combinebackup makes one directory of an incremental and its parent
    5. pg_verifybackup reads every file against PostgreSQL's own manifest
    6. the recovery settings and the WAL are put into it (recovery.py)
    7. it is renamed to <target>; what else lies in <target>.restoring is removed

Whatever is refused is refused in step 1, all of it at once; a disk that becomes full later is told, and what
was begun on it removed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from types import MappingProxyType

from bilten_orchestration.backups.postgres import private, programs, recovery, room, targets
from bilten_orchestration.backups.postgres.targets import Chosen, Target
from bilten_orchestration.backups.repository.busy import Busy
from bilten_orchestration.backups.repository.keys import KeyRing
from bilten_orchestration.backups.repository.manifest import BackupObject, Manifest
from bilten_orchestration.backups.repository.opened import Bucket, Opened
from bilten_orchestration.backups.repository.tar_slices import unpack
from bilten_orchestration.backups.wal.archive import Archive, Piece
from bilten_orchestration.backups.wal.past import Past
from bilten_orchestration.errors import NO_ROOM, Mismatch, Problem, Refused
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import Settings

_AT_ONCE = 2
_SEGMENTS_AT_ONCE = 4
_ROOM = 1.05  # file systems count their own blocks
#: Entered around each phase, by its name: find, fetch, combine, verify, start.
Phase = Callable[[str], AbstractContextManager[object]]


@dataclass(frozen=True, slots=True)
class Phases:
    """Seconds of each; `start_seconds` includes the replay, None when nothing was started.

    Slices are downloaded, decrypted and unpacked side by side, so `fetch_seconds` is split in the proportion
    in which their threads were busy: `download_seconds` (waiting for the store; all of WAL counts here) and
    `decrypt_seconds` (with decompression and writing) add up to it. `replay_seconds` is what PostgreSQL says
    that redo took, and part of `start_seconds`.
    """

    find_seconds: float
    fetch_seconds: float
    combine_seconds: float
    verify_seconds: float
    start_seconds: float | None = None
    download_seconds: float = 0.0
    decrypt_seconds: float = 0.0
    replay_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """`directory` holds the server as of the target, once it has replayed `segments` of WAL; `bytes` are
    those of its files, `stored_bytes` what was downloaded for them and for WAL. `chain` are the backups that
    it was made of, `last_beat_at` the newest heartbeat that replay must have come to (None when not known).
    With a start `reached_at` is the last commit that was replayed (None when there was none), `dsn` where it
    listens."""

    backup_id: str
    directory: Path
    timeline: int
    bytes: int
    segments: int
    phases: Phases
    reached_at: datetime | None = None
    reached_lsn: str | None = None
    dsn: str | None = None
    stored_bytes: int = 0
    chain: tuple[str, ...] = ()
    last_beat_at: datetime | None = None


def restore(
    settings: Settings,
    target: Target,
    directory: Path,
    *,
    start: bool = False,
    bucket: Bucket = "first",
    options: Mapping[str, str] = MappingProxyType({}),
    phase: Phase = nullcontext,
    progress: Progress = silent,
) -> RestoreReport:
    """The data directory as of `target`, verified. With `start` it runs on a private socket when this
    returns, out of recovery; `private.stop` ends it. `options` are more of the server's, `phase` is told
    where the restore is.

    Raises UsageError (a target that is none), Refused before anything is written (a target that cannot be
    reached, a directory that is not empty, too little room, other programs, lost keys), Mismatch (damaged
    objects, a file that PostgreSQL's manifest does not know, a target that replay did not find).
    """
    targets.check(target)
    directory = directory.absolute()  # programs work in it, where a relative path is another one
    began = time.monotonic()
    with (
        Opened.of(settings, new=False, bucket=bucket, progress=progress) as opened,
        ExitStack() as working,
    ):
        with phase("find"):
            past = Past.read(opened, target.value if target.kind == "backup" else target.backup)
            chosen = targets.choose(past, target)
            chain = past.chain(chosen.start.backup.manifest)
            owner = private.owner_of(directory)
            needed = (
                int((sum(backup.raw_bytes for backup in chain) + room.rebuilt_bytes(opened, chain)) * _ROOM)
                + len(chosen.pieces) * past.segment_bytes
            )
            _refuse(chain, chosen.pieces, needed, opened.ring, directory, owner if start else None)
            bin_directory = programs.directory(settings.postgres, _major(chain[-1]))
            progress(f"from {chain[-1].id}, with {len(chosen.pieces)} segments of WAL")
        growing = working.enter_context(_growing(directory, progress))
        found = time.monotonic()
        with phase("fetch"):
            wal = Archive(opened.repository, opened.cipher, past.system_identifier, past.segment_bytes)
            parts = [growing / str(number) for number in range(len(chain))]
            _fetch_wal(wal, past.history_pieces, chosen, growing / recovery.WAL, progress)
            wal_seconds = time.monotonic() - found
            busy = Busy()
            size = sum(
                _unpack_all(opened, backup, part, busy, progress)
                for backup, part in zip(chain, parts, strict=True)
            )
        fetched = combined = time.monotonic()
        whole = parts[0]
        if len(parts) > 1:
            progress("combining")
            whole = growing / "combined"
            with phase("combine"):
                # what the parts hold is not needed any more: files that did not change are not copied
                _run(bin_directory / "pg_combinebackup", "--link", f"--output={whole}", *parts)
            combined = time.monotonic()
        progress("verifying")
        with phase("verify"):
            _run(bin_directory / "pg_verifybackup", "--quiet", "--exit-on-error", whole)
        verified = time.monotonic()
        os.rename(growing / recovery.WAL, whole / recovery.WAL)
        recovery.configure(whole, target, chosen, bin_directory)
        private.give(whole, owner)
        if directory.exists():
            directory.rmdir()  # empty, or _refuse had refused it
        os.rename(whole, directory)
    downloading = wal_seconds + busy.share("download") * (fetched - found - wal_seconds)
    report = RestoreReport(
        chain[-1].id,
        directory,
        chosen.timeline,
        size,
        len(chosen.pieces),
        Phases(
            round(found - began, 2),
            round(fetched - found, 2),
            round(combined - fetched, 2),
            round(verified - combined, 2),
            download_seconds=round(downloading, 2),
            decrypt_seconds=round(fetched - found - downloading, 2),
        ),
        stored_bytes=sum(backup.stored_bytes for backup in chain)
        + sum(piece.bytes for piece in chosen.pieces),
        chain=tuple(backup.id for backup in chain),
        last_beat_at=_last_beat(target, chosen),
    )
    if not start:
        return report
    with phase("start"):
        return _started(report, settings, bin_directory, owner, options, progress)


@contextmanager
def _growing(directory: Path, progress: Progress) -> Iterator[Path]:
    """Where it grows. Nothing of it stays, however this ends but by a kill.

    Raises Refused where the disk became full.
    """
    growing = directory.with_name(f"{directory.name}.restoring")
    if growing.exists():
        progress(f"removing {growing}, which a restore that was killed left")
        shutil.rmtree(growing)
    growing.mkdir(0o700, parents=True)
    try:
        yield growing
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise Refused(
            f"{growing.parent} has no room any more",
            expected="room for the data directory and its WAL",
            found=error.strerror or "none",
            next="free room there, or name a directory on another file system",
        ) from None
    finally:
        shutil.rmtree(growing)


def _last_beat(target: Target, chosen: Chosen) -> datetime | None:
    """Of the pieces to replay, the newest heartbeat that lies before a moment; of other targets only `latest`
    says which one that is."""
    if target.kind == "latest":
        return chosen.start.run.last_beat_at
    if target.kind != "moment":
        return None
    beats = (piece.beat_at for piece in chosen.pieces)
    return max((at for at in beats if at is not None and at <= target.moment), default=None)


def _started(
    report: RestoreReport,
    settings: Settings,
    bin_directory: Path,
    owner: private.Owner | None,
    options: Mapping[str, str],
    progress: Progress,
) -> RestoreReport:
    began = time.monotonic()
    progress("starting, replaying")
    running = private.start(
        report.directory, bin_directory, settings.postgres, owner, progress, options=options
    )
    try:
        reached = recovery.reached(running)
    except BaseException:
        private.stop(report.directory)
        raise
    return replace(
        report,
        timeline=reached.timeline,
        phases=replace(
            report.phases,
            start_seconds=round(time.monotonic() - began, 2),
            replay_seconds=private.redo_seconds(report.directory),
        ),
        reached_at=reached.at,
        reached_lsn=reached.lsn,
        dsn=running.dsn,
    )


def _refuse(
    chain: Sequence[Manifest],
    pieces: Sequence[Piece],
    needed_bytes: int,
    ring: KeyRing,
    directory: Path,
    owner: private.Owner | None,
) -> None:
    problems = []
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        problems.append(
            Problem(
                f"{directory} is not empty",
                expected="a new directory",
                found="files",
                next="name another directory; nothing is ever restored over files",
            )
        )
    place = next(parent for parent in directory.parents if parent.exists())
    free = shutil.disk_usage(place).free
    if free < needed_bytes:
        problems.append(
            Problem(
                f"{place} has too little room",
                expected=f"{needed_bytes >> 20:,} MiB",
                found=f"{free >> 20:,} MiB",
                next="name a directory on another file system",
            )
        )
    problems += private.objections(place, owner)
    used = {backup.key_id for backup in chain} | {piece.key_id for piece in pieces}
    for key_id in sorted(used - set(ring.keys)):
        try:
            ring.key(key_id)
        except Mismatch as error:
            problems.extend(error.problems)
    if problems:
        raise Refused(problems)


def _major(backup: Manifest) -> int:
    return int(backup.versions["postgres"].split(".")[0])


def _fetch_wal(
    wal: Archive, histories: Sequence[Piece], chosen: Chosen, directory: Path, progress: Progress
) -> None:
    """Each segment whole: a part of one is filled up with zeros, as PostgreSQL itself would find it."""
    directory.mkdir(0o700)

    def one(piece: Piece) -> None:
        contents = wal.contents_by_now(piece)
        with (directory / piece.file).open("wb") as file:
            file.write(contents)
            file.truncate(wal.segment_bytes)

    for piece in histories:
        # without the newer ones: recovery follows the timeline that it is told
        if piece.timeline <= chosen.timeline:
            (directory / piece.file).write_bytes(wal.contents(piece))
    with ThreadPoolExecutor(_SEGMENTS_AT_ONCE, thread_name_prefix="restore-wal") as pool:
        for number, _ in enumerate(pool.map(one, chosen.pieces), start=1):
            if number % 50 == 0:
                progress(f"{number:,} of {len(chosen.pieces):,} segments of WAL")


def _unpack_all(opened: Opened, backup: Manifest, directory: Path, busy: Busy, progress: Progress) -> int:
    def one(wanted: BackupObject) -> int:
        with busy.at("decrypt"):
            size = unpack(opened.get(backup, wanted, busy), wanted.continues, directory)
        progress(f"{wanted.name}: {size >> 20:,} MiB")
        return size

    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="restore") as pool:
        return sum(pool.map(one, backup.objects))


def _run(*arguments: str | Path) -> None:
    """Raises Mismatch when one of PostgreSQL's programs does not accept what was restored. It works in what
    it reads, the last of `arguments`: when we are killed, the place's next owner knows it by that."""
    program = Path(arguments[0])
    done = subprocess.run(
        arguments,
        cwd=arguments[-1],
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
