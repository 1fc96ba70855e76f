"""The drill of Redis: the newest backup is loaded by a server of our own, and asked.

What is compared, and with what:

    keys       those of each database with the signed manifest, less those that have expired (the restore)
    patterns   every key is read by SCAN and counted by the first part of its name; with the drill before
    values     a sample of keys with the source, which has moved on: only keys that it has not touched since
               before the backup (OBJECT IDLETIME) can be equal, so only those are judged. Redis does not note
               a touch while it saves, and so a few may differ that were written then: that warns. When most
               of them differ, the backup is of another server or another time: that fails
    expiry     of the same keys: the same moment within two seconds, or none on both sides

Reading a value counts as a touch on servers before 7.2, which have no CLIENT NO-TOUCH: a few hundred keys a
day. No name of a key leaves this module: they may hold tokens. What a kill leaves: see run.py.
"""

from __future__ import annotations

import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bilten_orchestration.backups.redis import scratch
from bilten_orchestration.backups.redis.restore import RestoreReport, restore
from bilten_orchestration.backups.repository import catalogue
from bilten_orchestration.backups.repository.manifest import Manifest
from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.drills.chain import newest_chain
from bilten_orchestration.drills.course import Course
from bilten_orchestration.drills.falls import fall
from bilten_orchestration.drills.redis_source import Sample, against_source, asked
from bilten_orchestration.drills.report import Proof
from bilten_orchestration.errors import Mismatch
from bilten_orchestration.progress import Progress
from bilten_orchestration.settings import Settings

if TYPE_CHECKING:
    from redis import Redis

_SAMPLED = 200
_PATTERNS = 200
_SCANNED_AT_ONCE = 1_000
_PLAIN = re.compile(rb"[A-Za-z][A-Za-z_-]{0,31}")
_OTHER = "(other)"
_PHASES = ("download", "check", "load", "append", "reload")


def walk(settings: Settings, way: str, place: Path, course: Course, *, progress: Progress) -> None:
    """Fills the course. Raises what the restore raises, and Mismatch where there is no backup."""
    target = place / "data"  # a short name: a socket lies in it
    with course.phase("find"):
        backup = _newest(settings, progress)
        course.backups, course.bucket = (backup.id,), settings.object_store.bucket_backups
        course.reached_at = backup.consistent_at
    try:
        report = _restored(settings, backup, target, course, progress)
        with course.phase("first_query"), _alive(target), asked(target, 0) as client:
            client.dbsize()
            course.first_query()
        with course.phase("proof"), _alive(target):
            _prove(settings, backup, report, target, course, progress)
    finally:
        scratch.end(target)


@contextmanager
def _alive(target: Path) -> Iterator[None]:
    """That it came up once proves little: it has to answer until the end, also where what it was asked last
    could not be told from an answer of the source."""
    from redis.exceptions import ConnectionError, TimeoutError

    try:
        yield
        with asked(target, 0) as client:
            client.ping()
    except (ConnectionError, TimeoutError) as error:
        raise Mismatch(
            "the restored server ended while it was asked",
            expected="an answer to every query until the end of the drill",
            found=f"{type(error).__name__}; its last words: {scratch.last_words(target)}",
            next="restore it by hand and read its log: bilten restore redis --to DIR --start",
        ) from None


def _newest(settings: Settings, progress: Progress) -> Manifest:
    with Opened.of(settings, new=False, progress=progress) as opened:
        return newest_chain(catalogue.read(opened.repository, opened.ring, "redis"), "redis")[-1]


def _restored(
    settings: Settings, backup: Manifest, target: Path, course: Course, progress: Progress
) -> RestoreReport:
    with course.phase("restore"):
        report = restore(settings, backup.id, target, start=True, progress=progress)
    # in its parts, as the restore timed them
    whole, parts = course.phases.pop("restore"), 0.0
    for name in _PHASES:
        seconds = getattr(report, f"{name}_seconds")
        course.took(name, seconds)
        parts += seconds
    course.took("find", max(0.0, whole - parts))
    course.restored_bytes, course.stored_bytes = report.bytes, backup.stored_bytes
    return report


def _prove(
    settings: Settings,
    backup: Manifest,
    report: RestoreReport,
    target: Path,
    course: Course,
    progress: Progress,
) -> None:
    loaded = sum(report.keys.values())
    course.prove(
        Proof(
            "every key of the manifest is loaded, or has expired",
            loaded + report.expired == sum(backup.counts.values()) and set(report.keys) <= set(backup.counts),
            f"{sum(backup.counts.values()):,} keys",
            f"{loaded:,} keys, {report.expired:,} that have expired",
            report.check_seconds,
        )
    )
    began = time.monotonic()
    counts: Counter[str] = Counter()
    samples: list[Sample] = []
    for name in report.keys:
        number = int(name.removeprefix("db"))
        with asked(target, number) as client:
            samples += _scan(client, number, counts, _SAMPLED)
            progress(f"{name}: {sum(counts.values()):,} keys read")
    read, seconds = sum(counts.values()), time.monotonic() - began
    course.counts.update(_bounded(counts))
    course.figures["keys"] = loaded
    course.figures["expired_keys"] = report.expired
    with asked(target, 0) as client:
        left = sum(int(each["keys"]) for each in client.info("keyspace").values())
    course.prove(
        Proof(
            "every key can be read by its name",
            left <= read <= loaded,
            f"{left:,} to {loaded:,} keys",
            f"{read:,} in {len(course.counts)} patterns",
            seconds,
            warns=read > loaded,  # SCAN hands keys out twice where a table shrinks
        )
    )
    course.prove(fall(course.previous, course.counts, "keys", settings.drills.fall_percent))
    for proof in against_source(settings, backup, target, samples, course):
        course.prove(proof)


def _scan(client: Redis, database: int, counts: Counter[str], wanted: int) -> list[Sample]:
    """Count every key once; `wanted` of them by chance (a reservoir), those of each database apart."""
    chance = random.SystemRandom()
    taken: list[Sample] = []
    for number, key in enumerate(client.scan_iter(count=_SCANNED_AT_ONCE)):
        counts[_pattern(database, key)] += 1
        if len(taken) < wanted:
            taken.append(Sample(database, key))
        elif (place := chance.randrange(number + 1)) < wanted:
            taken[place] = Sample(database, key)
    return taken


def _pattern(database: int, key: bytes) -> str:
    first, colon, _ = key.partition(b":")
    plain = colon and _PLAIN.fullmatch(first)
    return f"db{database} {first.decode()}:*" if plain else f"db{database} {_OTHER}"


def _bounded(counts: Counter[str]) -> dict[str, int]:
    """The most frequent ones, and the rest together."""
    kept = dict(counts.most_common(_PATTERNS))
    if rest := sum(counts.values()) - sum(kept.values()):
        kept["(rest)"] = rest
    return kept
