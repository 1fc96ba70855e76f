"""A PostgreSQL of another major than the embedded one, where this machine has its programs.

The programs are run where they lie (a package of the system, or PATH); the cluster is the test's own. It is
set up as the platform asks of an outside server: data checksums, wal_level, slots, roles, extensions. Its
configuration lies beside the data directory and not in it, as Debian has it: no base backup holds it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bilten_orchestration.local import ports, privileges
from bilten_orchestration.local import postgres as embedded
from bilten_orchestration.local.programs import Program
from bilten_orchestration.settings import PostgresSettings
from tests import stack

if TYPE_CHECKING:
    from _pytest.mark import ParameterSet

    from tests.conftest import Servers

MAJORS = (15, 16)
_NEEDED = (
    "initdb",
    "postgres",
    "pg_basebackup",
    "pg_controldata",
    "pg_ctl",
    "pg_dump",
    "pg_dumpall",
    "pg_receivewal",
    "pg_restore",
    "pg_verifybackup",
    "pg_waldump",
)


@dataclass(frozen=True, slots=True)
class Programs:
    """Those of one major."""

    major: int
    directory: Path


def find(majors: tuple[int, ...] = MAJORS) -> tuple[Programs, ...]:
    """What is there of these majors, in their order."""
    found: dict[int, Programs] = {}
    for directory in _places(majors):
        if not all(os.access(directory / program, os.X_OK) for program in _NEEDED):
            continue
        said = subprocess.run(
            [directory / "postgres", "--version"], capture_output=True, text=True, check=False
        ).stdout
        version = re.search(r"(\d+)(?:\.\d+|\w+)", said)
        if version is not None and int(version[1]) in majors:
            found.setdefault(int(version[1]), Programs(int(version[1]), directory))
    return tuple(found[major] for major in majors if major in found)


def each(majors: tuple[int, ...] = MAJORS) -> list[ParameterSet]:
    """Parameters of a fixture: every one that is there; without any its tests are skipped, and say why."""
    said = " or ".join(map(str, majors))
    missing = f"no server programs of PostgreSQL {said}, neither in /usr/lib/postgresql nor on PATH"
    return [pytest.param(found, id=str(found.major)) for found in find(majors)] or [
        pytest.param(None, id="none", marks=pytest.mark.skip(reason=missing))
    ]


@contextmanager
def started(servers: Servers, programs: Programs) -> Iterator[OtherPostgres]:
    """A server of a cluster of its own, and nothing of it afterwards."""
    name = f"postgres-{programs.major}-{next(servers.numbers)}"
    with stack.stopping() as running:
        made = start(servers.base, name, programs)
        running.append(made)
        yield made
    shutil.rmtree(servers.base / name)


def _places(majors: tuple[int, ...]) -> Iterator[Path]:
    for major in majors:
        yield Path(f"/usr/lib/postgresql/{major}/bin")  # Debian
        yield Path(f"/usr/pgsql-{major}/bin")  # the project's own packages for Red Hat
    for part in os.environ.get("PATH", os.defpath).split(os.pathsep):
        if part:
            yield Path(part).resolve()


@dataclass
class OtherPostgres(stack.PostgresServer):
    """`settings` say where its programs are, as they must for a server that is not the embedded one."""

    major: int = field(kw_only=True)

    def start(self) -> None:
        self.program = _program(self.cluster)
        stack.Server.start(self)

    def settings(
        self, database: str = "bilten", dagster_database: str = "bilten_dagster"
    ) -> PostgresSettings:
        known = super().settings(database, dagster_database)
        return known.model_copy(update={"pg_bin": self.cluster.bin})


def start(
    base: Path, name: str, programs: Programs, *, durable: bool = False, changed: Mapping[str, str] = {}
) -> OtherPostgres:
    """A new cluster with roles, passwords, databases and extensions; `changed`: more of postgresql.conf."""
    user = privileges.server_user()
    assert privileges.reachable(programs.directory, user), f"{user} cannot walk to {programs.directory}"
    directory = base / name
    directory.mkdir()
    cluster = embedded.Cluster(
        data=directory / "data",
        socket_directory=directory / "socket",
        port=ports.any_free(),
        bin=programs.directory,
        user=user,
        durable=durable,
    )
    _initialise(cluster, changed)

    def ready() -> str:
        from bilten_orchestration.stores.postgres import connect

        with connect(server.superuser, autocommit=True) as connection:
            connection.execute("select 1")
        return "ready"

    server = OtherPostgres(
        program=_program(cluster),
        ready=ready,
        log=directory / "log",
        user=user,
        cluster=cluster,
        major=programs.major,
    )
    server.start()
    embedded.provision(cluster, server.settings())
    return server


def _configuration(cluster: embedded.Cluster) -> Path:
    return cluster.data.with_name("etc")


def _program(cluster: embedded.Cluster) -> Program:
    argv = (str(cluster.bin / "postgres"), "-D", str(_configuration(cluster)))
    return replace(embedded.program(cluster), argv=argv, files=())


def _initialise(cluster: embedded.Cluster, changed: Mapping[str, str]) -> None:
    """As an administrator would: initdb of that major, and what `bilten backup preflight` asks for."""
    privileges.server_directory(cluster.data, cluster.user)
    privileges.server_directory(cluster.socket_directory, cluster.user)
    subprocess.run(
        [
            cluster.bin / "initdb",
            f"--pgdata={cluster.data}",
            f"--username={embedded.SUPERUSER}",
            "--auth=scram-sha-256",
            "--auth-local=peer",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--data-checksums",
            "--no-instructions",
            "--no-sync",
        ],
        check=True,
        capture_output=True,
        cwd="/",
        env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
        **(  # type: ignore[call-overload]
            {"user": cluster.user.uid, "group": cluster.user.gid, "extra_groups": []} if cluster.user else {}
        ),
    )
    wanted = {
        "data_directory": str(cluster.data),
        "listen_addresses": ports.LOOPBACK,
        "port": str(cluster.port),
        "unix_socket_directories": str(cluster.socket_directory),
        "dynamic_shared_memory_type": "mmap",
        "wal_level": "logical",
        "max_replication_slots": "20",
        "max_wal_senders": "20",
        "max_slot_wal_keep_size": "4GB",
        "max_prepared_transactions": "20",
        "shared_preload_libraries": "pg_stat_statements",
        "TimeZone": "UTC",
        **({} if cluster.durable else {"fsync": "off", "full_page_writes": "off"}),
        **changed,
    }
    configuration = privileges.server_directory(_configuration(cluster), cluster.user)
    names = {embedded.pwd_name(os.geteuid())} | ({cluster.user.name} if cluster.user else set())
    for name, text in (
        ("postgresql.conf", "".join(f"{setting} = '{value}'\n" for setting, value in wanted.items())),
        ("pg_hba.conf", _HBA),
        ("pg_ident.conf", "".join(f'setup "{name}" {embedded.SUPERUSER}\n' for name in sorted(names))),
    ):
        privileges.server_file(configuration / name, text, cluster.user)
        (cluster.data / name).unlink()


_HBA = f"""\
local all {embedded.SUPERUSER} peer map=setup
local all all scram-sha-256
local replication all scram-sha-256
host all all {ports.LOOPBACK}/32 scram-sha-256
host replication all {ports.LOOPBACK}/32 scram-sha-256
"""
