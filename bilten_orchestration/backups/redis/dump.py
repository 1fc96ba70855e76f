"""A backup of Redis: the snapshot that a replica would get, checked, counted, and then stored.

In order, and what a kill in between leaves:

    1. the locks of lock.py are taken                           nothing
    2. the server, the program and the spool are looked at      nothing
    3. PSYNC | spool, at the server's full speed                nothing: the spool file has no name, and the
                                                                server ends its child when we are gone
    4. redis-check-rdb reads it; its keys are counted           nothing
    5. slices | zstd | AES | store                              objects without a manifest: swept later
    6. the manifest is signed and stored                        a backup

Nothing is stored of a snapshot that is not whole.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from typing import IO

from bilten_orchestration.backups import lock
from bilten_orchestration.backups.redis import programs, rdb, server, spool, stream
from bilten_orchestration.backups.report import BackupReport
from bilten_orchestration.backups.repository import catalogue, objects
from bilten_orchestration.backups.repository.manifest import Manifest, new_id
from bilten_orchestration.backups.repository.opened import Opened, key_file
from bilten_orchestration.backups.told import Told
from bilten_orchestration.errors import Problem, StoreUnavailable
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import redis

_ANSWER_SECONDS = 30
_SHORT_SECONDS = 2
_READ_BYTES = 1 << 20


def take(settings: Settings, *, run: str | None = None, progress: Progress = silent) -> BackupReport:
    """Take a backup of every database of the server.

    Raises LockHeld (another backup of it), Refused (server.look, spool.filled), Mismatch (redis-check-rdb,
    an object was not kept), StoreUnavailable (also: the server loads, or cannot make a snapshot now),
    AccessRefused.
    """
    began = time.monotonic()
    with ExitStack() as stack:
        client = redis.client(settings.redis, timeout_seconds=_ANSWER_SECONDS)
        stack.callback(client.close)
        stack.enter_context(lock.held(settings, "redis", progress))
        program = programs.find(settings)
        with redis.translated(settings.redis, "the backup"):
            found = server.look(client, settings, program)
            names = server.configured(client, *server.FILE_NAMES)
        if not found.saves:  # MISCONF: it refuses writes, and more than ever is worth a backup
            progress("Redis could not write its last snapshot on its own disk; this one may fail likewise")
        if not key_file(settings).exists():
            progress(f"making {key_file(settings)}: no backup can be read without it, keep a copy elsewhere")
        opened = stack.enter_context(Opened.of(settings, progress=progress))
        started_at = datetime.now(UTC)
        backup_id = new_id("redis", "full", started_at)
        progress(
            f"{backup_id}: {found.used_memory >> 20:,} MiB of data in {redis.address_of(settings.redis)}"
        )
        with (
            _explained(settings),
            stream.snapshot(settings.redis, progress=progress) as snapshot,
        ):
            read = Told(progress, snapshot.size_bytes).counting(snapshot.chunks)
            file = stack.enter_context(spool.filled(settings, read, program.user))
        size = file.seek(0, os.SEEK_END)
        progress(f"redis-check-rdb reads {size >> 20:,} MiB")
        counted = rdb.check(program, file)
        told = Told(progress, size, doing="stored")
        stored = opened.put_slices(
            backup_id,
            (
                (objects.name_of("redis", backup_id, number), None, told.counting(chunks))
                for number, chunks in enumerate(_cut(file, size, settings.backups.slice_bytes))
            ),
        )
        taken = Manifest(
            id=backup_id,
            store="redis",
            kind="full",
            source=redis.address_of(settings.redis),
            started_at=started_at,
            finished_at=datetime.now(UTC),
            raw_bytes=size,
            codec=settings.backups.codec,
            objects=tuple(stored),
            key_id=opened.ring.current,
            versions={"redis": counted.version},
            run=run,
            consistent_at=counted.at,
            counts={f"db{number}": keys for number, keys in sorted(counted.keys.items())},
            details={
                "used_memory_bytes": str(found.used_memory),
                "expiring_keys": str(counted.expiring),
                "expired_keys": str(counted.expired),
                "replication_id": snapshot.replication_id,
                "replication_offset": str(snapshot.offset),
                "checksum": "crc64" if counted.checksum else "none: rdbchecksum is off",
                # a start reads files of these names and no others
                **({} if isinstance(names, str) else names),
            },
        )
        catalogue.add(opened.repository, opened.ring, taken)
    return BackupReport(taken, time.monotonic() - began)


@contextmanager
def _explained(settings: Settings) -> Iterator[None]:
    """A snapshot that did not come, with what the server says of its last one."""
    from redis.exceptions import RedisError

    try:
        yield
    except StoreUnavailable as error:
        try:
            with closing(redis.client(settings.redis, timeout_seconds=_SHORT_SECONDS)) as client:
                status = str(client.info("persistence").get("rdb_last_bgsave_status"))
        except RedisError:
            raise error from None  # it is gone altogether: that has been said
        if status == "ok":
            raise
        problem = Problem(
            f"Redis at {redis.address_of(settings.redis)} cannot save",
            expected="rdb_last_bgsave_status:ok",
            found=f"rdb_last_bgsave_status:{status}",
            next="free its disk and memory (its log names which), or send without its disk:"
            " config set repl-diskless-sync yes",
        )
        raise StoreUnavailable([*error.problems, problem]) from None


def _cut(file: IO[bytes], size: int, slice_bytes: int) -> Iterator[Iterator[bytes]]:
    """The file in slices of that size, each to be taken whole before the next."""

    def chunks(left: int) -> Iterator[bytes]:
        while left > 0 and (chunk := file.read(min(_READ_BYTES, left))):
            left -= len(chunk)
            yield chunk

    file.seek(0)
    for at in range(0, size, slice_bytes):
        yield chunks(min(slice_bytes, size - at))
