"""The programs of the embedded stack as real servers: who may do what, and what a kill leaves."""

from __future__ import annotations

import os
import shutil
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from bilten_orchestration.errors import AccessRefused, StoreUnavailable
from bilten_orchestration.local import dagster_services, ports
from bilten_orchestration.local import postgres as embedded
from bilten_orchestration.local import redis as embedded_redis
from bilten_orchestration.local import servers as local_servers
from bilten_orchestration.local.layout import layout
from bilten_orchestration.local.programs import Program
from bilten_orchestration.local.supervision import Supervisor
from bilten_orchestration.settings import PostgresSettings, Settings
from bilten_orchestration.stores import postgres, redis
from tests import stack
from tests.conftest import Servers


def test_superuser_comes_in_over_the_socket_only(own_postgres: stack.PostgresServer) -> None:
    with postgres.connect(own_postgres.superuser) as connection:
        assert connection.execute(
            "select current_user, usesuper from pg_user where usename = current_user"
        ).fetchone() == (
            "postgres",
            True,
        )
    over_tcp = own_postgres.superuser.model_copy(update={"host": "127.0.0.1"})
    with pytest.raises(AccessRefused, match=r"pg_hba\.conf rejects"):
        postgres.connect(over_tcp)


def test_everybody_else_needs_a_password_on_the_socket_too(own_postgres: stack.PostgresServer) -> None:
    wrong = own_postgres.settings().model_copy(
        update={"host": str(own_postgres.cluster.socket_directory), "password": stack.SecretStr("wrong")}
    )
    with pytest.raises(AccessRefused, match="password authentication failed"):
        postgres.connect(wrong)


def test_settings_that_backups_and_drills_lean_on(postgres_server: PostgresSettings) -> None:
    expected = {
        "data_checksums": "on",
        "wal_level": "logical",
        "summarize_wal": "on",
        "wal_summary_keep_time": "10d",
        "max_prepared_transactions": "20",
        "shared_preload_libraries": "pg_stat_statements",
        "TimeZone": "UTC",
    }
    with postgres.connect(postgres_server) as connection:
        found = {name: connection.execute(f"show {name}").fetchone()[0] for name in expected}  # type: ignore[index]
    assert found == expected


