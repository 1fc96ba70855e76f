"""Logical backups of a real server under writes, and the way back: a database, one table, roles."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from _pytest.mark import ParameterSet
from psycopg import sql
from pydantic import SecretStr

from bilten_orchestration.backups.postgres import logical, logical_restore
from bilten_orchestration.backups.postgres.restore import restore as restore_directory
from bilten_orchestration.backups.postgres.targets import Target
from bilten_orchestration.backups.repository import keys
from bilten_orchestration.backups.repository.bucket import Repository
from bilten_orchestration.backups.repository.manifest import Manifest
from bilten_orchestration.backups.repository.opened import Opened, key_file
from bilten_orchestration.backups.verify import verify
from bilten_orchestration.errors import LockHeld, Mismatch, Refused, StoreUnavailable, UsageError
from bilten_orchestration.local import postgres as embedded
from bilten_orchestration.local import privileges
from bilten_orchestration.settings import BackupSettings, PostgresSettings, Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.locks import advisory_lock
from tests import stack
from tests.conftest import Servers
from tests.integration.backups.cancelled import cancelled, sliced
from tests.integration.backups.command import Environment, bilten, document
from tests.integration.backups.shop import DIGEST, SLICE, Shop, writing
from tests.processes import clients_of
from tests.small_disk import mounted, needs_root
from tests.waiting import until

STOCK = """
    create table kept as
      select n as id, md5(n::text) || md5((n + 1)::text) as words from generate_series(1, 120000) n;
    create table moving (id bigserial primary key, words text);
    create schema stock;
    create type stock.state as enum ('new', 'sold');
    create table stock.shelves (id int primary key);
    create table stock.goods (id int generated always as identity primary key, state stock.state not null,
                              shelf int references stock.shelves, kept_on date not null);
    create index goods_state on stock.goods (state);
    create table stock.moves (at date not null, good int) partition by range (at);
    create table stock.moves_1 partition of stock.moves for values from ('2026-01-01') to ('2026-02-01');
    create table stock.moves_2 partition of stock.moves for values from ('2026-02-01') to ('2026-03-01');
    create index moves_good on stock.moves (good);
    insert into stock.shelves select generate_series(1, 10);
    insert into stock.goods (state, shelf, kept_on)
      select 'new', n % 10 + 1, date '2026-01-01' + n % 50 from generate_series(1, 500) n;
    insert into stock.moves select kept_on, id from stock.goods;
    grant select on stock.goods to bilten_readonly;
"""

DUMPING = """
    select pid, application_name from pg_stat_activity
    where application_name like '%postgres-logical%' or application_name = 'bilten logical backup'
