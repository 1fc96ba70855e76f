"""Backups of PostgreSQL against what one would type: pg_basebackup | zstd | openssl, into the same store."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

from bench.harness import OURS, Comparison, Context, size, take_turns
from bilten_orchestration.backups.postgres import base, programs
from bilten_orchestration.backups.postgres.restore import restore
from bilten_orchestration.backups.postgres.targets import Target
from bilten_orchestration.backups.repository import keys, objects
from bilten_orchestration.backups.repository.bucket import Repository, Stored
from bilten_orchestration.backups.repository.encryption import Cipher
from bilten_orchestration.backups.repository.opened import key_file
from bilten_orchestration.backups.repository.tar_slices import Slicer
from bilten_orchestration.backups.wal import status as statuses
from bilten_orchestration.errors import Refused
from bilten_orchestration.settings import Settings
from bilten_orchestration.settings.loading import as_environment
from bilten_orchestration.stores import object_store, postgres

RIVAL = "pg_basebackup, zstd -1 -T2, openssl aes-256-ctr"
RIVAL_BACK = "download, openssl, zstd, tar"
MAJOR = 18
PAGES_CHANGED_OF = 100
LOAD_SECONDS = 90
_SECRET = "pass:bench"
_PART = 16 << 20


def full(context: Context) -> Comparison:
    """At most 1.15 of the rival's time."""

    def ours() -> None:
        base.take(context.settings, "full")

    seconds = take_turns({OURS: ours, RIVAL: lambda: put_rival(context)}, context.runs, context.progress)
    peak = peak_mebibytes(context.settings, "postgres")
    note = f"peak memory of `bilten backup create postgres` {peak:.0f} MiB"
    return Comparison(
        "backup-full", context.scale, size(context), seconds, context.runs, {RIVAL: 1 / 1.15}, note=note
    )


def full_to_nothing(context: Context) -> Comparison:
    """The same without the store, which has a limit of its own."""

    def ours() -> None:
        ring = keys.ensure(key_file(context.settings))
        cipher, settings = Cipher(ring), context.settings.backups
        with (
            programs.connection_arguments(context.settings.postgres, "bench") as (dsn, environment),
            programs.reading(_basebackup(context, dsn), environment) as stream,
        ):
            for piece in Slicer(stream, settings.slice_bytes):
                objects.put(_Nowhere(), cipher, settings, "bench", str(piece.number), piece.chunks)

    def rival() -> None:
        with _pipeline(context) as last, open(os.devnull, "wb") as nothing:
            assert last.stdout is not None
            shutil.copyfileobj(last.stdout, nothing, _PART)

    seconds = take_turns({OURS: ours, RIVAL: rival}, context.runs, context.progress)
    return Comparison(
        "backup-full-to-nothing", context.scale, size(context), seconds, context.runs, {RIVAL: 1 / 1.15}
    )


