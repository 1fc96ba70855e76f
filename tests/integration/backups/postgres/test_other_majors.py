"""An outside server of an older major: PostgreSQL 15 or 16, with its own programs by `pg_bin`.

Everything but incremental backups works there. Skipped where this machine has no such server.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from bilten_orchestration.backups.postgres import private
from bilten_orchestration.backups.postgres.base import take
from bilten_orchestration.backups.postgres.restore import RestoreReport, restore
from bilten_orchestration.backups.postgres.targets import Target
from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.backups.wal.audit import audit
from bilten_orchestration.errors import Refused, StoreUnavailable
from bilten_orchestration.local import ports, privileges
from bilten_orchestration.local import postgres as embedded
from bilten_orchestration.migrations import runner
from bilten_orchestration.settings import BackupSettings, Settings
from bilten_orchestration.settings_loading import as_environment
from tests import other_postgres, stack
from tests.conftest import Servers
from tests.integration.backups.command import Environment, bilten, document
from tests.integration.backups.wal.conftest import Source, Stream

Restored = Callable[[Target], tuple[RestoreReport, list[int]]]
FOUND = other_postgres.find()
EACH = [pytest.param(found, id=str(found.major)) for found in FOUND] or [
    pytest.param(None, id="none", marks=pytest.mark.skip(reason=other_postgres.missing()))
]


@dataclass
class History:
    """A migrated server with rows 1 to 7. `moments` are those right behind rows 1 to 5; the WAL that rows 6
    and 7 are in is shipped."""

    source: Source
    major: int
    base: Path
    full: str = ""
    instead: str = ""
    why: str = ""
    xid: str = ""
    lsn: str = ""
    moments: dict[int, datetime] = field(default_factory=dict)


@pytest.fixture(scope="module", params=EACH)
def older(servers: Servers, request: pytest.FixtureRequest) -> Iterator[History]:
    """Migrated, with an empty repository and no stream yet."""
    programs: other_postgres.Programs = request.param
    base = servers.base / f"other-{next(servers.numbers)}"
    base.mkdir(mode=0o755)
    with stack.stopping() as running:
        server = other_postgres.start(base, f"postgres-{programs.major}", programs)
        running.append(server)
        settings = Settings(
            home=base / "home",
            environment="test",
            postgres=server.settings(),
            object_store=servers.buckets(),
            backups=BackupSettings(
                slice_bytes=8 << 20,
                lock_wait_seconds=0,
                wal_ship_seconds=1,
                heartbeat_seconds=1,
            ),
        )
        runner.up(settings, store="postgres")
        outside = {name: text for name, text in os.environ.items() if not name.startswith("BILTEN_")}
        stream = Stream(settings, outside | as_environment(settings), base / "stream.log")
        source = Source(server, settings, stream, base)
        source.execute("create table rows (id int primary key)")
        source.execute("create table kept (id bigserial primary key, words text)")
        yield History(source, programs.major, base)
        stream.kill()
    shutil.rmtree(base, ignore_errors=True)


@pytest.fixture(scope="module")
def lived(older: History) -> History:
    """WAL taken from before row 1 on; a full backup behind row 1, one that should be incremental behind 3."""
    source = older.source
    source.stream.start()
    for number in range(1, 6):
        source.execute(f"insert into rows (id) values ({number})")
        if number == 1:
            older.full = take(source.settings, "full").manifest.id
        if number == 3:
            manifest = take(source.settings, "incremental").manifest
            older.instead, older.why = manifest.id, manifest.details["instead_of_incremental"]
            assert (manifest.kind, manifest.parent) == ("full", None)
            with embedded.superuser(source.server.cluster) as connection:
                connection.execute("select pg_create_restore_point('third')")
        older.moments[number] = source.now()
        source.write(18)
    ((older.xid, older.lsn),) = source.execute(
        "with done as (insert into rows (id) values (6) returning 1)"
        " select pg_current_xact_id()::text, pg_current_wal_lsn()::text from done"
    )
    source.execute("insert into rows (id) values (7)")
    for number in (0, 1):
        source.await_reach(source.now(), number)
    return older


@pytest.fixture
def restored(older: History) -> Iterator[Restored]:
    """Restores, starts, and tells which rows are there; the server is of the same major."""
    made: list[Path] = []

    def run(target: Target) -> tuple[RestoreReport, list[int]]:
        directory = older.base / f"restored-{len(made)}"
        made.append(directory)
        report = restore(older.source.settings, target, directory, start=True)
        assert report.dsn is not None
        with psycopg.connect(report.dsn) as connection:
            assert connection.info.server_version // 10_000 == older.major
            assert connection.execute("select pg_is_in_recovery()").fetchone() == (False,)
            found = connection.execute("select id from rows order by id").fetchall()
        return report, [number for (number,) in found]

    yield run
    for directory in made:
        if (directory / private.RECORD).exists():
            private.stop(directory)
        shutil.rmtree(directory, ignore_errors=True)


def test_a_backup_of_an_older_major_and_back(
    older: History, restored: Restored, environment: Environment
) -> None:
    """With no WAL in the repository: it restores alone. What that major lacks is told beforehand."""
    source, major = older.source, older.major
    source.execute("insert into rows (id) values (0)")
    found = bilten(source, environment, "backup", "preflight", "postgres", "--json")
    assert found.returncode == 1
    (problem,) = document(found)["problems"]
    assert problem["what"] == "WAL summaries: needed for incremental backups"
    assert (problem["expected"], problem["found"]) == (
        "PostgreSQL 17 or later",
        f"PostgreSQL {major} has none",
    )
    assert "a full backup is taken" in problem["next"]
    shown = bilten(source, environment, "backup", "preflight", "postgres")
    assert max(map(len, shown.stdout.splitlines())) <= 80

    first = take(source.settings, "incremental").manifest
    assert first.details == {"instead_of_incremental": "the repository has no full backup of this server"}
    told = bilten(source, environment, "backup", "create", "postgres", "--kind", "incremental")
    assert told.returncode == 0, told.stderr
    assert f"a full backup instead of an incremental: PostgreSQL {major} has none" in told.stderr
    report, rows = restored(Target("backup", first.id))
    assert rows == [0]
    assert report.segments == 0
    source.execute("delete from rows")


@pytest.mark.faults
def test_an_incremental_is_refused_politely(lived: History) -> None:
    assert lived.why == f"PostgreSQL {lived.major} has none; they came with 17"


@pytest.mark.faults
def test_wal_is_whole_in_both_buckets(lived: History, environment: Environment) -> None:
    settings = lived.source.settings
    copied = bilten(lived.source, environment, "backup", "copy")
    assert copied.returncode == 0, copied.stderr
    for bucket in ("first", "copy"):
        found = bilten(lived.source, environment, "wal", "audit", "--deep", "--json", "--bucket", bucket)
        assert found.returncode == 0, found.stdout
        result = document(found)["result"]
        assert result["gaps"] == []
        assert result["segments"] >= 4
    first = {piece.name for piece in lived.source.pieces() if piece.whole}
    assert first <= {piece.name for piece in lived.source.pieces("copy")}
    assert lived.source.stream.status()[1] == ()

    said = bilten(lived.source, environment, "reach", "--json")
    assert said.returncode == 0, said.stdout
    for bucket in settings.object_store.buckets[:2]:
        spans = [span for span in document(said)["result"]["spans"] if span["bucket"] == bucket]
        assert {backup for span in spans for backup in span["backups"]} >= {lived.full, lived.instead}
        assert max(datetime.fromisoformat(span["to"]) for span in spans) >= lived.moments[5]


@pytest.mark.faults
@pytest.mark.parametrize(("number", "start"), [(1, "full"), (2, "full"), (3, "instead"), (4, "instead")])
def test_a_moment(lived: History, restored: Restored, number: int, start: str) -> None:
    report, rows = restored(Target("moment", lived.moments[number].isoformat()))
    assert rows == list(range(1, number + 1))
    assert report.backup_id == getattr(lived, start)
    assert report.timeline == 2


@pytest.mark.faults
def test_the_other_targets(lived: History, restored: Restored) -> None:
    assert restored(Target("latest"))[1] == [1, 2, 3, 4, 5, 6, 7]
    assert restored(Target("xid", lived.xid))[1] == [1, 2, 3, 4, 5, 6]
    assert restored(Target("name", "third"))[1] == [1, 2, 3]
    assert restored(Target("backup", lived.full))[1] == [1]
    _, rows = restored(Target("lsn", lived.lsn))
    assert set(rows) >= {1, 2, 3, 4, 5}
    assert 7 not in rows


@pytest.mark.faults
def test_a_moment_that_cannot_be_reached(lived: History) -> None:
    before = min(lived.moments.values()) - timedelta(days=1)
    with pytest.raises(Refused, match="nearest after it"):
        restore(lived.source.settings, Target("moment", before.isoformat()), lived.base / "unreached")
    assert not (lived.base / "unreached").exists()


@pytest.mark.faults
def test_by_the_command_to_a_running_server(lived: History, environment: Environment) -> None:
    """As the person on call does it, from the second bucket; and stopped again."""
    copied = bilten(lived.source, environment, "backup", "copy")
    assert copied.returncode == 0, copied.stderr
    directory = lived.base / "called"
    found = bilten(
        lived.source,
        environment,
        *("restore", "postgres", "--target-time", lived.moments[4].isoformat()),
        *("--to", str(directory), "--bucket", "copy", "--start", "--json"),
    )
    assert found.returncode == 0, found.stdout + found.stderr
    result = document(found)["result"]
    with psycopg.connect(result["dsn"]) as connection:
        assert connection.execute("select max(id) from rows").fetchone() == (4,)
    assert datetime.fromisoformat(result["reached_at"]) <= lived.moments[4]
    stopped = bilten(lived.source, environment, "restore", "stop", str(directory))
    assert stopped.returncode == 0, stopped.stderr
    shutil.rmtree(directory)


@pytest.mark.faults
def test_started_by_hand(lived: History) -> None:
    """What a backup does not hold of this server's configuration is not missed."""
    directory, socket = lived.base / "by-hand", lived.base / "by-hand-socket"
    restore(lived.source.settings, Target("latest"), directory)
    cluster = replace(
        lived.source.server.cluster, data=directory, socket_directory=socket, port=ports.any_free()
    )
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
    found = bilten(lived.source, environment, "backup", "verify", lived.instead, "--deep")
    assert found.returncode == 0, found.stderr
    assert "accepted by pg_verifybackup" in found.stdout


@pytest.mark.faults
def test_the_embedded_programs_are_refused(lived: History, tmp_path: Path) -> None:
    """Those of 18 do not do for an older server: said before anything is taken or written."""
    settings = lived.source.settings
    without = settings.model_copy(update={"postgres": settings.postgres.model_copy(update={"pg_bin": None})})
    with Opened.of(settings) as opened:
        before = sorted(each.name for each in opened.repository.list("objects/"))
    with pytest.raises(Refused, match="are not of the version that is needed") as told:
        take(without)
    assert told.value.problems[0].next.endswith(f"the programs of PostgreSQL {lived.major}")
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
