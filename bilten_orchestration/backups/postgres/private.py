"""A restored server on a private socket: started, waited for, stopped.

Nobody reaches it but who may enter a directory that is its owner's alone; it listens on no network, follows
nobody and preloads nothing. It outlives the command that started it: `stop` finds it by its data directory.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TypedDict

import psycopg

from bilten_orchestration.errors import Mismatch, Problem, Refused
from bilten_orchestration.local.privileges import SERVER_USER, reachable
from bilten_orchestration.local.privileges import ServerUser as Owner
from bilten_orchestration.progress import Progress
from bilten_orchestration.settings import PostgresSettings
from bilten_orchestration.stores.postgres import Connection

__all__ = [
    "Owner",
    "Running",
    "bounded",
    "give",
    "last_words",
    "objections",
    "owner_of",
    "redo_seconds",
    "socket_of",
    "start",
    "stop",
]

PORT = 5432
RECORD = "bilten_restore.json"
LOG = "bilten_restore.log"
_HBA = "bilten_hba.conf"
_TOLD_SECONDS = 5
# a replay has no bound of its own; one that replays nothing for so long hangs
_STUCK_SECONDS = 300
_STOP_SECONDS = 120
# "redo done at 0/4000028 system usage: CPU: user: 0.01 s, system: 0.00 s, elapsed: 0.05 s" (xlogrecovery.c)
_SINCE_17 = {"event_triggers": "off", "sync_replication_slots": "off"}
_REDO = re.compile(r"redo done at .* elapsed: ([0-9.]+) s")


@dataclass(frozen=True, slots=True)
class Running:
    """A server that was started on `directory`. It lets in whoever reaches the socket."""

    directory: Path
    socket: Path
    user: str
    database: str

    @property
    def dsn(self) -> str:
        return f"host={self.socket} port={PORT} user={self.user} dbname={self.database}"

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        with psycopg.connect(
            self.dsn,
            autocommit=True,
            connect_timeout=10,
            application_name="bilten restore",
            options="-c TimeZone=UTC",
        ) as connection:
            yield connection


def bounded(megabytes: int) -> dict[str, str]:
    """Options of a server beside a live one: production's memory is production's."""
    return {"shared_buffers": f"{megabytes}MB", "huge_pages": "off"}


def owner_of(directory: Path) -> Owner | None:
    """Whom the restored files are given to; None: who calls.

    PostgreSQL refuses to run as root. Called by root, they go to the owner of the (empty) directory that was
    named, or of the one above it, and to `nobody` where both are root's.
    """
    if os.geteuid() != 0:
        return None
    for place in (directory, directory.absolute().parent):
        if place.exists() and (uid := place.stat().st_uid) != 0:
            entry = pwd.getpwuid(uid)
            return Owner(entry.pw_name, entry.pw_uid, entry.pw_gid)
    try:
        entry = pwd.getpwnam(SERVER_USER)
    except KeyError:
        raise Refused(
            f"there is nobody to give {directory} to: PostgreSQL refuses to run as root",
            expected="an empty directory whose owner is to run the server",
            found="root's",
            next=f"mkdir {directory} && chown postgres {directory}",
        ) from None
    return Owner(entry.pw_name, entry.pw_uid, entry.pw_gid)


def objections(place: Path, owner: Owner | None) -> list[Problem]:
    """What keeps the owner from the directories above."""
    if owner is None or reachable(place, owner):
        return []
    return [
        Problem(
            f"{owner.name}, who is to run the server, may not walk into {place}",
            expected="the right to search it and every directory above it",
            found="no such right",
            next=f"name a place that {owner.name} can reach, or chmod o+x on the way",
        )
    ]


def give(directory: Path, owner: Owner | None) -> None:
    """All of it to its owner, closed to everybody else (PostgreSQL insists)."""
    directory.chmod(0o700)
    if owner is None:
        return
    os.chown(directory, owner.uid, owner.gid)
    for parent, directories, files in os.walk(directory):
        for name in (*directories, *files):
            os.chown(os.path.join(parent, name), owner.uid, owner.gid, follow_symlinks=False)


def start(
    directory: Path,
    bin_directory: Path,
    postgres: PostgresSettings,
    owner: Owner | None,
    progress: Progress,
    *,
    options: Mapping[str, str] = MappingProxyType({}),
    paused: bool = False,
) -> Running:
    """Start it and wait until it is out of recovery, or, with `paused` (of a directory that was told
    recovery_target_action = pause), until it stands at its target, to be read only. `options` are more
    settings than our own.

    Raises Mismatch, with the server's own words, when it ends instead or gets nowhere; it is stopped then,
    and the directory stays.
    """
    # sockets want short paths; it is written down before it is made, or a kill in between would leave it
    socket = Path(tempfile.gettempdir()) / f"bilten-restore-{secrets.token_hex(8)}"
    (directory / _HBA).write_text("local all all trust\n")
    (directory / LOG).touch(0o600)
    running = Running(directory, socket, postgres.user, postgres.database)
    (directory / RECORD).write_text(
        json.dumps({"socket": str(socket), "bin": str(bin_directory), "dsn": running.dsn})
    )
    socket.mkdir(0o700)
    if owner is not None:
        for path in (socket, directory / _HBA, directory / LOG, directory / RECORD):
            os.chown(path, owner.uid, owner.gid)
    with (directory / LOG).open("ab") as log:
        process = subprocess.Popen(
            [bin_directory / "postgres", "-D", directory, *_options(directory, socket, options)],
            env={"LC_ALL": "C", "TZ": "UTC", "PATH": os.defpath},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=directory,
            **_as(owner),
        )
    try:
        _await(running, process, progress, paused=paused)
    except BaseException:
        stop(directory)
        raise
    return running


def stop(directory: Path) -> bool:
    """End the server that was started on a directory; whether there was one. The files stay.

    Raises Refused for a directory that no restore started a server on.
    """
    try:
        record = json.loads((directory / RECORD).read_text())
        socket, program = Path(record["socket"]), Path(record["bin"]) / "pg_ctl"
    except (OSError, ValueError, KeyError, TypeError):
        raise Refused(
            f"no restore has started a server on {directory}",
            expected=f"a directory with {RECORD}",
            found="none",
            next="name the directory that `bilten restore postgres --to` was given",
        ) from None
    ran = (directory / "postmaster.pid").exists()
    if ran:
        done = subprocess.run(
            [program, "stop", "-D", directory, "-m", "fast", "-w", "-t", str(_STOP_SECONDS)],
            env={"LC_ALL": "C", "PATH": os.defpath},
            capture_output=True,
            text=True,
            check=False,
            **_as(_owner_of_files(directory)),
        )
        if done.returncode and "not running" not in (said := done.stdout + done.stderr):
            if "No such process" not in said and "PID file" not in said:
                raise Mismatch(
                    f"the server on {directory} does not stop",
                    expected=f"an end within {_STOP_SECONDS} s",
                    found=said.strip()[-300:],
                    next=f"see {directory / LOG}",
                )
            ran = False
    shutil.rmtree(socket, ignore_errors=True)
    return ran


def _owner_of_files(directory: Path) -> Owner | None:
    found = directory.stat()
    if os.geteuid() != 0 or found.st_uid == 0:
        return None
    entry = pwd.getpwuid(found.st_uid)
    return Owner(entry.pw_name, entry.pw_uid, entry.pw_gid)


class _As(TypedDict, total=False):
    user: int
    group: int
    extra_groups: list[int]


def _as(owner: Owner | None) -> _As:
    return {} if owner is None else {"user": owner.uid, "group": owner.gid, "extra_groups": []}


def socket_of(directory: Path) -> Path:
    """Of the server that was started on a directory."""
    return Path(json.loads((directory / RECORD).read_text())["socket"])


def redo_seconds(directory: Path) -> float | None:
    """What PostgreSQL said that replay took when it was last started; None when there was nothing to replay,
    or it did not say."""
    found = _REDO.findall((directory / LOG).read_text(errors="replace"))
    return float(found[-1]) if found else None


def _options(directory: Path, socket: Path, more: Mapping[str, str]) -> list[str]:
    told = {
        "config_file": directory / "postgresql.conf",
        "data_directory": directory,
        "hba_file": directory / _HBA,
        "ident_file": directory / "pg_ident.conf",
        "external_pid_file": "",
        "listen_addresses": "",
        "unix_socket_directories": socket,
        "unix_socket_permissions": "0700",
        "port": PORT,
        "ssl": "off",
        "hot_standby": "on",
        "logging_collector": "off",
        "log_destination": "stderr",
        "shared_preload_libraries": "",
        "max_logical_replication_workers": 0,
        "archive_mode": "off",
        "restart_after_crash": "off",
        # nobody's programs are run, nobody is followed, and no commit waits for anybody
        "archive_command": "",
        "archive_cleanup_command": "",
        "recovery_end_command": "",
        "primary_conninfo": "",
        "synchronous_standby_names": "",
        "session_preload_libraries": "",
        "local_preload_libraries": "",
        "lc_messages": "C",
        **(_SINCE_17 if int((directory / "PG_VERSION").read_text()) >= 17 else {}),
        **more,
    }
    (directory / "pg_ident.conf").touch()
    return [part for name, value in told.items() for part in ("-c", f"{name}={value}")]


def _await(
    running: Running, process: subprocess.Popen[bytes], progress: Progress, *, paused: bool = False
) -> None:
    told = time.monotonic()
    last, moved = "", time.monotonic()
    while True:
        if process.poll() is not None:
            raise Mismatch(
                "recovery did not come to its end",
                expected="a server that reaches the target, and takes over",
                found=last_words(running.directory),
                next=f"see {running.directory / LOG}; bilten reach shows what can be restored",
            )
        try:
            with running.connect() as connection:
                row = connection.execute(
                    "select pg_is_in_recovery(), coalesce(pg_last_wal_replay_lsn()::text, ''),"
                    " case when pg_is_in_recovery() then pg_get_wal_replay_pause_state() = 'paused'"
                    " else false end"
                ).fetchone()
        except psycopg.OperationalError:
            row = None  # not yet consistent
        if row is not None and row[2 if paused else 0] is paused:
            return
        now = time.monotonic()
        at = f"{row[1]}" if row is not None else last_words(running.directory)
        if at != last:
            last, moved = at, now
        elif now - moved > _STUCK_SECONDS:
            raise Mismatch(
                "recovery hangs",
                expected=f"a record replayed within {_STUCK_SECONDS} s",
                found=f"none behind {at}",
                next=f"see {running.directory / LOG}",
            )
        if now - told > _TOLD_SECONDS:
            told = now
            progress(f"replaying: {at}")
        time.sleep(0.05)


def last_words(directory: Path) -> str:
    """What the server said of its end: the first line that is fatal, with what follows it."""
    lines = (directory / LOG).read_text(errors="replace").splitlines()
    fatal = [number for number, line in enumerate(lines) if "FATAL" in line or "PANIC" in line]
    chosen = lines[fatal[-1] : fatal[-1] + 3] if fatal else lines[-2:]
    return " | ".join(line.strip() for line in chosen)[-600:]
