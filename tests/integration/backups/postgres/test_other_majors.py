"""An outside server of an older major: PostgreSQL 15 or 16, with its own programs by `pg_bin`.

Everything but incremental backups works there. Skipped where this machine has no such server.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from bilten_orchestration.backups.postgres import private
from bilten_orchestration.backups.postgres.base import take
from bilten_orchestration.backups.postgres.restore import RestoreReport, restore
from bilten_orchestration.backups.postgres.targets import Target
from bilten_orchestration.backups.preflight import examine
from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.backups.wal.audit import audit
from bilten_orchestration.errors import Refused, StoreUnavailable
from bilten_orchestration.local import ports, privileges
from bilten_orchestration.local import postgres as embedded
from bilten_orchestration.migrations import runner
from bilten_orchestration.settings import BackupSettings, Settings
from bilten_orchestration.settings.loading import as_environment
from bilten_orchestration.stores import postgres
from tests import other_postgres, stack
from tests.conftest import Servers
from tests.integration.backups.command import Environment, bilten, document
from tests.integration.backups.wal.conftest import Source, Stream


@pytest.fixture(scope="module", params=other_postgres.each())
def server(servers: Servers, request: pytest.FixtureRequest) -> Iterator[other_postgres.OtherPostgres]:
    with other_postgres.started(servers, request.param) as made:
        yield made


@dataclass
class Outside:
    """A server that is not the embedded one, and a repository of its own."""

    server: other_postgres.OtherPostgres
    settings: Settings
    base: Path

    def restored(self, target: Target) -> tuple[RestoreReport, list[int]]:
        """Restores, starts, tells which rows are there, and ends it; the server is of the same major."""
        directory = self.base / "restored"
        report = restore(self.settings, target, directory, start=True)
        assert report.dsn is not None
        try:
            with psycopg.connect(report.dsn) as connection:
                assert connection.info.server_version // 10_000 == self.server.major
                assert connection.execute("select pg_is_in_recovery()").fetchone() == (False,)
                found = connection.execute("select id from rows order by id").fetchall()
        finally:
            private.stop(directory)
            shutil.rmtree(directory)
        return report, [number for (number,) in found]


def _outside(servers: Servers, server: other_postgres.OtherPostgres) -> Outside:
    base = servers.base / f"outside-{next(servers.numbers)}"
    base.mkdir(mode=0o755)
    settings = Settings(
        home=base / "home",
        environment="test",
        postgres=server.settings(),
        object_store=servers.buckets(),
        backups=BackupSettings(
            slice_bytes=8 << 20, lock_wait_seconds=0, wal_ship_seconds=1, heartbeat_seconds=1
        ),
    )
    return Outside(server, settings, base)


def test_a_backup_of_an_older_major_and_back(
    servers: Servers, server: other_postgres.OtherPostgres, environment: Environment
) -> None:
    """With no WAL in the repository: it restores alone. What that major lacks is told beforehand."""
    outside = _outside(servers, server)
    (problem,) = examine(outside.settings, "postgres").problems
    assert problem.what == "WAL summaries: needed for incremental backups"
    assert (problem.expected, problem.found) == (
        "PostgreSQL 17 or later",
        f"PostgreSQL {server.major} has none",
    )
    found = bilten(outside, environment, "backup", "preflight", "postgres")
    assert found.returncode == 1
    assert f"NOT MET  WAL summaries: PostgreSQL {server.major} has none" in found.stdout
    assert "a full backup is taken where an incremental is due" in " ".join(found.stderr.split())
    assert max(map(len, found.stdout.splitlines())) <= 80

    with postgres.connect(outside.settings.postgres) as connection:
        connection.execute("create table rows as select 1 as id")
    first = take(outside.settings, "incremental").manifest
    assert first.details == {"instead_of_incremental": "the repository has no full backup of this server"}
    told: list[str] = []
    second = take(outside.settings, "incremental", progress=told.append).manifest
    assert (second.kind, second.parent) == ("full", None)
    why = f"PostgreSQL {server.major} has none; they came with 17"
    assert second.details == {"instead_of_incremental": why}
    assert f"a full backup instead of an incremental: {why}" in told
    report, rows = outside.restored(Target("backup", second.id))
    assert (report.segments, rows) == (0, [1])
    with postgres.connect(outside.settings.postgres) as connection:
        connection.execute("drop table rows")
    shutil.rmtree(outside.base)


@dataclass
class History(Outside):
    """A migrated server with rows 1 to 7, each a commit of its own, and WAL of all of them in the repository.

    `moments` are right behind rows 1 to 5. `full` was taken behind row 1, `instead` behind row 3, where an
    incremental was asked for.
    """

    source: Source
    full: str = ""
    instead: str = ""
    xid: str = ""
    lsn: str = ""
    moments: dict[int, datetime] = field(default_factory=dict)


@pytest.fixture(scope="module")
def lived(servers: Servers, server: other_postgres.OtherPostgres) -> Iterator[History]:
    outside = _outside(servers, server)
    runner.up(outside.settings, store="postgres")
    variables = {name: text for name, text in os.environ.items() if not name.startswith("BILTEN_")}
    stream = Stream(
        outside.settings, variables | as_environment(outside.settings), outside.base / "stream.log"
    )
    source = Source(server, outside.settings, stream, outside.base)
    made = History(server, outside.settings, outside.base, source)
    source.execute("create table rows (id int primary key)")
    source.execute("create table kept (id bigserial primary key, words text)")
    stream.start()
    try:
        _live(made)
        yield made
    finally:
        stream.kill()
    shutil.rmtree(outside.base)


def _live(made: History) -> None:
    source = made.source
    for number in range(1, 6):
        source.execute(f"insert into rows (id) values ({number})")
        if number == 1:
            made.full = take(made.settings, "full").manifest.id
        if number == 3:
            manifest = take(made.settings, "incremental").manifest
            assert (manifest.kind, manifest.parent) == ("full", None)
            made.instead = manifest.id
            with embedded.superuser(made.server.cluster) as connection:
                connection.execute("select pg_create_restore_point('third')")
        made.moments[number] = source.now()
        source.write(18)
    ((made.xid, made.lsn),) = source.execute(
        "with done as (insert into rows (id) values (6) returning 1)"
        " select pg_current_xact_id()::text, pg_current_wal_lsn()::text from done"
    )
    source.execute("insert into rows (id) values (7)")
    for number in (0, 1):
        source.await_reach(source.now(), number)


@pytest.mark.faults
def test_wal_is_whole_in_both_buckets(lived: History, environment: Environment) -> None:
    settings = lived.settings
    copied = bilten(lived, environment, "backup", "copy")
    assert copied.returncode == 0, copied.stderr
    for bucket in ("first", "copy"):
        found = bilten(lived, environment, "wal", "audit", "--deep", "--json", "--bucket", bucket)
        assert found.returncode == 0, found.stdout
        result = document(found)["result"]
        assert result["gaps"] == []
        assert result["segments"] >= 4
    first = {piece.name for piece in lived.source.pieces() if piece.whole}
    assert first <= {piece.name for piece in lived.source.pieces("copy")}
    assert lived.source.stream.status()[1] == ()

    said = bilten(lived, environment, "reach", "--json")
    assert said.returncode == 0, said.stdout
    for bucket in settings.object_store.buckets[:2]:
        spans = [span for span in document(said)["result"]["spans"] if span["bucket"] == bucket]
        assert {backup for span in spans for backup in span["backups"]} >= {lived.full, lived.instead}
        assert max(datetime.fromisoformat(span["to"]) for span in spans) >= lived.moments[5]


@pytest.mark.faults
@pytest.mark.parametrize(("number", "start"), [(1, "full"), (2, "full"), (3, "instead"), (4, "instead")])
def test_a_moment(lived: History, number: int, start: str) -> None:
    report, rows = lived.restored(Target("moment", lived.moments[number].isoformat()))
    assert rows == list(range(1, number + 1))
    assert report.backup_id == getattr(lived, start)
    assert report.timeline == 2


@pytest.mark.faults
def test_the_other_targets(lived: History) -> None:
    assert lived.restored(Target("latest"))[1] == [1, 2, 3, 4, 5, 6, 7]
    assert lived.restored(Target("xid", lived.xid))[1] == [1, 2, 3, 4, 5, 6]
    assert lived.restored(Target("name", "third"))[1] == [1, 2, 3]
    assert lived.restored(Target("backup", lived.full))[1] == [1]
    _, rows = lived.restored(Target("lsn", lived.lsn))
    assert set(rows) >= {1, 2, 3, 4, 5}
    assert 7 not in rows


@pytest.mark.faults
def test_a_moment_that_cannot_be_reached(lived: History) -> None:
    before = min(lived.moments.values()) - timedelta(days=1)
    with pytest.raises(Refused, match="nearest after it"):
        restore(lived.settings, Target("moment", before.isoformat()), lived.base / "unreached")
    assert not (lived.base / "unreached").exists()


@pytest.mark.faults
def test_by_the_command_to_a_running_server(lived: History, environment: Environment) -> None:
    """As the person on call does it, from the second bucket; and stopped again."""
    copied = bilten(lived, environment, "backup", "copy")
    assert copied.returncode == 0, copied.stderr
    directory = lived.base / "called"
    found = bilten(
        lived,
        environment,
        *("restore", "postgres", "--target-time", lived.moments[4].isoformat()),
        *("--to", str(directory), "--bucket", "copy", "--start", "--json"),
    )
    assert found.returncode == 0, found.stdout + found.stderr
    result = document(found)["result"]
    with psycopg.connect(result["dsn"]) as connection:
        assert connection.execute("select max(id) from rows").fetchone() == (4,)
    assert datetime.fromisoformat(result["reached_at"]) <= lived.moments[4]
    stopped = bilten(lived, environment, "restore", "stop", str(directory))
    assert stopped.returncode == 0, stopped.stderr
    shutil.rmtree(directory)


@pytest.mark.faults
def test_started_by_hand(lived: History) -> None:
    """What a backup does not hold of this server's configuration is not missed."""
    directory, socket = lived.base / "by-hand", lived.base / "by-hand-socket"
    restore(lived.settings, Target("latest"), directory)
    cluster = replace(lived.server.cluster, data=directory, socket_directory=socket, port=ports.any_free())
    privileges.server_directory(socket, cluster.user)
    places = {"listen_addresses": "", "unix_socket_directories": socket, "port": cluster.port}

    def out_of_recovery() -> str:
        run = subprocess.run(
            [cluster.bin / "pg_isready", "-h", socket, "-p", str(cluster.port)],
            capture_output=True,
            text=True,
            check=False,
        )
        if run.returncode or not _out_of_recovery(directory, cluster.bin):
            raise StoreUnavailable(run.stdout)
        return "ready"

    server = stack.Server(
        program=replace(
            embedded.program(cluster),
            argv=(
                *(str(cluster.bin / "postgres"), "-D", str(directory)),
                *(part for name, value in places.items() for part in ("-c", f"{name}={value}")),
            ),
        ),
        ready=out_of_recovery,
        log=lived.base / "by-hand.log",
        user=cluster.user,
    )
    try:
        server.start()
    finally:
        server.kill()
        shutil.rmtree(directory)


