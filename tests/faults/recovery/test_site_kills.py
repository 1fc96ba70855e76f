"""Lost stores: everything from the second bucket, search anew, proven equal at the end, whatever was killed;
then ClickHouse alone, on what came back."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test

from bilten_orchestration.backups.copies.copy import copy
from bilten_orchestration.backups.create import create
from bilten_orchestration.backups.repository import keys
from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.errors import Refused
from bilten_orchestration.ingestion import sync as ingestion
from bilten_orchestration.local.dagster_services import storage_url
from bilten_orchestration.recovery import journal, site, site_state
from bilten_orchestration.recovery.site_plan import data_directory
from bilten_orchestration.search import loading
from bilten_orchestration.search import state as search_state
from bilten_orchestration.search.delta import delta
from bilten_orchestration.search.drift import drift
from bilten_orchestration.search.status import status
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse, object_store, postgres
from tests import stack
from tests.conftest import Servers
from tests.faults.recovery.site_servers import starter
from tests.integration.recovery.conftest import Platform, make
from tests.integration.search.conftest import forget_indices
from tests.integration.search.shopfront import rebuild
from tests.kills import killed_before_line

pytestmark = pytest.mark.faults
FILE = b"a poster"


@dataclass
class Lost:
    """A site that is gone: `settings` are those of the empty machine, `content` what PostgreSQL held,
    `digest` that of the file of the application, `started_run` what Dagster was at."""

    platform: Platform
    settings: Settings
    content: dict[str, str]
    digest: str
    started_run: str
    start: site.Start
    running: list[stack.Server]

    def recover(self, *stores: Any, execute: bool = True) -> site.SiteReport:
        return site.recover(
            self.settings, stores or site.LOST, execute=execute, start=self.start, rebuild=False
        )

    @property
    def back(self) -> Platform:
        return Platform(self.start(self.settings), self.platform.stream, self.platform.world)


@pytest.fixture(scope="module")
def lost(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lost]:
    with stack.stopping() as running:
        platform = make(servers, running)
        search = platform.settings.search.model_copy(update={"lag_seconds": 30.0})
        settings = platform.settings.model_copy(update={"opensearch": servers.opensearch, "search": search})
        platform.settings = settings
        forget_indices(settings)
        platform.execute("update events.events set status = 'published', visibility = 'public'")
        rebuild(settings)
        digest = _keep_a_file(platform)
        create(settings, "clickhouse", None)
        create(settings, "redis", None)
        with _dagster(settings, tmp_path_factory.mktemp("dagster")) as instance:
            run = create_run_for_test(instance, "nightly", status=dg.DagsterRunStatus.STARTED)
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
        forget_indices(settings)  # an empty OpenSearch, as another machine has it

        home = settings.home.parent / "another"
        home.mkdir()
        shutil.copy(settings.home / "backup-keys.json", home / "backup-keys.json")
        # the first bucket is gone with the site: those of an empty machine are new
        names = {
            "bucket_backups": servers.buckets().bucket_backups,
            "bucket_assets": settings.object_store.bucket_assets,
        }
        client = object_store.connect(settings.object_store)
        client.delete_object(Bucket=settings.object_store.bucket_assets, Key="posters/one")
        client.close()
        away = settings.model_copy(
            update={"home": home, "object_store": settings.object_store.model_copy(update=names)}
        )
        ring = keys.read(home / "backup-keys.json")
        yield Lost(platform, away, content, digest, run.run_id, starter(servers, running, ring), running)
        forget_indices(settings)
        shutil.rmtree(home.parent, ignore_errors=True)


@contextmanager
def _dagster(settings: Settings, home: Path) -> Iterator[dg.DagsterInstance]:
    storage = {"postgres": {"postgres_url": storage_url(settings)}}
    (home / "dagster.yaml").write_text(json.dumps({"storage": storage, "telemetry": {"enabled": False}}))
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


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


def _killed_behind(phase: str, recover: Callable[[], object]) -> None:
    """Its work is done, and that is not written down yet."""
    advance = site_state.advance

    def die(settings: Settings, state: site_state.SiteState, done: str) -> site_state.SiteState:
        if done == phase:
            os.kill(os.getpid(), signal.SIGKILL)
        return advance(settings, state, done)

    site_state.advance = die
    recover()


def _killed_when(module: Any, name: str, recover: Callable[[], site.SiteReport]) -> None:
    """It is about to do that."""
    setattr(module, name, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
    report = recover()
    raise AssertionError(f"it ended without {name}: {report.problems}")


def _entries(settings: Settings) -> list[tuple[str, object]]:
    with Opened.of(settings, new=False) as opened:
        return [(str(each.id), each.ended and each.ended["outcome"]) for each in journal.read(opened)]


def _searched(report: site.SiteReport, settings: Settings) -> None:
    """One index was built, whatever was killed; it serves, on this epoch, and is proven equal."""
    assert report.settled is not None
    found = report.settled.search
    assert found is not None
    assert (found.equal, found.documents, found.problems) == (True, 2, ())
    told = status(settings)
    assert (told.index, told.problems) == (found.index, ())
    assert [each.name for each in told.indices if each.exists] == [found.index]
    assert drift(settings, whole=True, repair=False).compared.equal
    assert delta(settings).accepted is False


def test_everything_from_the_second_bucket(lost: Lost, tmp_path: Path) -> None:
    away = lost.settings
    planned = lost.recover(execute=False)
    assert planned.problems == ()
    assert [each.store for each in planned.plan.stores] == ["postgres", "redis", "clickhouse", "files"]
    assert all(each.rpo_seconds is not None for each in planned.plan.stores[:3])
    assert planned.plan.stores[3].stored_bytes == len(FILE)
    assert any("Dagster's runs" in step for step in planned.plan.steps)
    assert not data_directory(away).exists()

    # something that is there already is refused, with everything else
    in_the_way = data_directory(away) / "redis" / "dump.rdb"
    in_the_way.parent.mkdir(parents=True)
    in_the_way.write_text("rows of somebody")
    with pytest.raises(Refused, match="is not empty"):
        lost.recover()
    assert in_the_way.read_text() == "rows of somebody"
    shutil.rmtree(in_the_way.parent)

    done: list[str] = []
    for phase in ("postgres", "epoch", "redis", "servers", "clickhouse begun", "clickhouse", "files"):
        if phase == "clickhouse begun":
            lost.start(away)  # from here on servers outlive whoever is killed, with what is in them
        assert killed_before_line(lambda phase=phase: _killed_behind(phase, lost.recover), [], 1)  # type: ignore[misc]
        state = site_state.read(away)
        assert state is not None
        assert state.done == tuple(done), phase
        done.append(phase)
    for module, name in (
        (ingestion, "sync"),
        (ingestion, "reconcile"),
        (loading, "ready"),
        (search_state, "record_swap"),
        (site_state, "forget"),
    ):
        assert killed_before_line(
            lambda module=module, name=name: _killed_when(module, name, lost.recover),  # type: ignore[misc]
            [],
            1,
        )
        state = site_state.read(away)
        assert state is not None
        assert state.done == tuple(done)

    report = lost.recover()
    assert report.problems == ()
    assert report.resumed == tuple(done)
    assert report.settled is not None
    assert report.settled.equal
    assert site_state.read(away) is None
    assert _entries(away) == [(report.recovery, "done")]
    back = lost.back
    _searched(report, back.settings)
    assert back.content() == lost.content
    assert back.ask("select count(*) from system.restores") == [(1,)]
    client = object_store.connect(away.object_store)
    found = client.get_object(Bucket=away.object_store.bucket_assets, Key="posters/one")["Body"].read()
    client.close()
    assert hashlib.sha256(found).hexdigest() == lost.digest
    assert any((data_directory(away) / "redis").rglob("*.rdb"))
    automatic = (data_directory(away) / "postgres" / "postgresql.auto.conf").read_text()
    assert "bilten" not in automatic
    with _dagster(back.settings, tmp_path) as instance:
        run = instance.get_run_by_id(lost.started_run)
    assert run is not None
    assert run.status == dg.DagsterRunStatus.CANCELED


def test_then_clickhouse_alone(lost: Lost) -> None:
    """PostgreSQL has moved on since the backup; what is not lost is refused, and refusing leaves nothing."""
    away = lost.settings
    back = lost.back
    with closing(clickhouse.connect(back.settings.clickhouse)) as client:
        (rows,) = client.query("select count() from bilten_raw.payments_payments final").first_row
    with pytest.raises(Refused, match="ClickHouse that is to be filled is not empty"):
        lost.recover("clickhouse")
    assert site_state.read(away) is None
    assert _entries(away)[-1][1] == "nothing"

    [engine] = [each for each in lost.running if isinstance(each, stack.ClickHouseServer)]
    engine.kill()
    lost.running.remove(engine)
    back.world.kolkata.connection = postgres.connect(back.settings.postgres, autocommit=True)
    back.world.kolkata.order()
    content = back.content()
    planned = lost.recover("clickhouse", execute=False)
    assert [each.store for each in planned.plan.stores] == ["clickhouse"]
    assert not any("Dagster" in step for step in planned.plan.steps)
    report = lost.recover("clickhouse")
    assert report.problems == ()
    assert set(report.done) == {"servers", "clickhouse", "settled"}
    assert report.settled is not None
    assert report.settled.equal
    assert _entries(away)[-1] == (report.recovery, "done")
    _searched(report, lost.back.settings)
    assert lost.back.content() == content, "PostgreSQL is only read"
    with closing(clickhouse.connect(lost.back.settings.clickhouse)) as client:
        assert client.query("select count() from bilten_raw.payments_payments final").first_row == (rows + 1,)
