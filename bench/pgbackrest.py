"""Full backup and restore of PostgreSQL 15, or 16, beside pgBackRest (Debian 12 has 15 and its 2.45).

Both write zstd -1 and encrypt, on the same server, into the same store. pgBackRest speaks S3 over TLS alone,
so that store has a certificate made for the run, and ours goes over TLS as well. A third contestant is
pgBackRest into a directory of the local disk. It archives WAL all the while, as its backups need it.

What differs: pgBackRest reads the files of the data directory itself, two at a time, and compares SHA-1 on
the way back; ours asks the server for its stream, and pg_verifybackup reads all files at the end. A restore
ends when its files are on disk (`sync`), for pgBackRest does that by itself.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.harness import OURS, Comparison, Context, take_turns
from bilten_orchestration.backups.postgres import base
from bilten_orchestration.backups.postgres.restore import restore
from bilten_orchestration.backups.postgres.targets import Target
from bilten_orchestration.local import postgres as embedded
from bilten_orchestration.local import privileges
from tests import other_postgres

PROGRAM = "pgbackrest"
_STANZA = "bench"
_AT_ONCE = 2
_REPOSITORIES = {"pgBackRest, the same S3 store": 1, "pgBackRest, a directory": 2}


def lacking() -> str:
    """What is not on this machine and must be; empty when nothing is."""
    said = [
        f"no {program} on PATH" for program in (PROGRAM, "openssl", "sync") if shutil.which(program) is None
    ]
    if not other_postgres.find():
        said.append(other_postgres.missing())
    return "; ".join(said)


def side_by_side(context: Context, server: other_postgres.OtherPostgres) -> list[Comparison]:
    """A full backup, and the way back, by each."""
    place = Path(tempfile.mkdtemp(prefix="bilten-bench-"))
    place.chmod(0o755)
    try:
        rival = _Rival.prepared(context, server, place)
        return [_backup(context, rival), _restore(context, rival, place)]
    finally:
        with embedded.superuser(server.cluster) as connection:
            connection.execute("alter system reset archive_command")
            connection.execute("select pg_reload_conf()")
        shutil.rmtree(place, ignore_errors=True)


def _backup(context: Context, rival: _Rival) -> Comparison:
    raw, stored = 0, dict[str, int]()

    def ours() -> None:
        nonlocal raw
        manifest = base.take(context.settings, "full").manifest
        raw, stored[OURS] = manifest.raw_bytes, manifest.stored_bytes

    def theirs(name: str) -> Callable[[], None]:
        def run() -> None:
            rival.run("backup", "--type=full", f"--repo={_REPOSITORIES[name]}")

        return run

    seconds = take_turns(
        {OURS: ours, **{name: theirs(name) for name in _REPOSITORIES}},
        context.runs,
        context.progress,
        after=lambda who: None if who == OURS else stored.update({who: rival.stored(_REPOSITORIES[who])}),
    )
    sizes = ", ".join(f"{who} {size >> 20} MiB" for who, size in stored.items())
    return _comparison(context, rival, "backup-full", raw, seconds, f"stored: {sizes}")


def _restore(context: Context, rival: _Rival, place: Path) -> Comparison:
    taken = base.take(context.settings, "full").manifest
    fetched: list[float] = []

    def ours() -> None:
        report = restore(context.settings, Target("backup", taken.id), place / "restored")
        fetched.append(report.phases.find_seconds + report.phases.fetch_seconds)
        _to_disk(place)

    def theirs(name: str) -> Callable[[], None]:
        def run() -> None:
            rival.run(
                "restore",
                f"--repo={_REPOSITORIES[name]}",
                f"--pg1-path={place / 'restored'}",
                "--type=immediate",
            )
            _to_disk(place)

        return run

    def empty(who: str) -> None:
        if who != OURS:
            privileges.server_directory(place / "restored", rival.server.user)

    seconds = take_turns(
        {OURS: ours, **{name: theirs(name) for name in _REPOSITORIES}},
        context.runs,
        context.progress,
        before=empty,
        after=lambda _: shutil.rmtree(place / "restored"),
    )
    middle = sorted(fetched)[len(fetched) // 2]
    return _comparison(
        context,
        rival,
        "restore-verified",
        taken.raw_bytes,
        seconds,
        f"ours without pg_verifybackup and sync {middle:.2f} s; pgBackRest compares SHA-1 as it writes",
    )


def _comparison(
    context: Context, rival: _Rival, bench: str, raw_bytes: int, seconds: dict[str, float], note: str
) -> Comparison:
    conditions = (
        f"{rival.version}: process-max={_AT_ONCE}, zst level 1, aes-256-cbc, bundles; S3 over TLS for both"
    )
    return Comparison(
        f"{bench}, PostgreSQL {rival.server.major}",
        context.scale,
        f"{raw_bytes / 2**30:.2f} GiB",
        seconds,
        context.runs,
        note=f"{conditions}; {note}",
    )


def _to_disk(place: Path) -> None:
    subprocess.run(["sync", "--file-system", place], check=True)


@dataclass(frozen=True, slots=True)
class _Rival:
    """pgBackRest with its configuration, run as the server's user."""

    server: other_postgres.OtherPostgres
    configuration: Path
    version: str

    @classmethod
    def prepared(cls, context: Context, server: other_postgres.OtherPostgres, place: Path) -> _Rival:
        """With both repositories made, and the server archiving into them."""
        for name in ("log", "lock", "spool", "repository"):
            privileges.server_directory(place / name, server.user)
        store = context.settings.object_store
        address = urlsplit(str(store.endpoint_url))
        wanted = {
            "repo1-type": "s3",
            "repo1-path": "/pgbackrest",
            "repo1-s3-bucket": store.bucket_dagster,
            "repo1-s3-endpoint": address.hostname,
            "repo1-s3-region": store.region,
            "repo1-s3-uri-style": "path",
            "repo1-s3-key": store.access_key_id.get_secret_value(),
            "repo1-s3-key-secret": store.secret_access_key.get_secret_value(),
            "repo1-storage-port": address.port,
            "repo1-storage-verify-tls": "n",  # its check of names knows no addresses
            "repo2-path": place / "repository",
            **{
                f"repo{number}-{name}": value
                for number in _REPOSITORIES.values()
                for name, value in (
                    ("bundle", "y"),
                    ("cipher-type", "aes-256-cbc"),
                    ("cipher-pass", secrets.token_urlsafe(32)),
                    ("retention-full", 100),
                )
            },
            "compress-type": "zst",
            "compress-level": 1,
            "process-max": _AT_ONCE,
            "start-fast": "y",
            "expire-auto": "n",
            "log-level-console": "warn",
            "log-level-file": "off",
            **{f"{name}-path": place / name for name in ("log", "lock", "spool")},
        }
        of_server = {
            "pg1-path": server.cluster.data,
            "pg1-port": server.cluster.port,
            "pg1-socket-path": server.cluster.socket_directory,
            "pg1-user": embedded.SUPERUSER,
        }
        configuration = place / "pgbackrest.conf"
        privileges.server_file(
            configuration,
            "[global]\n"
            + "".join(f"{name}={value}\n" for name, value in wanted.items())
            + f"[{_STANZA}]\n"
            + "".join(f"{name}={value}\n" for name, value in of_server.items()),
            server.user,
        )
        said = subprocess.run([PROGRAM, "version"], capture_output=True, text=True, check=True).stdout
        rival = cls(server, configuration, said.strip())
        rival.run("stanza-create")
        with embedded.superuser(server.cluster) as connection:
            archive = f"{PROGRAM} --config={configuration} --stanza={_STANZA} archive-push %p"
            connection.execute(f"alter system set archive_command = '{archive}'".encode())
            connection.execute("select pg_reload_conf()")
        rival.run("check")
        return rival

    def run(self, *arguments: str) -> str:
        """What it said. Raises AssertionError with that when it failed."""
        user = self.server.user
        done = subprocess.run(
            [PROGRAM, f"--config={self.configuration}", f"--stanza={_STANZA}", *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            **({"user": user.uid, "group": user.gid, "extra_groups": []} if user else {}),  # type: ignore[call-overload]
        )
        assert done.returncode == 0, f"{PROGRAM} {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return str(done.stdout)

    def stored(self, repository: int) -> int:
        """Bytes of the newest backup in a repository."""
        (stanza,) = json.loads(self.run("info", "--output=json", f"--repo={repository}"))
        newest: dict[str, Any] = stanza["backup"][-1]
        return int(newest["info"]["repository"]["delta"])
