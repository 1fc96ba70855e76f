"""Search at the end of a recovery: rows that were taken back are found as they were, and an index that is
ahead of the PostgreSQL that came back is brought to it, document by document."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from bilten_orchestration.backups.repository import keys
from bilten_orchestration.recovery import site
from bilten_orchestration.recovery.rows import recover
from bilten_orchestration.search.delta import delta
from bilten_orchestration.search.drift import drift
from bilten_orchestration.search.status import status
from bilten_orchestration.settings import Settings
from tests import stack
from tests.conftest import Servers
from tests.faults.recovery.site_servers import starter
from tests.integration.recovery.conftest import Platform, make
from tests.integration.search.conftest import forget_indices
from tests.integration.search.shopfront import Shopfront, owner, rebuild

pytestmark = pytest.mark.faults
EVENTS = 120


@dataclass
class Searched:
    platform: Platform
    settings: Settings
    index: str
    running: list[stack.Server]


@pytest.fixture(scope="module")
def searched(servers: Servers) -> Iterator[Searched]:
    with stack.stopping() as running:
        platform = make(servers, running)
        search = platform.settings.search.model_copy(update={"lag_seconds": 30.0})
        settings = platform.settings.model_copy(update={"opensearch": servers.opensearch, "search": search})
        platform.settings = settings
        forget_indices(settings)
        with owner(settings) as connection:
            Shopfront(connection, settings).open(EVENTS)
        platform.world.sync()
        yield Searched(platform, settings, rebuild(settings).index, running)
        platform.stream.kill()
        forget_indices(settings)
        shutil.rmtree(settings.home.parent, ignore_errors=True)


def _exact(settings: Settings, index: str) -> None:
    """As a statement of its own works it out, as the drift check sees it, and as the status tells it."""
    with owner(settings) as connection:
        assert Shopfront(connection, settings).differing() == set()
    assert drift(settings, whole=True, repair=False).compared.equal
    found = status(settings)
    assert (found.index, found.problems) == (index, ())


def test_rows_that_were_taken_back_are_found_as_they_were(searched: Searched) -> None:
    settings, platform = searched.settings, searched.platform
    bad, _ = platform.execute(
        "update events.events set title = 'CANCELLED', status = 'cancelled' where description is not null"
    )
    platform.world.sync()
    delta(settings)
    with owner(settings) as connection:
        front = Shopfront(connection, settings)
        assert front.differing() == set()
        left = len(front.expected())
    platform.shipped()
    report = recover(settings, "events.events", transaction=bad, execute=True, rebuild=False, by="test")
    assert report.problems == ()
    assert report.settled is not None
    found = report.settled.search
    assert found is not None
    assert (found.equal, found.index, found.removed) == (True, searched.index, 0)
    assert found.documents > left
    _exact(settings, searched.index)


def test_a_database_that_is_lost_takes_search_back_with_it(searched: Searched, servers: Servers) -> None:
    settings, platform, running = searched.settings, searched.platform, searched.running
    with owner(settings) as connection:
        front = Shopfront(connection, settings)
        front.edit(1, 30)
        delta(settings)
        stored = front.expected()
        platform.shipped()
        platform.stream.kill()
        # of what comes now nothing is stored, and search shows it
        front.edit(31, 90)
        front.run("update events.events set title = 'never' where id = md5('event91')::uuid")
        delta(settings)
        assert front.differing() == set()
        assert front.expected() != stored

    [server] = [each for each in running if isinstance(each, stack.PostgresServer)]
    server.kill()
    running.remove(server)
    home = settings.home.parent / "another"
    home.mkdir(mode=0o755)
    shutil.copy(settings.home / "backup-keys.json", home / "backup-keys.json")
    start = starter(servers, running, keys.read(home / "backup-keys.json"))
    away = settings.model_copy(update={"home": home})
    planned = site.recover(away, ("postgres",), bucket="first", start=start)
    assert planned.plan.steps[-1].startswith("search written again")
    report = site.recover(away, ("postgres",), bucket="first", execute=True, start=start, rebuild=False)
    assert report.problems == ()
    assert report.settled is not None
    found = report.settled.search
    assert found is not None
    assert (found.equal, found.index, found.documents) == (True, searched.index, len(stored))
    assert found.written >= len(stored)
    back = start(away)
    with owner(back) as connection:
        assert Shopfront(connection, back).expected() == stored
    _exact(back, searched.index)
    # it goes on from here as before, on the new epoch
    with owner(back) as connection:
        Shopfront(connection, back).edit(91, 120)
    assert delta(back).accepted is False
    _exact(back, searched.index)
