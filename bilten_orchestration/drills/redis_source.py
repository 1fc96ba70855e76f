"""Sampled keys of a restored Redis against the source: values and times of expiry. drills/redis.py says which
of them can be judged."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bilten_orchestration.backups.redis import scratch
from bilten_orchestration.backups.repository.manifest import Manifest
from bilten_orchestration.drills.course import Course
from bilten_orchestration.drills.report import Proof
from bilten_orchestration.errors import BiltenError
from bilten_orchestration.settings import Settings

if TYPE_CHECKING:
    from redis import Redis

_ANSWER_SECONDS = 60
_LARGEST_BYTES = 256 << 10
_TOUCH_RESOLUTION_SECONDS = 5
_EXPIRY_APART_MILLISECONDS = 2_000


@dataclass(frozen=True, slots=True)
class Sample:
    database: int
    key: bytes


@contextmanager
def asked(target: Path, database: int) -> Iterator[Redis]:
    from redis import Redis

    socket = str(target / scratch.SOCKET)
    with closing(Redis(unix_socket_path=socket, db=database, socket_timeout=_ANSWER_SECONDS)) as client:
        yield client


@dataclass
class _Compared:
    untouched: int = 0
    equal: int = 0
    expiry_equal: int = 0
    gone_or_touched: int = 0
    skipped: int = 0


def against_source(
    settings: Settings, backup: Manifest, target: Path, samples: list[Sample], course: Course
) -> list[Proof]:
    from redis.exceptions import RedisError

    began = time.monotonic()
    try:
        found = _compare(settings, backup, target, samples)
    except (BiltenError, RedisError) as error:
        # without the server's words, which may quote a key
        why = (
            error.problems[0].what
            if isinstance(error, BiltenError)
            else f"the source did not answer any more ({type(error).__name__}); bilten status"
        )
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
        # a key or two may have been written past the clock of touches, which counts whole seconds
        warns=untouched == 0 or (untouched - equal) * 50 <= untouched,
    )


def _compare(settings: Settings, backup: Manifest, target: Path, samples: list[Sample]) -> _Compared:
    from bilten_orchestration.stores import redis as stores

    found = _Compared()
    by_database: dict[int, list[bytes]] = {}
    for sample in samples:
        by_database.setdefault(sample.database, []).append(sample.key)
    for database, keys in by_database.items():
        of_database = settings.redis.model_copy(update={"database": database})
        with closing(stores.connect(of_database)) as source, asked(target, database) as restored:
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
