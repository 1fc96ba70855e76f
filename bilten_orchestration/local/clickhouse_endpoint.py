"""The embedded ClickHouse endpoint as a program of the stack; what it is and does is in clickhouse/."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

from bilten_orchestration.local.clickhouse.config import (
    ConfigError,
    EndpointConfig,
    User,
    hash_password,
    load_config,
    verify_password,
    write_config,
)
from bilten_orchestration.local.fingerprint import fingerprint
from bilten_orchestration.local.ports import LOOPBACK
from bilten_orchestration.local.privileges import server_file
from bilten_orchestration.local.programs import Program
from bilten_orchestration.settings import CHECKOUT, ClickHouseSettings

SMALLEST_QUERY_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`directory` keeps data and configuration. It runs as whoever calls: it is Python, see privileges.py."""

    directory: Path
    settings: ClickHouseSettings
    disks: str = field(default="", repr=False)
    """Of backups, as XML with keys and secrets (backups/clickhouse/disks.py); none: no backups."""

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def configuration(self) -> Path:
        return self.directory / "config.json"

    @property
    def disks_file(self) -> Path:
        return self.directory / "disks.xml"


def initialise(endpoint: Endpoint) -> None:
    """Make the directories, and write the configuration unless the one that stands says the same."""
    for directory in (endpoint.directory, endpoint.data):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
    if endpoint.disks and not _holds(endpoint.disks_file, endpoint.disks):
        server_file(endpoint.disks_file, endpoint.disks, None)
    wanted = _configuration(endpoint)
    if not _says_the_same(endpoint, wanted):
        write_config(wanted, endpoint.configuration)


def program(endpoint: Endpoint) -> Program:
    return Program(
        name="clickhouse",
        argv=(
            sys.executable,
            "-m",
            "bilten_orchestration.local.clickhouse",
            "--config",
            str(endpoint.configuration),
        ),
        directory=endpoint.directory,
        port=endpoint.settings.port,
        environment={
            "PYTHONPATH": str(CHECKOUT),
            "PYTHONUNBUFFERED": "1",
            "TZ": "UTC",
            "CODE_FINGERPRINT": fingerprint("bilten_orchestration/local/clickhouse"),
        },
        # other keys or another bucket: the engine reads its disks when it starts
        files=(endpoint.configuration, *([endpoint.disks_file] if endpoint.disks else [])),
        stop_seconds=30,
        start_seconds=3,
        start_order=10,
    )


def _configuration(endpoint: Endpoint) -> EndpointConfig:
    settings = endpoint.settings
    return EndpointConfig(
        data_dir=endpoint.data,
        host=LOOPBACK,
        port=settings.port,
        users={
            settings.user: User(
                password_hash=hash_password(settings.password.get_secret_value()), profile="etl"
            ),
            settings.analyst_user: User(
                password_hash=hash_password(settings.analyst_password.get_secret_value()), profile="analyst"
            ),
        },
        max_server_memory_bytes=settings.memory_bytes,
        max_query_memory_bytes=max(SMALLEST_QUERY_BYTES, settings.memory_bytes * 3 // 4),
        extra_engine_config=endpoint.disks_file if endpoint.disks else None,
    )


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text() == text and not path.stat().st_mode & 0o077


def _says_the_same(endpoint: Endpoint, wanted: EndpointConfig) -> bool:
    """Equal but for the salts of the password hashes: writing others would restart the endpoint."""
    try:
        found = load_config(endpoint.configuration)
    except ConfigError:
        return False
    passwords = {
        endpoint.settings.user: endpoint.settings.password,
        endpoint.settings.analyst_user: endpoint.settings.analyst_password,
    }
    return found.model_copy(update={"users": wanted.users}) == wanted and all(
        name in found.users
        and found.users[name].profile == wanted.users[name].profile
        and verify_password(password.get_secret_value(), found.users[name].password_hash)
        for name, password in passwords.items()
    )