"""


def matrix(case: str) -> ParameterSet:
    """One case of each family is in `make test`, the others in `make test-faults`."""
    return pytest.param(case, marks=pytest.mark.faults)


@pytest.fixture(scope="module")
def server(servers: Servers) -> Iterator[stack.PostgresServer]:
    """One for all: to start one takes longer than a test."""
    name = f"postgres-{next(servers.numbers)}"
    server = stack.start_postgres(servers.base, name)
    yield server
    server.kill()
    shutil.rmtree(servers.base / name)


@pytest.fixture
def stock(servers: Servers, server: stack.PostgresServer) -> Iterator[Shop]:
    base = servers.base / f"logical-{next(servers.numbers)}"
    base.mkdir(mode=0o755)
    settings = Settings(
        home=base / "home",
        environment="test",
        postgres=server.settings(),
        object_store=servers.buckets(),
        backups=BackupSettings(slice_bytes=SLICE, lock_wait_seconds=0),
    )
    with postgres.connect(settings.postgres, autocommit=True) as connection:
        connection.execute(STOCK)
    yield Shop(server, settings, base)
    shutil.rmtree(base, ignore_errors=True)
    with embedded.superuser(server.cluster) as connection:
        for (name,) in connection.execute(
            "select datname from pg_database where not datistemplate and datname <> 'postgres'"
        ).fetchall():
            connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(str(name))))
        connection.execute("drop role if exists clerk")
        connection.execute("alter role bilten_app connection limit -1")
    embedded.provision(server.cluster, server.settings())


@pytest.fixture
def taken(stock: Shop) -> Manifest:
    return logical.take(stock.settings).manifest


def superuser(stock: Shop) -> PostgresSettings:
    """Its server as the superuser reaches it, who may make databases and untrusted extensions."""
    return stock.settings.postgres.model_copy(
        update={
            "host": str(stock.server.cluster.socket_directory),
            "user": embedded.SUPERUSER,
            "password": SecretStr(""),
        }
    )


def asked(stock: Shop, database: str, query: str) -> list[tuple[object, ...]]:
    with embedded.superuser(stock.server.cluster, database) as connection:
        return connection.execute(query).fetchall()


def databases(stock: Shop) -> set[object]:
    return {name for (name,) in asked(stock, "postgres", "select datname from pg_database")}


def restored(
    stock: Shop, backup: Manifest, into: str, **options: object
) -> logical_restore.LogicalRestoreReport:
    return logical_restore.restore(
        stock.settings,
        backup.id,
        into,
        **{"server": superuser(stock), **options},  # type: ignore[arg-type]
    )


def test_under_writes_and_back(stock: Shop) -> None:
    before = databases(stock)
    told: list[str] = []
    with writing(stock):
        manifest = logical.take(stock.settings, run="a-run", progress=told.append).manifest
    assert stock.listed() == [manifest.id]
    assert manifest.run == "a-run"
    assert manifest.counts["bilten.public.kept"] == 120_000
    assert manifest.counts["bilten.stock.moves_1"] + manifest.counts["bilten.stock.moves_2"] == 500
    assert manifest.counts["bilten.public.moving"] % 50 == 0, "half a commit was dumped"
    assert len(logical.objects_of(manifest, "bilten")) >= 3
    assert len(logical.objects_of(manifest, "bilten_dagster")) == 1
    assert manifest.details["roles"].startswith("without passwords")
    assert manifest.stored_bytes < manifest.raw_bytes / 1.5

    report = restored(stock, manifest, "copy")
    assert report.rows == sum(rows for name, rows in manifest.counts.items() if name.startswith("bilten."))
    assert databases(stock) - before == {"copy"}
    assert asked(stock, "copy", DIGEST) == [stock.digest()]
    assert asked(stock, "copy", "select indexname from pg_indexes where tablename = 'goods' order by 1") == [
        ("goods_pkey",),
        ("goods_state",),
    ]
    assert asked(stock, "copy", "select has_table_privilege('bilten_readonly', 'stock.goods', 'select')") == [
        (True,)
    ]
    assert asked(stock, "copy", "select tableowner from pg_tables where tablename = 'kept'") == [
        ("bilten_owner",)
    ]
    # what was restored is nobody's business but its owner's
    assert asked(stock, "copy", "select has_database_privilege('bilten_app', 'copy', 'connect')") == [
        (False,)
    ]
    assert not list(stock.settings.home.glob("bilten-dump-*"))


def test_dagsters_database_comes_back(stock: Shop) -> None:
    with postgres.connect(stock.settings.postgres, "dagster", autocommit=True) as connection:
        connection.execute("create table runs as select generate_series(1, 7) n")
    manifest = logical.take(stock.settings).manifest
    report = restored(stock, manifest, "runs_copy", database="bilten_dagster")
    assert (report.tables, report.rows) == (1, 7)
    assert asked(stock, "runs_copy", "select tableowner from pg_tables where tablename = 'runs'") == [
        ("bilten_dagster",)
    ]


def test_a_superuser_takes_the_passwords_of_roles_along(stock: Shop) -> None:
    as_superuser = stock.settings.model_copy(update={"postgres": superuser(stock)})
    told: list[str] = []
    manifest = logical.take(as_superuser, progress=told.append).manifest
    assert manifest.details["roles"] == "with passwords (as verifiers)"
    with Opened.of(stock.settings) as opened:
        script = b"".join(opened.get(manifest, manifest.others[logical.GLOBALS])).decode()
    assert "PASSWORD 'SCRAM-SHA-256$" in script
    assert "SCRAM" not in repr(manifest) + "".join(told)
    with embedded.superuser(stock.server.cluster) as connection:
        connection.execute("create role clerk login password 'of-a-clerk-1'")
        row = connection.execute("select rolpassword from pg_authid where rolname = 'clerk'").fetchone()
    kept = logical.take(as_superuser).manifest
    with embedded.superuser(stock.server.cluster) as connection:
        connection.execute("drop role clerk")
    assert restored(stock, kept, "copy", roles=True).roles.made == ("clerk",)
    assert asked(stock, "postgres", "select rolpassword from pg_authid where rolname = 'clerk'") == [row]


def test_one_table_into_a_new_database(stock: Shop, taken: Manifest) -> None:
    report = restored(stock, taken, "beside", table="stock.goods")
    assert (report.tables, report.rows) == (1, 500)
    assert report.left_out == ("FK CONSTRAINT stock goods goods_shelf_fkey",)
    assert asked(stock, "beside", "select conname from pg_constraint where contype = 'f'") == []
    assert asked(stock, "beside", "select count(*) from pg_indexes where tablename = 'goods'") == [(2,)]
    assert asked(
        stock, "beside", "insert into stock.goods (state, kept_on) values ('sold', now()) returning id"
    ) == [(501,)]


def test_one_table_into_the_database_that_lost_it(stock: Shop, taken: Manifest) -> None:
    with postgres.connect(stock.settings.postgres, autocommit=True) as connection:
        connection.execute("drop table stock.goods; drop table stock.moves_1")
    report = restored(stock, taken, "bilten", table="stock.goods")
    assert report.left_out == ()
    assert asked(
        stock, "bilten", "select convalidated from pg_constraint where conname = 'goods_shelf_fkey'"
    ) == [(True,)]
    assert restored(stock, taken, "bilten", table="stock.moves_1").left_out == ()
    assert asked(stock, "bilten", "select count(*) from stock.moves where at < '2026-02-01'") == [
        (taken.counts["bilten.stock.moves_1"],)
    ]
    with pytest.raises(Refused, match=r"has a table stock\.goods"):
        restored(stock, taken, "bilten", table="stock.goods")
    with pytest.raises(UsageError, match="has no table goods") as told:
        restored(stock, taken, "bilten", table="goods")
    assert told.value.problems[0].expected == "stock.goods"


def test_a_tablespace_that_is_gone_is_no_hindrance(stock: Shop) -> None:
    """A dump comes onto other servers; there everything lies in the default tablespace."""
    place = stock.server.cluster.data.parent / "fast"
    privileges.server_directory(place, privileges.server_user())
    with embedded.superuser(stock.server.cluster, "bilten") as connection:
        connection.execute(f"create tablespace fast location '{place}'")
        connection.execute("alter table stock.shelves set tablespace fast")
    manifest = logical.take(stock.settings).manifest
    with embedded.superuser(stock.server.cluster, "bilten") as connection:
        connection.execute("alter table stock.shelves set tablespace pg_default")
        connection.execute("drop tablespace fast")
    assert restored(stock, manifest, "copy").rows > 0
    assert asked(stock, "copy", "select count(*) from stock.shelves") == [(10,)]


def test_a_table_that_does_not_fit_leaves_the_database_as_it_was(stock: Shop, taken: Manifest) -> None:
    """A view has its name: pg_restore fails in the middle of its one transaction."""
    with postgres.connect(stock.settings.postgres, autocommit=True) as connection:
        connection.execute(
            "drop table stock.goods; drop type stock.state; create view stock.goods as select 1 a"
        )
    with pytest.raises(Mismatch, match="pg_restore failed") as told:
        restored(stock, taken, "bilten", table="stock.goods")
    assert 'relation "goods" already exists' in told.value.problems[0].found
    assert asked(stock, "bilten", "select from pg_type where typname = 'state'") == []


def test_roles_that_are_missing_are_told_first_and_made_on_demand(stock: Shop) -> None:
    with embedded.superuser(stock.server.cluster, "bilten") as connection:
        connection.execute("create role clerk login connection limit 3; grant bilten_readonly to clerk")
        connection.execute(
            "alter table stock.shelves owner to clerk; grant select on stock.shelves to bilten_owner"
        )
        connection.execute("grant create, usage on schema stock to clerk")
    manifest = logical.take(stock.settings).manifest
    with embedded.superuser(stock.server.cluster, "bilten") as connection:
        connection.execute("reassign owned by clerk to bilten_owner; drop owned by clerk; drop role clerk")
        connection.execute("alter role bilten_app connection limit 9")
    with pytest.raises(Refused) as told:
        restored(stock, manifest, "copy")
    assert [problem.found for problem in told.value.problems] == ["without clerk"]
    assert "copy" not in databases(stock)
    assert restored(stock, manifest, "ownerless", owners=False).roles.made == ()
    assert asked(
        stock, "ownerless", "select distinct tableowner from pg_tables where schemaname = 'stock'"
    ) == [("postgres",)]
    report = restored(stock, manifest, "copy", roles=True)
    assert report.roles.made == ("clerk",)
    assert {"bilten_app", "postgres"} <= set(report.roles.kept)
    assert asked(stock, "copy", "select tableowner from pg_tables where tablename = 'shelves'") == [
        ("clerk",)
    ]
    assert asked(
        stock,
        "copy",
        "select rolname, rolconnlimit, pg_has_role(oid, 'bilten_readonly', 'member') from pg_roles"
        " where rolname in ('clerk', 'bilten_app') order by 1",
    ) == [("bilten_app", 9, False), ("clerk", 3, True)]


def test_everything_that_forbids_it_is_told_at_once(stock: Shop, taken: Manifest) -> None:
    before = databases(stock)
    with pytest.raises(Refused) as told:
        logical_restore.restore(stock.settings, taken.id, "x" * 60)
    said = [problem.what for problem in told.value.problems]
    assert said[0] == "the name of the database is too long"
    assert said[-1] == f"bilten_owner may not create the database {'x' * 60}"
    assert [text for text in said if "extension" in text] == [
        f"bilten_owner may not create the extension {name}" for name in sorted(embedded.EXTENSIONS)
    ]
    with pytest.raises(Refused, match="the database bilten is not empty"):
        restored(stock, taken, "bilten")
    with pytest.raises(Refused, match="a logical one: bilten restore logical"):
        restore_directory(stock.settings, Target("backup", taken.id), stock.base / "directory")
    with pytest.raises(UsageError, match="holds no database shop"):
        restored(stock, taken, "copy", database="shop")
    assert databases(stock) == before


def test_an_empty_database_that_somebody_made_is_filled(stock: Shop, taken: Manifest) -> None:
    """So that a role without CREATEDB can restore: extensions are there, and their comments stay."""
    with embedded.superuser(stock.server.cluster) as connection:
        connection.execute("create database given owner bilten_owner")
    embedded.create_extensions(stock.server.cluster, "given")
    report = logical_restore.restore(stock.settings, taken.id, "given", owners=False)
    assert report.rows == sum(rows for name, rows in taken.counts.items() if name.startswith("bilten."))
    assert asked(stock, "given", DIGEST) == [stock.digest()]


@needs_root
def test_too_little_room_is_told_before_anything_is_fetched(
    stock: Shop, taken: Manifest, tmp_path: Path
) -> None:
    small = tmp_path / "small"
    with mounted(small, 1 << 20):
        with pytest.raises(Refused, match="too little room") as told:
            restored(stock, taken, "copy", scratch=small)
        assert told.value.problems[0].next.startswith("--scratch")
        # and where the room goes meanwhile
        dump = logical.objects_of(taken, "bilten")
        with (
            Opened.of(stock.settings) as opened,
            pytest.raises(Refused, match="too little room"),
            logical_restore.fetched(opened, taken, dump, small, lambda text: None),
        ):
            pass
        assert list(small.iterdir()) == []
    assert "copy" not in databases(stock)


RESTORED_AND_KILLED = """
import os, signal, sys
from pathlib import Path
from bilten_orchestration.backups.postgres import logical_restore, pg_restore
from bilten_orchestration.settings.loading import load_settings
backup, socket, at = sys.argv[1:]
heard = pg_restore._Heard.line
def line(self, text):
    if at in text:
        os.kill(os.getpid(), signal.SIGKILL)
    heard(self, text)
