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
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bilten_orchestration.backups.redis import scratch
from bilten_orchestration.backups.redis.restore import RestoreReport, restore
from bilten_orchestration.backups.repository import catalogue
from bilten_orchestration.backups.repository.manifest import Manifest
from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.drills.chain import newest_chain
from bilten_orchestration.drills.course import Course
from bilten_orchestration.drills.falls import fall
from bilten_orchestration.drills.report import Proof
from bilten_orchestration.errors import BiltenError
from bilten_orchestration.progress import Progress
from bilten_orchestration.settings import Settings

if TYPE_CHECKING:
    from redis import Redis

_SAMPLED = 200
_ANSWER_SECONDS = 60
_LARGEST_BYTES = 256 << 10
_PATTERNS = 200
_SCANNED_AT_ONCE = 1_000
_PLAIN = re.compile(rb"[A-Za-z][A-Za-z_-]{0,31}")
_OTHER = "(other)"
_TOUCH_RESOLUTION_SECONDS = 5
_EXPIRY_APART_MILLISECONDS = 2_000
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
        with course.phase("first_query"), _asked(target, 0) as client:
            client.dbsize()
            course.first_query()
        with course.phase("proof"):
            _prove(settings, backup, report, target, course, progress)
    finally:
        scratch.end(target)


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


@contextmanager
def _asked(target: Path, database: int) -> Iterator[Redis]:
    from redis import Redis

    socket = str(target / scratch.SOCKET)
    with closing(Redis(unix_socket_path=socket, db=database, socket_timeout=_ANSWER_SECONDS)) as client:
        yield client


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
    samples: list[_Sample] = []
    for name in report.keys:
        number = int(name.removeprefix("db"))
        with _asked(target, number) as client:
            samples += _scan(client, number, counts, _SAMPLED)
            progress(f"{name}: {sum(counts.values()):,} keys read")
    read, seconds = sum(counts.values()), time.monotonic() - began
    course.counts.update(_bounded(counts))
    course.figures["keys"] = loaded
    course.figures["expired_keys"] = report.expired
    with _asked(target, 0) as client:
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
    for proof in _against_source(settings, backup, target, samples, course):
        course.prove(proof)


@dataclass(frozen=True, slots=True)
class _Sample:
    database: int
    key: bytes


def _scan(client: Redis, database: int, counts: Counter[str], wanted: int) -> list[_Sample]:
    """Count every key once; `wanted` of them by chance (a reservoir), those of each database apart."""
    chance = random.SystemRandom()
    taken: list[_Sample] = []
    for number, key in enumerate(client.scan_iter(count=_SCANNED_AT_ONCE)):
        counts[_pattern(database, key)] += 1
        if len(taken) < wanted:
            taken.append(_Sample(database, key))
        elif (place := chance.randrange(number + 1)) < wanted:
            taken[place] = _Sample(database, key)
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


@dataclass
class _Compared:
    untouched: int = 0
    equal: int = 0
    expiry_equal: int = 0
    gone_or_touched: int = 0
    skipped: int = 0


def _against_source(
    settings: Settings, backup: Manifest, target: Path, samples: list[_Sample], course: Course
) -> list[Proof]:
    from redis.exceptions import RedisError

    began = time.monotonic()
    try:
        found = _compare(settings, backup, target, samples)
    except (BiltenError, RedisError) as error:
        why = error.problems[0].what if isinstance(error, BiltenError) else type(error).__name__
        return [
            Proof(
                "sampled values are those of the source",
                False,
                "a source to compare with",
                why,
                time.monotonic() - began,
                warns=True,
            )
        ]
    seconds = time.monotonic() - began
    course.figures["sampled_keys"] = len(samples)
    course.figures["untouched_keys"] = found.untouched
    return [
        _judged("values", found.untouched, found.equal, len(samples), seconds),
        _judged("times of expiry", found.untouched, found.expiry_equal, len(samples), 0.0),
    ]


def _judged(what: str, untouched: int, equal: int, sampled: int, seconds: float) -> Proof:
    found = f"{equal} of {untouched} equal, of {sampled} sampled"
    if not untouched and sampled:
        found = f"none of {sampled} sampled keys is as old there: nothing could be compared"
    return Proof(
        f"sampled {what} are those of the source",
        equal == untouched and (untouched > 0 or not sampled),
        "all that the source has not touched since the backup are equal",
        found,
        seconds,
        warns=untouched == 0 or equal * 2 > untouched,
    )


def _compare(settings: Settings, backup: Manifest, target: Path, samples: list[_Sample]) -> _Compared:
    from bilten_orchestration.stores import redis as stores

    found = _Compared()
    by_database: dict[int, list[bytes]] = {}
    for sample in samples:
        by_database.setdefault(sample.database, []).append(sample.key)
    for database, keys in by_database.items():
        of_database = settings.redis.model_copy(update={"database": database})
        with closing(stores.connect(of_database)) as source, _asked(target, database) as restored:
            _leave_no_touch(source)
            age = _now(source).timestamp() - backup.started_at.timestamp() + _TOUCH_RESOLUTION_SECONDS
            for key in keys:
                _compare_one(source, restored, key, age, found)
    return found


def _compare_one(source: Redis, restored: Redis, key: bytes, age: float, found: _Compared) -> None:
    from redis.exceptions import ResponseError

    if int(restored.memory_usage(key) or 0) > _LARGEST_BYTES:
        found.skipped += 1
        return
    try:
        idle = source.object("idletime", key)
    except ResponseError:  # it keeps frequencies instead (maxmemory-policy ...-lfu)
        idle = None
    if idle is None or int(idle) < age:
        found.gone_or_touched += 1
        return
    ours, expires = _value(restored, key), _expires(restored, key)
    if ours is None:  # expired meanwhile
        found.gone_or_touched += 1
        return
    found.untouched += 1
    found.equal += ours == _value(source, key)
    theirs = _expires(source, key)
    found.expiry_equal += (
        expires is None
        if theirs is None
        else expires is not None and abs(expires - theirs) <= _EXPIRY_APART_MILLISECONDS
    )


def _value(client: Redis, key: bytes) -> Any:
    """What it holds, in a form that is the same however a server keeps it; None when it is gone."""
    kind = client.type(key)
    match kind if isinstance(kind, str) else kind.decode():
        case "string":
            return client.get(key)
        case "hash":
            return client.hgetall(key)
        case "set":
            return client.smembers(key)
        case "zset":
            return sorted(client.zrange(key, 0, -1, withscores=True))
        case "list":
            return client.lrange(key, 0, -1)
        case "stream":
            return client.xrange(key)
        case "none":
            return None
        case other:  # of a module
            return (other, client.dump(key))


def _expires(client: Redis, key: bytes) -> float | None:
    """When, in milliseconds since 1970 by the server's clock; None for never."""
    left = int(client.pttl(key))
    return None if left < 0 else _now(client).timestamp() * 1000 + left


def _now(client: Redis) -> datetime:
    seconds, microseconds = client.time()
    return datetime.fromtimestamp(seconds + microseconds / 1e6, UTC)


def _leave_no_touch(client: Redis) -> None:
    from redis.exceptions import ResponseError

    try:
        client.execute_command("CLIENT NO-TOUCH ON")  # type: ignore[no-untyped-call]
    except ResponseError:  # before 7.2
        return