def test_owner_is_no_superuser_and_owns_its_database(own_postgres: stack.PostgresServer) -> None:
    with postgres.connect(own_postgres.settings(), autocommit=True) as connection:
        row = connection.execute(
            "select rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls from pg_roles"
            " where rolname = current_user"
        ).fetchone()
        assert row == (False, False, False, True, False)
        connection.execute("create schema x; create table x.t (a int); grant usage on schema x to bilten_app")
        extensions = {name for (name,) in connection.execute("select extname from pg_extension").fetchall()}
        assert extensions >= set(embedded.EXTENSIONS)
        for refused in ("copy (select 1) to '/tmp/never'", "create role never", "create database never"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(refused)


def test_dagster_sees_its_own_database_only(own_postgres: stack.PostgresServer) -> None:
    settings = own_postgres.settings()
    postgres.connect(settings, "dagster").close()
    with pytest.raises(AccessRefused, match="grant connect on database"):
        postgres.connect(settings, "dagster", database=settings.database)
    with pytest.raises(AccessRefused, match="grant connect on database"):
        postgres.connect(settings, "etl", database=settings.dagster_database)


def test_provision_again_changes_nothing(own_postgres: stack.PostgresServer) -> None:
    def roles() -> list[tuple[object, ...]]:
        with embedded.superuser(own_postgres.cluster) as connection:
            return connection.execute(
                "select rolname, rolsuper, rolcanlogin, rolreplication, memberships from pg_roles r"
                " left join lateral"
                " (select array_agg(m.roleid::regrole::text order by 1) memberships from pg_auth_members m"
                "  where m.member = r.oid) on true order by 1"
            ).fetchall()

    before = roles()
    embedded.provision(own_postgres.cluster, own_postgres.settings())
    assert roles() == before


def test_passwords_are_in_no_log_and_no_statistics(own_postgres: stack.PostgresServer) -> None:
    with postgres.connect(own_postgres.superuser) as connection:
        connection.execute("create extension if not exists pg_stat_statements")
        texts = [text for (text,) in connection.execute("select query from pg_stat_statements").fetchall()]
    assert any("alter role" in text for text in texts)  # the statements are there, their password is not
    assert stack.PASSWORD.get_secret_value() not in "\n".join(texts) + own_postgres.log.read_text()


def test_acknowledged_rows_survive_sigkill(own_postgres: stack.PostgresServer) -> None:
    with postgres.connect(own_postgres.settings(), autocommit=True) as connection:
        connection.execute("create table kept as select generate_series(1, 1000) n")
    own_postgres.kill()
    assert (own_postgres.cluster.data / "postmaster.pid").exists()
    own_postgres.start()
    with postgres.connect(own_postgres.settings()) as connection:
        assert connection.execute("select count(*) from kept").fetchone() == (1000,)


def test_a_pid_file_whose_number_went_to_another_process_is_stale(own_postgres: stack.PostgresServer) -> None:
    own_postgres.kill()
    pid_file = own_postgres.cluster.data / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    lines[0] = str(os.getpid())  # lives, and is no postmaster
    pid_file.write_text("\n".join(lines) + "\n")
    own_postgres.start()
    with postgres.connect(own_postgres.settings()) as connection:
        assert connection.execute("select 1").fetchone() == (1,)


def test_half_made_cluster_is_made_again(servers: Servers) -> None:
    directory = servers.base / f"half-{next(servers.numbers)}"
    user = stack.privileges.server_user()
    cluster = embedded.Cluster(
        data=directory / "data",
        socket_directory=directory / "socket",
        port=stack.ports.any_free(),
        bin=embedded.binaries(servers.base, user),
        user=user,
        durable=False,
    )
    half = directory / "data.new"  # what a kill during initdb leaves
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    assert embedded.initialise(cluster) is True
    assert (cluster.data / "global" / "pg_control").exists()
    assert not half.exists()
    assert embedded.initialise(cluster) is False


def test_a_fresh_database_has_its_extensions(empty_settings: Settings) -> None:
    with postgres.connect(empty_settings.postgres) as connection:
        assert connection.execute(
            "select count(*) from pg_extension where extname = any(%s)", (list(embedded.EXTENSIONS),)
        ).fetchone() == (3,)


def test_environment_round_trips(
    empty_settings: Settings, environment: Callable[[Settings], dict[str, str]]
) -> None:
    answer = subprocess.run(
        [
            sys.executable,
            "-c",
            "import bilten_orchestration.settings.loading as s; print(s.load_settings().postgres.database)",
        ],
        env=environment(empty_settings),
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.strip() == empty_settings.postgres.database


@pytest.fixture
def redis_base(servers: Servers) -> Iterator[Path]:
    base = servers.base / f"redis-{next(servers.numbers)}"
    base.mkdir(mode=0o755)
    yield base
    shutil.rmtree(base)


def _serves_and_survives(base: Path, major: int | None = None) -> None:
    server, settings = stack.start_redis(base)
    try:
        client = redis.connect(settings)
        assert major is None or int(client.info("server")["redis_version"].split(".")[0]) >= major
        assert client.set("event:1:views", 7)
        client.close()
        server.kill()
        server.start()
        client = redis.connect(settings)
        assert client.get("event:1:views") == b"7"
        client.close()
    finally:
        server.kill()


def test_redis_of_the_package(redis_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    _serves_and_survives(redis_base)


def test_redis_of_the_machine(redis_base: Path) -> None:
    found = shutil.which("redis-server")
    if found is None or embedded_redis.major(Path(found)) < embedded_redis.FIRST_MAJOR:
        pytest.skip("no redis-server 7 or later on PATH")
    _serves_and_survives(redis_base, embedded_redis.FIRST_MAJOR)


def test_redis_that_is_a_link_to_its_checker(redis_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian installs it so, and the program is what it was called as."""
    monkeypatch.setenv("PATH", "/nonexistent")
    packaged = embedded_redis.binary(redis_base, None, redis_base / "none")
    programs = redis_base / "bin"
    programs.mkdir(mode=0o755)
    shutil.copy2(packaged, programs / "redis-check-rdb")
    (programs / "redis-server").symlink_to("redis-check-rdb")
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setattr(embedded_redis, "FIRST_MAJOR", 6)
    assert embedded_redis.binary(redis_base, None, redis_base / "none") == programs / "redis-server"
    _serves_and_survives(redis_base)


def test_redis_stays_the_one_it_was_started_with(redis_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    server = embedded_redis.Redis(
        redis_base / "data",
        6379,
        embedded_redis.binary(redis_base, None, redis_base / "data"),
        None,
        stack.PASSWORD,
    )
    embedded_redis.initialise(server)
    programs = redis_base / "bin"
    programs.mkdir(mode=0o755)
    other = shutil.copy2(server.binary, programs / "redis-server")
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setattr(embedded_redis, "FIRST_MAJOR", 6)
    assert embedded_redis.binary(redis_base, None, redis_base / "data") == server.binary
    (redis_base / "data" / "redis-server").unlink()
    assert embedded_redis.binary(redis_base, None, redis_base / "data") == other


def test_a_port_that_a_stranger_took_meanwhile_is_told_with_its_holder(tmp_path: Path) -> None:
    """Free when it was chosen, held when the program came to listen on it."""
    with socketserver.TCPServer((ports.LOOPBACK, 0), socketserver.BaseRequestHandler) as stranger:
        threading.Thread(target=stranger.serve_forever).start()
        port = stranger.server_address[1]
        listen = f"import socket; socket.create_server(('{ports.LOOPBACK}', {port}))"
        program = Program(
            dagster_services.CODE_SERVER, (sys.executable, "-c", listen), tmp_path, port, start_seconds=2
        )
        places = layout(tmp_path / "home")
        supervisor = Supervisor(places)
        try:
            supervisor.apply([program])
            supervisor.start(program.name)
            with pytest.raises(StoreUnavailable, match=f"port {port} for {program.name} was taken") as told:
                local_servers.await_dagster(
                    Settings(home=places.home, dagster={"code_server_port": port}), supervisor
                )
        finally:
            supervisor.shut_down()
            stranger.shutdown()
    (problem,) = told.value.problems
    assert f"pid {os.getpid()}" in problem.found
    assert "bilten up" in problem.next