def _out_of_recovery(directory: Path, programs: Path) -> bool:
    """By the control file: nobody of this machine is let in."""
    said = subprocess.run(
        [programs / "pg_controldata", directory],
        env={"LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return "in production" in said


@pytest.mark.faults
def test_verified_deeply(lived: History, environment: Environment) -> None:
    found = bilten(lived, environment, "backup", "verify", lived.instead, "--deep")
    assert found.returncode == 0, found.stderr
    assert "accepted by pg_verifybackup" in found.stdout


@pytest.mark.faults
def test_the_embedded_programs_are_refused(lived: History, tmp_path: Path) -> None:
    """Those of 18 do not do for an older server: said before anything is taken or written."""
    settings = lived.settings
    without = settings.model_copy(update={"postgres": settings.postgres.model_copy(update={"pg_bin": None})})
    with Opened.of(settings) as opened:
        before = sorted(each.name for each in opened.repository.list("objects/"))
    with pytest.raises(Refused, match="are not of the version that is needed") as told:
        take(without)
    assert told.value.problems[0].next.endswith(f"the programs of PostgreSQL {lived.server.major}")
    with pytest.raises(Refused, match="are not of the version that is needed"):
        restore(without, Target("backup", lived.full), tmp_path / "restored")
    with Opened.of(settings) as opened:
        assert sorted(each.name for each in opened.repository.list("objects/")) == before
    assert not (tmp_path / "restored").exists()
    assert not (tmp_path / "restored.restoring").exists()


@pytest.mark.faults
def test_a_kill_of_the_stream_loses_nothing(lived: History) -> None:
    """Last: rows are the same before and behind."""
    source = lived.source
    source.stream.kill()
    source.write(20)
    source.stream.start()
    source.await_reach(source.now())
    assert audit(source.settings).problems == ()
