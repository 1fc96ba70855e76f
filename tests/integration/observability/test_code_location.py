"""Whether definitions are loaded, asked of a real webserver: one location loads, one does not."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import uvicorn
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster_webserver.app import create_app_from_workspace_process_context

from bilten_orchestration.errors import StoreUnavailable
from bilten_orchestration.local import ports
from bilten_orchestration.observability.sources.code_location import CodeLocation
from bilten_orchestration.settings import DagsterSettings, Settings
from tests.waiting import until

GOOD = "import dagster as dg\n@dg.asset\ndef shop(): ...\ndefinitions = dg.Definitions([shop])\n"
BROKEN = "raise RuntimeError('the manifest is gone')\n"


@pytest.fixture(scope="module")
def webserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Its port."""
    place: Path = tmp_path_factory.mktemp("locations")
    for name, text in (("good", GOOD), ("broken", BROKEN)):
        (place / f"{name}.py").write_text(text)
    files = [
        {"python_file": {"relative_path": f"{name}.py", "location_name": name}} for name in ("good", "broken")
    ]
    (place / "workspace.yaml").write_text(json.dumps({"load_from": files}))
    port = ports.any_free()
    with (
        dg.DagsterInstance.local_temp(str(place)) as instance,
        WorkspaceProcessContext(instance, WorkspaceFileTarget([str(place / "workspace.yaml")])) as context,
    ):
        application = create_app_from_workspace_process_context(context)
        server = uvicorn.Server(uvicorn.Config(application, port=port, log_level="error"))
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            until(lambda: server.started, "the webserver listens")
            yield port
        finally:
            server.should_exit = True
            thread.join()


# of Dagster, which shows the error so as well
@pytest.mark.filterwarnings("ignore:Error loading repository location broken")
def test_a_location_that_does_not_load_is_told_with_its_error(webserver: int) -> None:
    # a code server listens there as far as a connection tells
    settings = Settings(dagster=DagsterSettings(port=webserver, code_server_port=webserver))
    reading = CodeLocation(settings).read()
    (finding,) = reading.findings
    assert (finding.key, finding.kind, finding.severity) == ("location/broken", "code-location", "critical")
    assert "the manifest is gone" in finding.problem.found
    assert finding.link == f"http://127.0.0.1:{webserver}/locations"
    assert reading.detail == "1 code locations are loaded"


def test_a_code_server_that_is_dead_is_told_though_the_webserver_shows_what_it_loaded(webserver: int) -> None:
    settings = Settings(dagster=DagsterSettings(port=webserver, code_server_port=ports.any_free()))
    (finding,) = CodeLocation(settings).read().findings
    assert (finding.key, finding.severity) == ("location/server", "critical")
    assert "refused" in finding.problem.found


def test_a_webserver_that_says_nothing_leaves_it_unknown(webserver: int) -> None:
    settings = Settings(dagster=DagsterSettings(port=ports.any_free(), code_server_port=webserver))
    with pytest.raises(StoreUnavailable, match="which code locations"):
        CodeLocation(settings).read()
