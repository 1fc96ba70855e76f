"""What a backup must know of the server, and what forbids one: asked before anything is sent.

INFO alone is needed. It answers while the server loads and while it refuses writes, and providers that forbid
CONFIG allow it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bilten_orchestration.backups.redis import spool
from bilten_orchestration.backups.redis.programs import Program, parsed
from bilten_orchestration.errors import Problem, Refused, StoreUnavailable
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores.redis import address_of

if TYPE_CHECKING:
    from redis import Redis

OLDEST = (6, 2)
# names of files that a start reads (redis.conf), with what a server without the setting uses
FILE_NAMES = {
    "dbfilename": "dump.rdb",
    "appendfilename": "appendonly.aof",
    "appenddirname": "appendonlydir",
}


@dataclass(frozen=True, slots=True)
class Server:
    """`used_memory` is what its data take in bytes: more than a snapshot of them."""

    version: str
    info: Mapping[str, Any]
    forbidden: tuple[Problem, ...] = ()

    @property
    def used_memory(self) -> int:
        return int(self.info["used_memory_dataset"])

    @property
    def saves(self) -> bool:
        """Whether its last snapshot succeeded."""
        return self.info.get("rdb_last_bgsave_status") == "ok"


def look(client: Redis, settings: Settings, program: Program) -> Server:
    """Raises Refused with everything that forbids a backup, StoreUnavailable while the server loads."""
    found = facts(client)
    if found.info.get("loading"):
        raise StoreUnavailable(
            f"Redis at {address_of(settings.redis)} is loading its data",
            expected="a server that has loaded all of them",
            found=f"{found.info.get('loading_loaded_perc', '?')} %",
            next="the same again later",
        )
    problems = list(found.forbidden)
    if program.reads < parsed(found.version):
        problems.append(older_program(program, found.version))
    free = spool.room(settings)
    if free.bytes < found.used_memory:
        problems.extend(free.refusal(found.used_memory, f"{free.bytes >> 20:,} MiB").problems)
    if problems:
        raise Refused(problems)
    return found


def facts(client: Redis) -> Server:
    """What there is, also when that forbids a backup; `forbidden` is what lies with the server."""
    info: dict[str, Any] = client.info()
    version = str(info["redis_version"])
    problems = []
    if parsed(version) < OLDEST:
        problems.append(
            Problem(
                "this Redis is too old",
                expected=f"{OLDEST[0]}.{OLDEST[1]} or later",
                found=version,
                next="upgrade the server",
            )
        )
    if info.get("cluster_enabled"):
        problems.append(
            Problem(
                "this Redis is one node of a cluster",
                expected="a server that holds all keys",
                found="cluster_enabled:1",
                next="back up each primary by settings of its own; one node is no backup of the whole",
            )
        )
    return Server(version, info, tuple(problems))


def older_program(program: Program, version: str) -> Problem:
    return Problem(
        f"{program.binary} is older than what is to be read",
        expected=f"redis-server {version.rpartition('.')[0]} or later",
        found=program.version,
        next="set BILTEN_REDIS__REDIS_BIN to the directory of such a one",
    )


def configured(client: Redis, *names: str) -> dict[str, str] | str:
    """Settings of the server by name, those that it does not know left out; or why it does not tell."""
    from redis.exceptions import ResponseError

    found: dict[str, str] = {}
    for name in names:
        try:
            found.update(client.config_get(name))  # type: ignore[arg-type]
        except ResponseError as error:
            return str(error)[:200]
    return found
