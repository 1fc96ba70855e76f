"""A site that is lost: everything from the second bucket, proven equal at the end, whatever was killed."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
from collections.abc import Iterator

import pytest

from bilten_orchestration.backups.clickhouse import disks
from bilten_orchestration.backups.copies.copy import copy
from bilten_orchestration.backups.create import create
from bilten_orchestration.backups.repository import keys
from bilten_orchestration.errors import Refused
from bilten_orchestration.local import postgres as embedded
from bilten_orchestration.local import privileges
from bilten_orchestration.recovery import site, site_state
from bilten_orchestration.recovery.site_plan import data_directory
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import object_store, postgres
from tests import stack
from tests.conftest import Servers
from tests.integration.recovery.conftest import Platform, make
from tests.kills import killed_before_line

FILE = b"a poster"


@pytest.fixture
def running() -> Iterator[list[stack.Server]]:
    with stack.stopping() as servers:
        yield servers


def _keep_a_file(platform: Platform) -> str:
    digest = hashlib.sha256(FILE).hexdigest()
    client = object_store.connect(platform.settings.object_store)
    client.put_object(Bucket=platform.settings.object_store.bucket_assets, Key="posters/one", Body=FILE)
    client.close()
    platform.execute(
        "insert into assets.files (owner_type, owner_id, bucket, object_key, sha256, size, updated_at)"
        f" values ('event', '{platform.world.kolkata.event}',"
        f" '{platform.settings.object_store.bucket_assets}', 'posters/one', '{digest}', {len(FILE)},"
        " now() - interval '1 day')"
    )
    return digest


def _accepts(server: stack.PostgresServer) -> str:
    with postgres.connect(server.superuser, autocommit=True) as connection:
        connection.execute("select 1")
    return "ready"


def _starter(servers: Servers, running: list[stack.Server], ring: keys.KeyRing) -> site.Start:
    """The servers of the test stack on the directories that were filled."""

    def start(settings: Settings) -> Settings:
        user = privileges.server_user()
        place = servers.base / f"site-{next(servers.numbers)}"
        place.mkdir(mode=0o755)
        cluster = embedded.Cluster(
            data=data_directory(settings) / "postgres",
            socket_directory=place / "socket",
            port=stack.ports.any_free(),
            bin=embedded.binaries(servers.base, user),
            user=user,
        )
        embedded.initialise(cluster)
        server = stack.PostgresServer(
            program=embedded.program(cluster),
            ready=lambda: _accepts(server),
            log=place / "log",
            user=user,
            cluster=cluster,
        )
        server.start()
        running.append(server)
        engine = stack.start_clickhouse(
            servers.base,
            f"clickhouse-{next(servers.numbers)}",
            disks=disks.configuration(settings.object_store, ring),
        )
        running.append(engine)
        return settings.model_copy(update={"postgres": server.settings(), "clickhouse": engine.settings})

    return start


@pytest.mark.faults
def test_everything_from_the_second_bucket(servers: Servers, running: list[stack.Server]) -> None:
    platform = make(servers, running)
    settings = platform.settings
    digest = _keep_a_file(platform)
    create(settings, "clickhouse", None)
    create(settings, "redis", None)
    # ClickHouse's backup is older than what PostgreSQL comes back with
    platform.world.kolkata.connection = postgres.connect(settings.postgres, autocommit=True)
    platform.world.kolkata.order()
    content = platform.content()
    platform.shipped(bucket=1)
    copy(settings)
    platform.stream.kill()
    for server in running:
        server.kill()
    running.clear()

    home = settings.home.parent / "another"
    home.mkdir()
    shutil.copy(settings.home / "backup-keys.json", home / "backup-keys.json")
    # the first bucket is gone with the site: those of an empty machine are new
    fresh = servers.buckets()
    names = {
        "bucket_backups": fresh.bucket_backups,
        "bucket_assets": settings.object_store.bucket_assets,
    }
    client = object_store.connect(settings.object_store)
    client.delete_object(Bucket=settings.object_store.bucket_assets, Key="posters/one")
    away = settings.model_copy(
        update={"home": home, "object_store": settings.object_store.model_copy(update=names)}
    )
    ring = keys.read(home / "backup-keys.json")
    start = _starter(servers, running, ring)

    def recover(*, execute: bool) -> site.SiteReport:
        return site.recover(away, execute=execute, start=start, rebuild=False)

    planned = recover(execute=False)
    assert planned.problems == ()
    assert [each.store for each in planned.plan.stores] == ["postgres", "redis", "clickhouse", "files"]
    assert all(each.rpo_seconds is not None for each in planned.plan.stores[:3])
    assert planned.plan.stores[3].stored_bytes == len(FILE)
    assert not data_directory(away).exists()

    # something that is there already is refused, with everything else
    in_the_way = data_directory(away) / "redis" / "dump.rdb"
    in_the_way.parent.mkdir(parents=True)
    in_the_way.write_text("rows of somebody")
    with pytest.raises(Refused, match="is not empty"):
        recover(execute=True)
    assert in_the_way.read_text() == "rows of somebody"
    shutil.rmtree(in_the_way.parent)

    for phase in ("postgres", "epoch", "redis"):
        assert killed_before_line(lambda phase=phase: _killed_behind(phase, recover), [], 1)  # type: ignore[misc]
        state = site_state.read(away)
        assert state is not None
        assert phase not in state.done

    report = recover(execute=True)
    assert report.problems == ()
    assert report.resumed == ("postgres", "epoch")
    assert report.settled is not None
    assert report.settled.equal
    assert site_state.read(away) is None
    back = Platform(
        away.model_copy(update={"postgres": _settings_of(running)}), platform.stream, platform.world
    )
    assert back.content() == content
    assert back.ask("select count(*) from system.restores") == [(1,)]
    found = client.get_object(Bucket=settings.object_store.bucket_assets, Key="posters/one")["Body"].read()
    assert hashlib.sha256(found).hexdigest() == digest
    assert any((data_directory(away) / "redis").rglob("*.rdb"))
    automatic = (data_directory(away) / "postgres" / "postgresql.auto.conf").read_text()
    assert "bilten" not in automatic
    client.close()
    shutil.rmtree(home, ignore_errors=True)


def _killed_behind(phase: str, recover: object) -> None:
    """Its work is done, and that is not written down yet."""
    advance = site_state.advance

    def die(settings: Settings, state: site_state.SiteState, done: str) -> site_state.SiteState:
        if done == phase:
            os.kill(os.getpid(), signal.SIGKILL)
        return advance(settings, state, done)

    site_state.advance = die
    recover(execute=True)  # type: ignore[operator]


def _settings_of(running: list[stack.Server]) -> object:
    [server] = [each for each in running if isinstance(each, stack.PostgresServer)]
    return server.settings()
