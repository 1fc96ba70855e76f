"""An empty ClickHouse of our own: the embedded engine on a free port, with the disks that backups lie on.

Nobody else knows its password. It is killed when who started it ends (local/launch.py); what is left of its
directory belongs to whoever owns the place (backups/scratch.py).
"""

from __future__ import annotations

import importlib.util
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import SecretStr

from bilten_orchestration.backups.clickhouse import disks
from bilten_orchestration.backups.repository.keys import KeyRing
from bilten_orchestration.errors import Mismatch, Refused, StoreUnavailable
from bilten_orchestration.local import child, clickhouse_endpoint, health, ports
from bilten_orchestration.progress import Progress
from bilten_orchestration.settings import ClickHouseSettings, Settings

_ENGINE = "chdb"
_START_SECONDS = 120
_LAST_CHARACTERS = 600
LOG = "endpoint.log"


@contextmanager
def empty(
    settings: Settings, ring: KeyRing, directory: Path, progress: Progress
) -> Iterator[ClickHouseSettings]:
    """A server without databases of the platform's. `directory` is made where it is not there.

    Raises Refused without the embedded engine, Mismatch when it does not start.
    """
    if importlib.util.find_spec(_ENGINE) is None:
        raise Refused(
            "there is no ClickHouse to restore into: the live server is none for a proof",
            expected=f"the package {_ENGINE}, which is the embedded engine",
            found="none of that name",
            next="make install; or bilten restore clickhouse --backup ID --to-url another server",
        )
    server = ClickHouseSettings(
        host=ports.LOOPBACK,
        port=ports.any_free(),
        password=SecretStr(secrets.token_urlsafe(24)),
        analyst_password=SecretStr(secrets.token_urlsafe(24)),
        memory_bytes=settings.clickhouse.memory_bytes,
        query_timeout_seconds=settings.clickhouse.query_timeout_seconds,
    )
    endpoint = clickhouse_endpoint.Endpoint(
        directory, server, disks.configuration(settings.object_store, ring)
    )
    clickhouse_endpoint.initialise(endpoint)
    program = clickhouse_endpoint.program(endpoint)
    log = directory / LOG
    with log.open("ab") as written:
        process = child.start(
            program.argv,
            directory=directory,  # by which the place's next owner knows it
            environment={"PATH": os.defpath, "HOME": str(directory), "LC_ALL": "C", **program.environment},
            stdout=written,
        )
    try:
        progress(f"starting a ClickHouse of our own on port {server.port}")
        try:
            health.wait(
                lambda: health.clickhouse(settings.model_copy(update={"clickhouse": server})),
                seconds=_START_SECONDS,
                alive=lambda: process.poll() is None,
            )
        except StoreUnavailable as error:
            raise Mismatch(
                "a ClickHouse of our own does not start",
                expected=f"an answer within {_START_SECONDS} s",
                found=f"{error.problems[0].found}; it said: {log.read_text()[-_LAST_CHARACTERS:].strip()}",
                next="free memory or room in the state directory, then the same again",
            ) from None
        yield server
    finally:
        process.kill()  # what it holds is thrown away
        process.wait()