def restored(context: Context) -> list[Comparison]:
    """With verification at most 1.3 of the rival's time, without 1.1."""
    settings = context.settings
    taken = base.take(settings, "full").manifest.id
    put_rival(context)
    fetched: list[float] = []
    place = Path(tempfile.mkdtemp(prefix="bilten-bench-"))
    place.chmod(0o755)

    def ours() -> None:
        report = restore(settings, Target("backup", taken), place / "ours")
        fetched.append(report.phases.fetch_seconds + report.phases.find_seconds)

    def rival() -> None:
        bare_restore(context, place / "theirs")

    try:
        seconds = take_turns(
            {OURS: ours, RIVAL_BACK: rival},
            context.runs,
            context.progress,
            after=lambda who: shutil.rmtree(place / ("ours" if who == OURS else "theirs")),
        )
    finally:
        shutil.rmtree(place, ignore_errors=True)
    unverified = {OURS: sorted(fetched)[len(fetched) // 2], RIVAL_BACK: seconds[RIVAL_BACK]}
    worked_on, runs = size(context), context.runs
    return [
        Comparison("restore-verified", context.scale, worked_on, seconds, runs, {RIVAL_BACK: 1 / 1.3}),
        Comparison("restore", context.scale, worked_on, unverified, runs, {RIVAL_BACK: 1 / 1.1}),
    ]


def bare_restore(context: Context, directory: Path) -> None:
    """What `put_rival` stored, unpacked."""
    directory.mkdir()
    settings = context.settings
    client = object_store.connect(settings.object_store)
    body = client.get_object(Bucket=settings.object_store.bucket_dagster, Key="rival")["Body"]
    openssl = subprocess.Popen(
        ["openssl", "enc", "-d", "-aes-256-ctr", "-pass", _SECRET, "-pbkdf2"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    zstd = subprocess.Popen(["zstd", "-d", "-q"], stdin=openssl.stdout, stdout=subprocess.PIPE)
    tar = subprocess.Popen(["tar", "-x", "-C", str(directory)], stdin=zstd.stdout)
    assert openssl.stdin is not None
    shutil.copyfileobj(body, openssl.stdin, _PART)
    openssl.stdin.close()
    assert [openssl.wait(), zstd.wait(), tar.wait()] == [0, 0, 0]


def incremental(context: Context) -> Comparison:
    """After one page of a hundred changed: at most 15 % of a full backup's bytes and 40 % of its time."""
    settings = context.settings
    whole = base.take(settings, "full")
    parts: list[float] = []

    def change(who: str) -> None:
        if who == OURS:
            with postgres.connect(settings.postgres, autocommit=True) as connection:
                connection.execute(
                    "update bench_rows set k = k + 1 where (ctid::text::point)[1] = 1"
                    f" and (ctid::text::point)[0]::bigint %% {PAGES_CHANGED_OF} = %s",
                    (len(parts),),
                )
                connection.execute("checkpoint")

    def ours() -> None:
        report = base.take(settings, "incremental")
        assert report.manifest.kind == "incremental", report.manifest.details
        parts.append(report.manifest.stored_bytes / whole.manifest.stored_bytes)

    def theirs() -> None:
        base.take(settings, "full")

    rival = "a full one"
    seconds = take_turns(
        {OURS: ours, rival: theirs},
        1,
        context.progress,
        before=change,
    )
    return Comparison(
        "backup-incremental",
        context.scale,
        f"1 % of the pages of {size(context)} changed",
        seconds,
        1,
        {rival: 1 / 0.4},
        note=f"{parts[-1] * 100:.1f} % of a full backup's bytes (aim 15 %)",
    )


def wal(context: Context) -> Comparison:
    """Under as many writes as two connections make: never more than 60 s behind."""
    settings, stop, worst = context.settings, threading.Event(), 0.0
    process = subprocess.Popen(
        [sys.executable, "-m", "bilten_orchestration.cli.main", "wal", "stream"],
        env=os.environ | as_environment(settings),
        stderr=subprocess.DEVNULL,
    )

    def write() -> None:
        with postgres.connect(settings.postgres, autocommit=True) as connection:
            while not stop.is_set():
                connection.execute(
                    "insert into bench_wal select n, md5(n::text) from generate_series(1, 5000) n"
                )

    def lsn() -> int:
        with postgres.connect(settings.postgres) as connection:
            row = connection.execute("select pg_current_wal_lsn() - '0/0'::pg_lsn").fetchone()
        assert row is not None
        return int(row[0])

    with postgres.connect(settings.postgres, autocommit=True) as connection:
        connection.execute("create table if not exists bench_wal (n int, words text)")
    try:
        await_reach(settings, process)
        begin, cpu = lsn(), _cpu(process.pid)
        writers = [threading.Thread(target=write) for _ in range(2)]
        for writer in writers:
            writer.start()
        end = time.monotonic() + LOAD_SECONDS
        while time.monotonic() < end:
            found, problems = statuses.read(statuses.place(settings))
            assert found is not None, problems
            worst = max([worst, *(each.rpo_seconds or 0.0 for each in found.buckets)])
            time.sleep(1)
        stop.set()
        for writer in writers:
            writer.join()
        gib = (lsn() - begin) / 2**30
        spent = _cpu(process.pid) - cpu
    finally:
        stop.set()
        process.terminate()
        process.wait(60)
    return Comparison(
        "wal-shipping",
        context.scale,
        f"{gib:.2f} GiB of WAL in {LOAD_SECONDS} s, two buckets",
        {OURS: worst},
        1,
        bound_seconds=60,
        note=f"seconds are the most that it was behind; {spent / max(gib, 0.001):.0f} CPU-seconds per GiB",
    )


def await_reach(settings: Settings, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while True:
        found, _ = statuses.read(statuses.place(settings))
        if found is not None and found.pid == process.pid and all(b.reachable_until for b in found.buckets):
            return
        assert time.monotonic() < deadline, found
        time.sleep(0.2)


def _cpu(pid: int) -> float:
    """Of the service and pg_receivewal."""
    process = psutil.Process(pid)
    found = 0.0
    for each in (process, *process.children(recursive=True)):
        times = each.cpu_times()
        found += times.user + times.system
    return found


def _basebackup(context: Context, dsn: str) -> list[str | Path]:
    program = programs.directory(context.settings.postgres, MAJOR) / "pg_basebackup"
    fixed = ["--pgdata=-", "--format=tar", "--wal-method=fetch", "--checkpoint=fast", "--no-password"]
    return [program, f"--dbname={dsn}", *fixed]


def put_rival(context: Context) -> None:
    from boto3.s3.transfer import TransferConfig

    client = object_store.connect(context.settings.object_store)
    with _pipeline(context) as last:
        client.upload_fileobj(
            last.stdout,
            context.settings.object_store.bucket_dagster,
            "rival",
            Config=TransferConfig(multipart_chunksize=_PART, max_concurrency=4),
        )


class _pipeline:
    """The rival's three programs; the last one's output is to be read."""

    def __init__(self, context: Context) -> None:
        for program in ("zstd", "openssl", "tar"):
            if shutil.which(program) is None:
                raise Refused(f"{program} is not here, and the rival needs it", next=f"install {program}")
        self._arguments = programs.connection_arguments(context.settings.postgres, "bench")
        self._context = context

    def __enter__(self) -> subprocess.Popen[bytes]:
        dsn, environment = self._arguments.__enter__()
        first = subprocess.Popen(
            _basebackup(self._context, dsn),
            env=dict(environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        second = subprocess.Popen(["zstd", "-1", "-T2", "-q"], stdin=first.stdout, stdout=subprocess.PIPE)
        third = subprocess.Popen(
            ["openssl", "enc", "-aes-256-ctr", "-pass", _SECRET, "-pbkdf2"],
            stdin=second.stdout,
            stdout=subprocess.PIPE,
        )
        self._all = (first, second, third)
        return third

    def __exit__(self, *error: object) -> None:
        codes = [process.wait() for process in self._all]
        self._arguments.__exit__(None, None, None)
        assert codes == [0, 0, 0], codes


class _Nowhere(Repository):
    """Takes objects as the bucket does, and keeps nothing."""

    def __init__(self) -> None:
        pass

    def write(self, name: str, chunks: Iterable[bytes]) -> Stored:
        return Stored(name, sum(len(chunk) for chunk in chunks), "")


def peak_mebibytes(settings: Settings, *arguments: str) -> float:
    """The most memory that a backup took in a process of its own (this one holds the whole bench)."""
    reported, peak = "VmHWM:", 0
    with subprocess.Popen(
        [sys.executable, "-m", "bilten_orchestration.cli.main", "backup", "create", *arguments],
        env=os.environ | as_environment(settings),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            for line in status.read_text().splitlines():
                if line.startswith(reported):
                    peak = max(peak, int(line.split()[1]))
            time.sleep(0.05)
    assert process.returncode == 0, process.returncode
    return peak / 1024