pg_restore._Heard.line = line
def progress(text):
    if at in text:
        os.kill(os.getpid(), signal.SIGKILL)
settings = load_settings()
server = settings.postgres.model_copy(
    update={"host": socket, "user": "postgres", "password": type(settings.postgres.password)("")}
)
logical_restore.restore(settings, backup, "copy", server=server, progress=progress)
"""


@pytest.mark.parametrize(
    "at", [matrix("bilten.dump/000001"), 'processing data for table "public.kept"', matrix("counting")]
)
def test_a_killed_restore_leaves_nothing_that_the_next_does_not_remove(
    stock: Shop, taken: Manifest, environment: Environment, at: str
) -> None:
    killed = run(stock, environment, RESTORED_AND_KILLED, taken.id, superuser(stock).host or "", at)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not list(stock.settings.home.glob("bilten-dump-*"))
    assert "copy" not in databases(stock)
    told: list[str] = []
    deadline = time.monotonic() + 30
    while True:  # the server sees a little later that the one who held the lock is gone
        try:
            restored(stock, taken, "copy", progress=told.append)
            break
        except LockHeld:
            assert time.monotonic() < deadline
    assert any("dropped copy.restoring" in text for text in told) == ("dump/" not in at)
    assert asked(stock, "copy", DIGEST) == [stock.digest()]
    assert "copy.restoring" not in databases(stock)


TAKEN_AND_KILLED = """
import os, signal, sys
from bilten_orchestration.backups.repository.bucket import Repository
from bilten_orchestration.backups.postgres import logical
from bilten_orchestration.settings.loading import load_settings
write = Repository.write
def then_dies(self, name, chunks):
    stored = write(self, name, chunks)
    if name.endswith(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    return stored
Repository.write = then_dies
logical.take(load_settings())
"""


@pytest.mark.parametrize("at", [matrix("globals.sql"), "bilten.dump/000001", matrix("databases.json")])
def test_a_killed_backup_is_none_and_the_next_one_is_whole(
    stock: Shop, environment: Environment, at: str
) -> None:
    killed = run(stock, environment, TAKEN_AND_KILLED, at)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert stock.listed() == []
    patient = stock.settings.model_copy(
        update={"backups": stock.settings.backups.model_copy(update={"lock_wait_seconds": 30})}
    )
    manifest = logical.take(patient).manifest
    assert stock.listed() == [manifest.id]
    assert programs(stock) == []


def test_a_run_that_is_cancelled_leaves_nothing_at_work(stock: Shop, environment: Environment) -> None:
    """pg_dump and the pg_restore that counts are gone, on the server too; nothing holds a lock any more."""
    with postgres.connect(stock.settings.postgres, autocommit=True) as connection:
        connection.execute("insert into kept select id, words from kept, generate_series(1, 5)")
    large = sliced(stock.settings, 16 << 20)
    at_work = cancelled(large, environment(large), "postgres", "logical", "bilten.dump/000000")
    assert at_work.programs == {"pg_dump", "pg_restore"}
    assert any(name.endswith("bilten.dump/000000") for name in at_work.uploads)
    assert stock.listed() == []
    until(lambda: asked(stock, "bilten", DUMPING) == [], "the server ends the dump")
    manifest = logical.take(stock.settings).manifest
    assert stock.listed() == [manifest.id]


def run(
    stock: Shop, environment: Environment, code: str, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """In a process of its own, which leaves no temporary file however it ends: passwords are in some."""
    temporary = stock.base / "tmp"
    temporary.mkdir(exist_ok=True)
    more = {
        "PYTHONPATH": str(Path(__file__).parents[4]),
        "BILTEN_HOME": str(stock.settings.home),
        "TMPDIR": str(temporary),
    }
    ended = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment(stock.settings) | more,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert list(temporary.iterdir()) == []
    return ended


def programs(stock: Shop) -> list[psutil.Process]:
    """Those of ours that are connected to this server."""
    return clients_of(stock.settings.postgres, "pg_dump", "pg_dumpall", "pg_restore")


@pytest.fixture
def when_two_are_written(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Callable[[], object]]]:
    """What happens after the second object of a backup."""
    events: list[Callable[[], object]] = []
    write, written = Repository.write, []

    def counted(self: Repository, name: str, chunks: object) -> object:
        stored = write(self, name, chunks)  # type: ignore[arg-type]
        written.append(stored)
        if len(written) == 2:
            for event in events:
                event()
        return stored

    monkeypatch.setattr(Repository, "write", counted)
    yield events
    monkeypatch.undo()


def test_a_killed_pg_dump_makes_no_backup(
    stock: Shop, when_two_are_written: list[Callable[[], object]]
) -> None:
    when_two_are_written.append(lambda: [process.kill() for process in programs(stock)])
    with postgres.connect(stock.settings.postgres, autocommit=True) as connection:
        connection.execute("insert into kept select id, words from kept, generate_series(1, 5)")
    with pytest.raises(Mismatch, match="pg_dump failed"):
        logical.take(stock.settings)
    assert stock.listed() == []


def test_a_server_that_dies_in_the_middle_leaves_no_backup(
    stock: Shop, when_two_are_written: list[Callable[[], object]]
) -> None:
    when_two_are_written.append(stock.server.kill)
    with pytest.raises(StoreUnavailable, match="PostgreSQL went away"):
        logical.take(stock.settings)
    stock.server.start()
    assert stock.listed() == []


def test_a_table_that_ddl_holds_is_named_with_who_holds_it(stock: Shop) -> None:
    hurried = stock.settings.model_copy(
        update={"backups": stock.settings.backups.model_copy(update={"table_wait_seconds": 1})}
    )
    with postgres.connect(stock.settings.postgres, application_name="a migration") as other:
        other.execute("alter table stock.goods add column note text")
        with pytest.raises(LockHeld, match=r"a migration.*on .*stock\.goods"):
            logical.take(hurried)
    assert stock.listed() == []
    assert "bilten.stock.goods" in logical.take(hurried).manifest.counts


def test_it_holds_the_locks_that_others_ask_for(stock: Shop) -> None:
    with postgres.connect(stock.settings.postgres, autocommit=True, application_name="another") as other:
        with advisory_lock(other, "backup:postgres"), pytest.raises(LockHeld, match="another"):
            logical.take(stock.settings)
        # detach and drop of partitions
        with advisory_lock(other, "snapshot"), pytest.raises(LockHeld, match="another"):
            logical.take(stock.settings)
        with advisory_lock(other, "snapshot", shared=True):
            logical.take(stock.settings)
    (manifest,) = stock.listed()
    with (
        embedded.superuser(stock.server.cluster) as other,
        advisory_lock(other, "restore:copy"),  # type: ignore[arg-type]
        pytest.raises(LockHeld),
    ):
        logical_restore.restore(stock.settings, manifest, "copy", server=superuser(stock))


@pytest.mark.parametrize("damage", ["flipped", matrix("cut"), matrix("removed"), matrix("exchanged")])
def test_a_damaged_object_is_never_restored(stock: Shop, taken: Manifest, damage: str) -> None:
    before = databases(stock)
    names = [each.name for each in logical.objects_of(taken, "bilten")]
    stock.damage(damage, names[1], names[0])
    assert [names[1] in each.what for each in verify(stock.settings, taken.id, by="a test").problems] == [
        True
    ]
    with pytest.raises(Mismatch, match=names[1]):
        restored(stock, taken, "copy")
    assert databases(stock) == before


def test_without_the_key_nothing_is_restored(stock: Shop, taken: Manifest) -> None:
    path = key_file(stock.settings)
    path.rename(path.with_name("elsewhere.json"))
    with pytest.raises(Refused, match="there is no key file"):
        restored(stock, taken, "copy")
    keys.ensure(path)
    with pytest.raises(Mismatch, match="there is no backup"):
        restored(stock, taken, "copy")


def test_an_older_pg_restore_is_refused_and_a_newer_one_is_not(
    stock: Shop, taken: Manifest, tmp_path: Path
) -> None:
    def called(version: str) -> Settings:
        directory = tmp_path / version
        directory.mkdir()
        real = embedded.binaries(stock.base, None)
        for name in ("pg_basebackup", "pg_restore"):
            script = directory / name
            script.write_text(
                f'#!/bin/sh\n[ "$1" = --version ] && echo "{name} (PostgreSQL) {version}" && exit\n'
                f'exec {real}/{name} "$@"\n'
            )
            script.chmod(0o755)
        changed = stock.settings.postgres.model_copy(update={"pg_bin": directory})
        return stock.settings.model_copy(update={"postgres": changed})

    with pytest.raises(Refused, match="not of the version") as told:
        logical_restore.restore(called("17.4"), taken.id, "copy", server=superuser(stock))
    assert told.value.problems[0].expected == "PostgreSQL 18 or newer"
    logical_restore.restore(called("19.1"), taken.id, "copy", server=superuser(stock))
    assert "copy" in databases(stock)


def test_from_the_command_line(stock: Shop, environment: Environment) -> None:
    made = bilten(stock, environment, "backup", "create", "postgres", "--kind", "logical", "--json")
    backup = document(made)["result"]["backup"]
    assert backup["kind"] == "logical"
    call = ["restore", "logical", "--backup", backup["id"], "--into", "beside", "--table", "stock.goods"]
    refused = bilten(stock, environment, *call)
    assert refused.returncode == 1
    assert "may not create the database beside" in refused.stderr
    place = ["--host", superuser(stock).host or "", "--user", "postgres"]
    shown = bilten(stock, environment, *call, *place)
    assert shown.returncode == 0, shown.stderr
    assert "500 rows in 1 tables" in shown.stdout
    assert "FK CONSTRAINT stock goods goods_shelf_fkey" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 80
    again = bilten(stock, environment, *call, *place, "--json")
    assert again.returncode == 1
    assert "has a table stock.goods" in document(again)["problems"][0]["what"]
