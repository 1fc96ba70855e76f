"""A node that is restarted, full, or has no room for a request, while an index is loaded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from bilten_orchestration.errors import StoreFull, StoreUnavailable
from bilten_orchestration.search import loading
from bilten_orchestration.search.status import status
from bilten_orchestration.settings import OpenSearchSettings, Settings
from bilten_orchestration.stores import opensearch
from tests import stack
from tests.conftest import Servers
from tests.integration.search.shopfront import Shopfront, owner, rebuild
from tests.integration.search.test_rebuild import at, with_search

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def node(servers: Servers) -> Iterator[tuple[stack.Server, OpenSearchSettings]]:
    """A node of these tests' own, which they may kill."""
    with stack.stopping() as running:
        server, settings = stack.start_opensearch(servers.base, f"opensearch-{next(servers.numbers)}")
        running.append(server)
        yield server, settings


@pytest.fixture(autouse=True)
def _every_range_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "TELL_SECONDS", 0)


@pytest.fixture
def shaky(search: Settings, node: tuple[stack.Server, OpenSearchSettings]) -> Settings:
    from tests.integration.search.conftest import forget_indices

    value = search.model_copy(update={"opensearch": node[1]})
    forget_indices(value)
    return with_search(value, parallel=1)


def block(settings: Settings, on: bool | None, kind: str = "read_only_allow_delete") -> Callable[[], None]:
    """What a node does to its indices when its disk is nearly full; it lifts that block itself."""

    def change() -> None:
        client = opensearch.connect(settings.opensearch)
        client.indices.put_settings(
            index="events-*",
            body={f"index.blocks.{kind}": on},
            params={"flat_settings": "true"},
        )
        client.close()

    return change


def test_a_node_that_is_killed_and_comes_back_is_waited_for(
    shaky: Settings, node: tuple[stack.Server, OpenSearchSettings]
) -> None:
    with owner(shaky) as connection:
        front = Shopfront(connection, shaky).open(300)
        told = threading.Event()
        # a server dies with the thread that has started it: the build is in one, and the server is not
        with ThreadPoolExecutor(1) as pool:
            building = pool.submit(rebuild, shaky, progress=at("loaded 1 of", told.set))
            assert told.wait(300)
            node[0].kill()
            node[0].start()
            report = building.result()
        assert report.swapped
        assert report.loaded.refusals > 0
        assert front.differing() == set()


def test_a_node_that_stays_away_is_given_up_and_the_build_goes_on_later(
    shaky: Settings, node: tuple[stack.Server, OpenSearchSettings]
) -> None:
    with owner(shaky) as connection:
        front = Shopfront(connection, shaky).open(300)
        with pytest.raises(StoreUnavailable):
            rebuild(with_search(shaky, patience_seconds=1), progress=at("loaded 1 of", node[0].kill))
        node[0].start()
        report = rebuild(shaky)
        assert report.resumed
        assert report.swapped
        assert front.differing() == set()


def test_a_full_disk_is_waited_for_and_then_told(shaky: Settings) -> None:
    with owner(shaky) as connection:
        front = Shopfront(connection, shaky).open(300)
        first = rebuild(shaky).index
        freed = threading.Timer(3, block(shaky, None))

        def fill_up() -> None:
            block(shaky, True)()
            freed.start()

        report = rebuild(shaky, progress=at("loaded 1 of", fill_up))
        freed.join()
        assert report.swapped
        assert report.loaded.refusals > 0
        assert front.differing() == set()

        impatient = with_search(shaky, patience_seconds=1)
        with pytest.raises(StoreFull, match="takes no write"):
            rebuild(impatient, progress=at("loaded 1 of", block(shaky, True, "write")))
        assert status(shaky).index == report.index != first
        block(shaky, None, "write")()
        front.edit(1, 100)
        third = rebuild(shaky)
        assert third.resumed
        assert third.swapped
        assert front.differing() == set()


def test_a_request_that_the_server_has_no_room_for_is_halved(shaky: Settings) -> None:
    """A node takes requests of a tenth of its heap at once (indexing pressure), and answers 429 to more."""
    with owner(shaky) as connection:
        front = Shopfront(connection, shaky).open(1_200)
        front.run("update events.events set description = repeat('long ', 10000)")
        large = with_search(shaky, bulk_bytes=40 << 20, range_documents=2_000)
        report = rebuild(large)
        assert report.swapped
        assert report.loaded.refusals > 0
        assert front.differing() == set()
