"""Real servers for the tests: the programs of the embedded stack, run as children of pytest.

Everything lies in one temporary directory (in memory where there is room for it), on free ports. A server
dies with the test process even when that is killed (PR_SET_PDEATHSIG); the directory it leaves is removed by
the next test run.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import psutil
import pytest
from pydantic import SecretStr

from bilten_orchestration.errors import StoreUnavailable
from bilten_orchestration.local import health, object_store, ports, postgres, privileges, processes, redis
from bilten_orchestration.local.opensearch import server as opensearch
from bilten_orchestration.local.opensearch.jars import NotFetched
from bilten_orchestration.local.programs import Program
from bilten_orchestration.settings import (
    ClickHouseSettings,
    ObjectStoreSettings,
    OpenSearchSettings,
    PostgresSettings,
    RedisSettings,
    Settings,
)

PREFIX = "bilten-test-"
START_SECONDS = 180  # of a loaded machine; one that died is not waited for
PASSWORD = SecretStr("test-password-1234")
SIGNALS = {"TERM": signal.SIGTERM, "INT": signal.SIGINT}
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


MEMORY = Path("/dev/shm")
MEMORY_BYTES = 10 << 30


def temporary_directory() -> str | None:
    """A file system in memory that can take a test run (4 GiB at most were seen), or None.

    Half of a run on a disk is waiting for it: clusters are made and removed by the hundred. A SIGKILL loses
    nothing in either place, for what was written is the kernel's.
    """
    try:
        room = os.statvfs(MEMORY)
    except OSError:
        return None
    free = min(room.f_bavail * room.f_frsize, psutil.virtual_memory().available)
    runs_programs = not room.f_flag & os.ST_NOEXEC
    return str(MEMORY) if runs_programs and os.access(MEMORY, os.W_OK) and free >= MEMORY_BYTES else None


def make_base(prefix: str = PREFIX, before_removal: Callable[[Path], object] = lambda old: None) -> Path:
    """The directory of this test run, which other users may walk through; leftovers of dead runs go."""
    parent = Path(tempfile.gettempdir())
    for old in parent.glob(f"{prefix}*"):
        with contextlib.suppress(OSError, ValueError):
            if old.stat().st_uid == os.geteuid() and not _lives((old / "owner").read_text()):
                before_removal(old)
                shutil.rmtree(old, ignore_errors=True)
    base = Path(tempfile.mkdtemp(prefix=prefix))
    base.chmod(0o755)
    (base / "owner").write_text(f"{os.getpid()} {psutil.Process().create_time()}")
    return base


def _lives(owner: str) -> bool:
    pid, started = owner.split()
    with contextlib.suppress(psutil.NoSuchProcess):
        return abs(psutil.Process(int(pid)).create_time() - float(started)) < 1
    return False


@dataclass
class Server:
    """One running program. `kill` is what a power cut does to it; `stop` is orderly."""

    program: Program
    ready: Callable[[], str]
    log: Path
    user: privileges.ServerUser | None
    process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None, f"{self.program.name} does not run"
        return self.process.pid

    def start(self) -> None:
        native = self.program.as_server_user and self.user is not None

        def become() -> None:
            if native and self.user is not None:
                os.setgroups([])
                os.setgid(self.user.gid)
                os.setuid(self.user.uid)
            # after setuid, which clears it; a postmaster takes its children along on SIGQUIT only
            _libc.prctl(
                PR_SET_PDEATHSIG, signal.SIGQUIT if self.program.name == "postgres" else signal.SIGKILL
            )

        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.program.argv,
                cwd=self.program.directory,
                env={**_environment(), **self.program.environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=become,
            )
        try:
            health.wait(
                self.ready,
                seconds=START_SECONDS,
                alive=lambda: self.process is not None and self.process.poll() is None,
            )
        except StoreUnavailable as error:
            raise RuntimeError(
                f"{self.program.name} did not start: {error}\n{self.log.read_text()[-3000:]}"
            ) from error

    def kill(self) -> None:
        """SIGKILL to the server and whatever it had started."""
        if self.process is None:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            family = [
                psutil.Process(self.process.pid),
                *psutil.Process(self.process.pid).children(recursive=True),
            ]
            for member in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    member.kill()
            deadline = time.monotonic() + 30
            while any(processes.runs(member) for member in family) and time.monotonic() < deadline:
                time.sleep(0.01)
        self.process.wait(timeout=30)
        self.process = None

    def stop(self) -> None:
        if self.process is None:
            return
        self.process.send_signal(SIGNALS[self.program.stop_signal])
        try:
            self.process.wait(timeout=self.program.stop_seconds)
            self.process = None
        except subprocess.TimeoutExpired:
            self.kill()

    def restart(self) -> None:
        self.stop()
        self.start()


def _environment() -> dict[str, str]:
    keep = ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH", "VIRTUAL_ENV")
    return {name: os.environ[name] for name in keep if name in os.environ}


@dataclass
class PostgresServer(Server):
    """`superuser` is the server as its superuser sees it (over the socket, no password)."""

    cluster: postgres.Cluster = field(kw_only=True)

    @property
    def superuser(self) -> PostgresSettings:
        return PostgresSettings(
            host=str(self.cluster.socket_directory),
            port=self.cluster.port,
            database="postgres",
            user=postgres.SUPERUSER,
        )

    def settings(
        self, database: str = "bilten", dagster_database: str = "bilten_dagster"
    ) -> PostgresSettings:
        """The server as the platform sees it."""
        return PostgresSettings(
            host=ports.LOOPBACK,
            port=self.cluster.port,
            database=database,
            dagster_database=dagster_database,
            password=PASSWORD,
            app_password=PASSWORD,
            readonly_password=PASSWORD,
            etl_password=PASSWORD,
            dagster_password=PASSWORD,
        )

    def start(self) -> None:
        self.program = postgres.program(self.cluster)  # clears a stale pid file
        super().start()


def start_postgres(base: Path, name: str = "postgres", *, durable: bool = False) -> PostgresServer:
    """A new cluster with roles, passwords and databases; `durable` keeps fsync on."""
    user = privileges.server_user()
    directory = base / name
    directory.mkdir()
    cluster = postgres.Cluster(
        data=directory / "data",
        socket_directory=directory / "socket",
        port=ports.any_free(),
        bin=postgres.binaries(base, user),
        user=user,
        durable=durable,
    )
    postgres.initialise(cluster)
    # else each server that a test kills leaves a megabyte in /dev/shm, and no other one finds it
    with (cluster.data / "postgresql.auto.conf").open("a") as settings:
        settings.write("dynamic_shared_memory_type = 'mmap'\n")

    def ready() -> str:
        from bilten_orchestration.stores.postgres import connect

        with connect(server.superuser, autocommit=True) as connection:
            connection.execute("select 1")
        return "ready"

    server = PostgresServer(
        program=postgres.program(cluster), ready=ready, log=directory / "log", user=user, cluster=cluster
    )
    server.start()
    postgres.provision(cluster, server.settings())
    return server


def start_redis(base: Path, name: str = "redis") -> tuple[Server, RedisSettings]:
    user = privileges.server_user()
    directory = base / name
    directory.mkdir()
    server = redis.Redis(
        data=directory / "data",
        port=ports.any_free(),
        binary=redis.binary(base, user, directory / "data"),
        user=user,
        password=PASSWORD,
    )
    redis.initialise(server)
    settings = RedisSettings(host=ports.LOOPBACK, port=server.port, password=PASSWORD)
    running = Server(
        program=redis.program(server),
        ready=lambda: health.redis(Settings(home=base, redis=settings)),
        log=directory / "log",
        user=user,
    )
    running.start()
    return running, settings


# of whoever runs the tests, whose settings reach no test
_MAVEN_URL = os.environ.get("BILTEN_OPENSEARCH__MAVEN_URL")


@cache
def _not_fetched(programs: Path) -> str | None:
    """Why the jars are not to be had; asked once by a test process, for a dead address may take its time."""
    try:
        opensearch.programs(programs, _MAVEN_URL, lambda text: None)
    except NotFetched as error:
        return str(error)
    return None


def opensearch_jars(base: Path) -> Path:
    """The installation, kept for the next test run: fetching it takes as long as everything else.

    Skips the test where there is no Maven repository: the rest of the platform does without, and so do its
    tests.
    """
    kept = Path("/var/tmp") if os.access("/var/tmp", os.W_OK) else base
    programs = kept / f"bilten-test-programs-{os.geteuid()}"
    programs.mkdir(mode=0o755, exist_ok=True)
    assert programs.stat().st_uid == os.geteuid()
    with (programs / "lock").open("w") as lock:  # other test processes fetch them into the same place
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (why := _not_fetched(programs)) is not None:
            pytest.skip(f"OpenSearch could not be downloaded: {why}")
        return opensearch.programs(programs, _MAVEN_URL, lambda text: None)


def start_opensearch(
    base: Path, name: str = "opensearch", *, heap_bytes: int = 256 << 20
) -> tuple[Server, OpenSearchSettings]:
    programs = opensearch_jars(base)
    user = privileges.server_user()
    directory = base / name
    directory.mkdir()
    node = opensearch.OpenSearch(
        data=directory / "data",
        port=ports.any_free(),
        programs=programs,
        java=opensearch.java(base, user),
        user=user,
        heap_bytes=heap_bytes,
    )
    opensearch.initialise(node)
    settings = OpenSearchSettings(enabled=True, url=f"http://{ports.LOOPBACK}:{node.port}")
    running = Server(
        program=opensearch.program(node),
        ready=lambda: health.opensearch(Settings(home=base, opensearch=settings)),
        log=directory / "log",
        user=user,
    )
    running.start()
    return running, settings


@dataclass(frozen=True, slots=True)
class Certificate:
    """Of a server that speaks TLS, in PEM."""

    file: Path
    key: Path


def start_object_store(
    base: Path, name: str = "object-store", *, certificate: Certificate | None = None
) -> tuple[Server, ObjectStoreSettings]:
    """With a certificate it speaks TLS alone."""
    user = privileges.server_user()
    directory = base / name
    directory.mkdir(exist_ok=True)  # or a small file system
    store = object_store.ObjectStore(
        data=directory / "data",
        port=ports.any_free(),
        binary=object_store.binary(base, user),
        user=user,
        access_key_id=SecretStr("testaccesskey"),
        secret_access_key=SecretStr("testsecretkey"),
    )
    settings = ObjectStoreSettings(
        endpoint_url=f"{'https' if certificate else 'http'}://{ports.LOOPBACK}:{store.port}",
        access_key_id=store.access_key_id,
        secret_access_key=store.secret_access_key,
        # tests that take a store away for good wait as long
        patience_seconds=2,
    )
    object_store.initialise(store, settings.buckets)
    program = object_store.program(store)
    if certificate is not None:
        shutil.copy(certificate.key, directory / "key.pem")
        if user is not None:
            os.chown(directory / "key.pem", user.uid, user.gid)
        told = (f"--cert={certificate.file}", f"--key={directory / 'key.pem'}")
        program = replace(program, argv=(*program.argv, *told))
    running = Server(
        program=program,
        ready=lambda: health.object_store(Settings(home=base, object_store=settings)),
        log=directory / "log",
        user=user,
    )
    running.start()
    return running, settings


@dataclass
class ClickHouseServer(Server):
    settings: ClickHouseSettings = field(kw_only=True)

    @property
    def data(self) -> Path:
        return self.program.directory


def start_clickhouse(
    base: Path, name: str = "clickhouse", *, copy_of: Path | None = None, disks: str = ""
) -> ClickHouseServer:
    """A new endpoint, on an empty data directory or on a copy of another one's (which must be stopped);
    with `disks` it takes backups."""
    if importlib.util.find_spec("bilten_orchestration.local.clickhouse") is None:
        raise RuntimeError("the ClickHouse endpoint (bilten_orchestration.local.clickhouse) is not there")
    from bilten_orchestration.local import clickhouse_endpoint

    directory = base / name
    directory.mkdir()
    if copy_of is not None:
        shutil.copytree(copy_of, directory / "data", symlinks=True)
    endpoint = clickhouse_endpoint.Endpoint(
        directory=directory,
        settings=ClickHouseSettings(
            host=ports.LOOPBACK, port=ports.any_free(), password=PASSWORD, analyst_password=PASSWORD
        ),
        disks=disks,
    )
    clickhouse_endpoint.initialise(endpoint)
    running = ClickHouseServer(
        program=clickhouse_endpoint.program(endpoint),
        ready=lambda: health.clickhouse(Settings(home=base, clickhouse=endpoint.settings)),
        log=directory / "log",
        user=None,
        settings=endpoint.settings,
    )
    running.start()
    return running


@contextlib.contextmanager
def stopping() -> Iterator[list[Server]]:
    """A list of servers; whatever is in it at the end is killed."""
    servers: list[Server] = []
    try:
        yield servers
    finally:
        started = time.monotonic()
        for server in reversed(servers):
            server.kill()
        assert time.monotonic() - started < 60, "servers took too long to die"
