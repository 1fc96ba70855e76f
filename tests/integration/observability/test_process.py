"""`bilten serve`, `bilten alerts` and `bilten health` as processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from bilten_orchestration.local import ports
from bilten_orchestration.observability.finding import Promise
from bilten_orchestration.settings import DagsterSettings, ServeSettings, Settings
from bilten_orchestration.settings.loading import as_environment
from tests.integration.observability.conftest import Told, Watched, alerting, trouble
from tests.integration.observability.receivers import MailServer, Webhook
from tests.integration.observability.test_api import served
from tests.waiting import until

ROOT = Path(__file__).parents[3]
TOKEN = "token-of-the-tests-0123456789"


def environment(settings: Settings) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BILTEN_")}
    home = {"BILTEN_HOME": str(settings.home), "PYTHONPATH": str(ROOT), "COLUMNS": "80"}
    return kept | as_environment(settings) | home


def bilten(settings: Settings, *arguments: str) -> tuple[int, Any]:
    found = subprocess.run(
        [sys.executable, "-m", "bilten_orchestration.cli.main", *arguments, "--json"],
        env=environment(settings),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in found.stderr
    assert TOKEN not in found.stdout + found.stderr
    return found.returncode, json.loads(found.stdout)


@contextmanager
def serving(settings: Settings, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "bilten_orchestration.cli.main", "serve"],
            env=environment(settings),
            stdout=out,
            stderr=out,
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait(timeout=60)


def code(settings: Settings, path: str) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{settings.serve.port}{path}", timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def test_it_serves_tells_and_survives_a_kill(tmp_path: Path, mails: MailServer) -> None:
    """Nothing of the platform is there: every store is down, and that is told once."""
    port = ports.any_free()
    settings = alerting(tmp_path / "home", mails.url, burst=50).model_copy(
        update={
            "serve": ServeSettings(port=port, token=SecretStr(TOKEN), probe_interval_seconds=1),
            "dagster": DagsterSettings(port=ports.any_free()),
        }
    )
    log = tmp_path / "log"
    with serving(settings, log) as process:
        until(lambda: code(settings, "/health/live") == 200, "it judges")
        until(lambda: len(_open(settings)) >= 6, "each store is told")
        until(lambda: mails.mails, "and people")
        assert code(settings, "/health") == 503
        status, document = bilten(settings, "health")
        assert status == 1 and document["result"]["status"] == "fail"
        until(lambda: _waiting(settings) == 0, "nothing is left to send")
        told = len(mails.mails)
        process.kill()
        process.wait(timeout=60)
    status, document = bilten(settings, "health")
    assert status == 3 and "does not answer" in document["problems"][0]["what"]
    with serving(settings, log) as process:
        until(lambda: code(settings, "/health/live") == 200, "it judges again")
        until(lambda: _open(settings), "it found them again")
        status, document = bilten(settings, "alerts", "list")
        assert status == 1 and document["result"]["read_from"] == "disk"
        assert {"store/postgres", "store/redis"} <= {each["key"] for each in document["result"]["incidents"]}
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    assert len(mails.mails) == told
    assert TOKEN not in log.read_text()


def _document(settings: Settings) -> Any:
    request = urllib.request.Request(
        f"http://127.0.0.1:{settings.serve.port}/health", headers={"Authorization": f"Bearer {TOKEN}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        return json.load(error)


def _open(settings: Settings) -> list[str]:
    return [each["key"] for each in _document(settings)["incidents"]]


def _waiting(settings: Settings) -> int:
    import sqlite3

    connection = sqlite3.connect(settings.home / "watchdog" / "watchdog.sqlite", timeout=10)
    with contextlib.closing(connection):
        row = connection.execute("select count(*) from message where state <> 'sent'").fetchone()
    return int(row[0])


def test_the_exit_code_of_health(tmp_path: Path, quick: Watched) -> None:
    """0: nothing is wrong; with --proven: every promise is kept; 1 otherwise, and where nobody knows."""
    token = ServeSettings(token=SecretStr(TOKEN))
    settings = alerting(tmp_path / "home").model_copy(update={"serve": token})
    kept, early = (
        Promise("sync_lag", True, 1.0, 3600, "seconds"),
        Promise("backup_age/redis/full", None, None, 28_800, "seconds", not_due=True),
    )
    told = Told(promises=(kept, early))
    with quick(settings, [told]) as running, served(running) as client:
        until(lambda: running.alive and client.get("/health")[1]["promises"], "it has judged")
        asking = settings.model_copy(update={"serve": ServeSettings(port=client.port, token=token.token)})
        status, document = bilten(asking, "health")
        assert (status, document["ok"], document["result"]["status"]) == (0, True, "pass")
        status, document = bilten(asking, "health", "--proven")
        assert status == 1
        assert "1 promises are not kept, or not yet" in document["problems"][0]["what"]
        for promises, codes in (((kept,), (0, 0)), ((kept, replace(early, not_due=False)), (1, 1))):
            told.promises = promises
            until(lambda: client.get("/health")[1]["counts"]["not_yet"] == 0, "it is read")
            count = len(promises)
            until(lambda: len(client.get("/health")[1]["promises"]) == count, "all of it")  # noqa: B023
            assert (bilten(asking, "health")[0], bilten(asking, "health", "--proven")[0]) == codes


def test_a_taken_port_is_refused_with_its_holder(tmp_path: Path, hook: Webhook) -> None:
    settings = alerting(tmp_path / "home").model_copy(update={"serve": ServeSettings(port=hook.port)})
    with serving(settings, tmp_path / "log") as process:
        assert process.wait(timeout=60) == 1
    said = (tmp_path / "log").read_text()
    assert f"pid {os.getpid()}" in said and "Traceback" not in said


def test_the_dead_man_is_called_while_it_judges(tmp_path: Path, hook: Webhook, quick: Watched) -> None:
    url = SecretStr(f"http://127.0.0.1:{hook.port}/ping")
    settings = alerting(tmp_path).model_copy(update={"serve": ServeSettings(dead_man_url=url)})
    with quick(settings, [Told(findings=[trouble()])]) as running:
        until(lambda: hook.taken == 1, "a call")
        assert running.alive


def test_alerts_test_without_a_receiver_is_refused(tmp_path: Path) -> None:
    status, document = bilten(alerting(tmp_path / "home"), "alerts", "test")
    assert status == 1
    assert "there are no receivers" in document["problems"][0]["what"]


def test_alerts_test_reaches_its_receivers(tmp_path: Path, mails: MailServer, hook: Webhook) -> None:
    status, document = bilten(alerting(tmp_path / "home", mails.url, hook.url), "alerts", "test")
    assert status == 0 and document["ok"]
    assert len(mails.mails) == len(hook.posts) == 1
