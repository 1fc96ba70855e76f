"""PostgreSQL alone is lost, and ClickHouse is ahead of all that was stored of it."""

from __future__ import annotations

import shutil
from contextlib import closing

import pytest

from bilten_orchestration.backups.repository import keys
from bilten_orchestration.recovery import site
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse, postgres
from tests import stack
from tests.conftest import Servers
from tests.faults.recovery.site_servers import starter
from tests.integration.recovery.conftest import make

pytestmark = pytest.mark.faults


def _venues(settings: Settings, name: str) -> int:
    with closing(clickhouse.connect(settings.clickhouse)) as client:
        (found,) = client.query(
            "select count() from bilten_raw.events_venues final where name = {name:String}", {"name": name}
        ).first_row
    return int(found)


def test_what_was_synced_and_never_shipped_leaves_clickhouse(servers: Servers) -> None:
    with stack.stopping() as running:
        platform = make(servers, running)
        settings = platform.settings
        venue = "insert into events.venues (name, address, city, country) values ('{}', 'x', 'y', 'z')"
        platform.execute(venue.format("shipped"))
        platform.shipped()
        platform.stream.kill()
        platform.execute(venue.format("ahead"))
        platform.world.sync()
        assert (_venues(settings, "shipped"), _venues(settings, "ahead")) == (1, 1)
        content = platform.content()

        # the server goes, with its disk and the spool on it; ClickHouse stays
        [server] = [each for each in running if isinstance(each, stack.PostgresServer)]
        server.kill()
        running.remove(server)
        home = settings.home.parent / "another"
        home.mkdir(mode=0o755)
        shutil.copy(settings.home / "backup-keys.json", home / "backup-keys.json")
        start = starter(servers, running, keys.read(home / "backup-keys.json"))
        away = settings.model_copy(update={"home": home})
        try:
            report = site.recover(
                away, ("postgres",), bucket="first", execute=True, start=start, rebuild=False
            )
            assert report.problems == ()
            assert report.settled is not None
            assert report.settled.equal
            assert report.reached_at is not None
            assert (_venues(settings, "shipped"), _venues(settings, "ahead")) == (1, 0)
            back = start(away)
            with postgres.connect(back.postgres) as connection:
                found = connection.execute(
                    "select name from events.venues where name in ('shipped', 'ahead')"
                )
                assert found.fetchall() == [("shipped",)]
            platform.settings = back
            differ = {name for name, digest in platform.content().items() if content[name] != digest}
            assert differ == {"events.venues"}
        finally:
            shutil.rmtree(settings.home.parent, ignore_errors=True)
