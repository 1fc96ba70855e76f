"""The HTTP face: codes, schema, token, and an answer within a second whatever the stores do."""

from __future__ import annotations

import base64
import json
import re
import socket
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import psutil
import pytest
import uvicorn
from pydantic import SecretStr

from bilten_orchestration.errors import Problem, SettingsError
from bilten_orchestration.local import ports
from bilten_orchestration.observability import watchdog as watchdogs
from bilten_orchestration.observability.api import application
from bilten_orchestration.observability.finding import Promise
from bilten_orchestration.observability.history import Cell, Level, last_days
from bilten_orchestration.observability.sources import stores
from bilten_orchestration.observability.watchdog import Watchdog
from bilten_orchestration.settings import (
    ClickHouseSettings,
    DagsterSettings,
    ObjectStoreSettings,
    OpenSearchSettings,
    PostgresSettings,
    RedisSettings,
    ServeSettings,
    Settings,
)
from tests.integration.observability.conftest import Told, Watched, alerting, trouble
from tests.waiting import until

TOKEN = "token-of-the-tests-0123456789"


class Staying(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


class Client:
    def __init__(self, port: int) -> None:
        self.port = port
        self._base = f"http://127.0.0.1:{port}"

    def headers(self, path: str) -> Any:
        try:
            with urllib.request.urlopen(self._base + path, timeout=30) as answer:
                return answer.headers
        except urllib.error.HTTPError as error:
            return error.headers

    def get(self, path: str, token: str = "", *, follow: bool = True, **headers: str) -> tuple[int, Any]:
        given = {**headers, **({"Authorization": f"Bearer {token}"} if token else {})}
        request = urllib.request.Request(self._base + path, headers=given)
        opener = urllib.request.build_opener(*([] if follow else [Staying]))
        try:
            with opener.open(request, timeout=30) as answer:
                code, body, kind = answer.status, answer.read(), answer.headers["Content-Type"]
        except urllib.error.HTTPError as error:
            code, body, kind = error.code, error.read(), error.headers["Content-Type"]
        return code, json.loads(body) if body and kind == "application/json" else body.decode()


@contextmanager
def served(running: Watchdog) -> Iterator[Client]:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(application(running), log_config=None, lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        until(lambda: server.started, "it listens")
        yield Client(listening.getsockname()[1])
        server.should_exit = True
        thread.join()


def serving(home: Path, **given: Any) -> Settings:
    serve = ServeSettings(token=SecretStr(TOKEN), **given)
    return alerting(home).model_copy(update={"serve": serve})


def valid(client: Client, model: str, document: Any) -> None:
    _, described = client.get("/openapi.json")
    jsonschema.validate(
        document, {"$ref": f"#/components/schemas/{model}", "components": described["components"]}
    )


def test_details_and_incidents_are_for_the_token(tmp_path: Path, quick: Watched) -> None:
    problem = Problem("host db-1 is away", "an answer", "password=hunter22", "bilten status")
    source = Told("store/postgres", findings=[trouble(problem=problem)])
    with quick(serving(tmp_path), [source]) as running, served(running) as client:
        until(lambda: running.open, "it is open")
        code, short = client.get("/health")
        assert code == 503 and short["status"] == "fail"
        assert short["incidents"] is None and "db-1" not in json.dumps(short)
        assert short["counts"] == {"info": 0, "warning": 0, "critical": 1, "undelivered": 0, "not_yet": 0}
        code, wrong = client.get("/health", token="wrong")
        assert wrong["incidents"] is None
        code, whole = client.get("/health", token=TOKEN)
        assert [each["what"] for each in whole["incidents"]] == ["host db-1 is away"]
        assert "hunter22" not in json.dumps(whole)
        for document in (short, whole):
            valid(client, "Health", document)


def test_live_and_ready(tmp_path: Path, quick: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Told("store/postgres")
    with quick(serving(tmp_path), [source]) as running, served(running) as client:
        until(lambda: running.alive and client.get("/health/ready")[0] == 200, "it has judged")
        code, live = client.get("/health/live")
        assert (code, live["status"]) == (200, "pass")
        valid(client, "Live", live)
        assert client.get("/health")[0] == 200
        source.findings = [trouble()]
        until(lambda: client.get("/health/ready")[0] == 503, "not ready")
        _, ready = client.get("/health/ready")
        assert ready == {"status": "fail", "waiting_for": ["postgres"]}
        valid(client, "Ready", ready)
        assert client.get("/health/live")[0] == 200
        # a judge that does not come to its end
        monkeypatch.setattr(watchdogs, "SILENCE_SECONDS", 0.0)
        assert client.get("/health/live")[0] == 503


def test_bound_wider_everything_wants_the_token(tmp_path: Path, quick: Watched) -> None:
    settings = serving(tmp_path, host="0.0.0.0")
    with quick(settings, [Told()]) as running, served(running) as client:
        until(lambda: running.alive, "it has judged")
        for path in ("/", "/health", "/metrics", "/openapi.json", "/docs", "/runbook/operations.md"):
            code, document = client.get(path)
            assert code == 401, path
            assert TOKEN not in json.dumps(document)
            assert client.get(path, token=TOKEN)[0] == 200
        assert client.get("/health/live")[0] == 200
        assert client.get("/health/ready")[0] == 200


def test_a_wide_address_without_a_token_is_refused() -> None:
    with pytest.raises(ValueError, match="TOKEN must have 16"):
        ServeSettings(host="0.0.0.0")


def test_wrong_requests_get_right_codes(tmp_path: Path, quick: Watched) -> None:
    with quick(serving(tmp_path), [Told()]) as running, served(running) as client:
        assert client.get("/nothing")[0] == 404
        assert client.get("/health", Host="evil.example.org")[0] == 400
        code, page = client.get("/docs")
        assert code == 200 and "/health/ready" in page and "<script" not in page


def test_the_page_for_people_stands_alone(tmp_path: Path, quick: Watched) -> None:
    problem = Problem("<b>db-1</b> is away", "an answer", "none", "bilten status")
    with quick(serving(tmp_path), [Told("store/postgres", findings=[trouble(problem=problem)])]) as running:
        until(lambda: running.open, "it is open")
        with served(running) as client:
            code, short = client.get("/")
            assert code == 200 and "Something is broken" in short and "db-1" not in short
            code, whole = client.get("/", token=TOKEN)
            assert "&lt;b&gt;db-1&lt;/b&gt; is away" in whole and "bilten status" in whole
    for page in (short, whole):
        assert "<script" not in page
        elsewhere = re.findall(r'(?:src|href)="(?![/#])([^"]*)"', page)
        assert {where.removeprefix("http://127.0.0.1:3000").partition("/")[0] for where in elsewhere} == {""}


def test_a_browser_signs_in_with_the_token_as_its_password(tmp_path: Path, quick: Watched) -> None:
    with quick(serving(tmp_path), [Told("store/postgres", findings=[trouble()])]) as running:
        until(lambda: running.open, "it is open")
        with served(running) as client:
            assert client.get("/sign-in")[0] == 401
            asked = client.headers("/sign-in")["WWW-Authenticate"]
            assert asked.startswith("Basic ") and TOKEN not in asked
            for given in ("nobody:wrong", f"{TOKEN}:", TOKEN):
                assert client.get("/sign-in", Authorization=basic(given))[0] == 401
            assert client.get("/sign-in", Authorization="Basic %%%")[0] == 401
            # it follows back to the page, which has the incidents now
            code, page = client.get("/sign-in", Authorization=basic(f"me:{TOKEN}"))
            assert code == 200 and "PostgreSQL does not answer" in page
            code, document = client.get("/health", Authorization=basic(f"me:{TOKEN}"))
            assert code == 503 and document["incidents"]


def test_without_a_token_in_the_settings_nobody_signs_in(tmp_path: Path, quick: Watched) -> None:
    with quick(alerting(tmp_path), [Told()]) as running, served(running) as client:
        until(lambda: running.alive, "it has judged")
        for given in ("me:", ":", ""):
            assert client.get("/sign-in", Authorization=basic(given))[0] == 401
        assert client.get("/health", Authorization="Bearer ")[1]["incidents"] is None


def test_pages_forbid_what_they_do_not_need(tmp_path: Path, quick: Watched) -> None:
    with quick(serving(tmp_path), [Told()]) as running, served(running) as client:
        for path in ("/", "/docs", "/runbook/operations.md"):
            headers = client.headers(path)
            policy = headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy and "unsafe" not in policy
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Cache-Control"] == "no-store"
        assert client.get("/runbook/nothing.md")[0] == 404
        assert client.get("/runbook/..%2Fpyproject.toml")[0] == 404
        assert 'http-equiv="refresh"' not in client.get("/")[1]
        for asked, seconds in (("30", 30), ("1", 10), ("999999", 3600)):
            assert f'http-equiv="refresh" content="{seconds}"' in client.get(f"/?refresh={asked}")[1]
        for asked in ("", "x", "-5", "1;url=//x", "99999999999999999999", "\u0663"):
            page = client.get(f"/?refresh={urllib.parse.quote(asked)}")[1]
            assert 'http-equiv="refresh"' not in page


def test_the_past_is_there_while_every_store_is_away(tmp_path: Path, quick: Watched) -> None:
    today = last_days(datetime.now(UTC))[-1]
    settings = serving(tmp_path)
    told = Told("repository", interval_seconds=600)
    told.cells = (Cell("drills/postgres", today, "good", "passed, back in 12 s"),)
    told.levels = tuple(
        Level("repository/postgres", day, 1 << 30) for day in last_days(datetime.now(UTC))[-2:]
    )
    with quick(settings, [told]) as running:
        until(lambda: running.history.cells, "it is kept")
    away = Told("repository", error=Problem("away"), interval_seconds=600)
    with quick(settings, [away]) as running, served(running) as client:
        _, page = client.get("/")
        assert "passed, back in 12 s" in page
        assert "Backup repository: 1.0 GiB" in page and "<svg" in page


def test_what_was_never_due_is_nothing_wrong_and_nothing_good(tmp_path: Path, quick: Watched) -> None:
    early = Promise("backup_age/redis/full", None, None, 28_800, "seconds", not_due=True)
    told = Told(promises=(early, Promise("sync_lag", True, 1.0, 3600, "seconds")))
    with quick(serving(tmp_path), [told]) as running, served(running) as client:
        until(lambda: running.alive and client.get("/health")[1]["promises"], "it has judged")
        code, document = client.get("/health")
        assert (code, document["status"], document["counts"]["not_yet"]) == (200, "pass", 1)
        assert [each["status"] for each in document["promises"]] == ["not_yet", "kept"]
        valid(client, "Health", document)
        assert "Nothing is wrong, and not everything is proven yet" in client.get("/")[1]
        told.promises = (Promise("backup_age/redis/full", None, None, 28_800, "seconds"),)
        until(lambda: client.get("/health")[1]["status"] == "warn", "nobody knows")
        assert client.get("/health")[1]["promises"][0]["status"] == "unknown"


def test_openapi_says_what_is_answered(
    tmp_path: Path, quick: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every address with every code that it is said to have, and no other; every body by its schema."""
    source = Told("store/postgres")
    wide = serving(tmp_path / "wide", host="0.0.0.0")
    seen: set[tuple[str, str]] = set()
    with quick(serving(tmp_path), [source]) as running, served(running) as client:
        until(lambda: running.alive and client.get("/health/ready")[0] == 200, "it has judged")
        _, described = client.get("/openapi.json")
        openapi_is_whole(described)
        for _ in ("well", "broken"):
            for path in described["paths"]:
                for given in ("", TOKEN):
                    real = path.replace("{name}", "operations.md")
                    seen.add(answered(client, described, path, real, given))
            source.findings = [trouble()]
            until(lambda: client.get("/health/ready")[0] == 503, "it is broken")
        seen.add(answered(client, described, "/runbook/{name}", "/runbook/nothing.md", ""))
    with quick(wide, [Told("store/postgres", findings=[trouble()])]) as running, served(running) as client:
        for path in described["paths"]:
            seen.add(answered(client, described, path, path.replace("{name}", "operations.md"), ""))
        until(lambda: running.alive, "it has judged")
        running.started_at = datetime.now(UTC) - timedelta(hours=1)
        monkeypatch.setattr(watchdogs, "SILENCE_SECONDS", 0.0)
        seen.add(answered(client, described, "/health/live", "/health/live", ""))
    promised = {
        (path, code) for path, methods in described["paths"].items() for code in methods["get"]["responses"]
    }
    assert seen == promised


def answered(client: Client, described: Any, path: str, real: str, token: str) -> tuple[str, str]:
    code, body = client.get(real, token, follow=False)
    assert str(code) in described["paths"][path]["get"]["responses"], (path, code)
    content = described["paths"][path]["get"]["responses"][str(code)].get("content", {})
    if "application/json" in content:
        schema = content["application/json"]["schema"]
        jsonschema.validate(body, {**schema, "components": described["components"]})
    else:
        assert isinstance(body, str) or path == "/openapi.json"
    return path, str(code)


def openapi_is_whole(described: Any) -> None:
    """What the specification (3.1, sections 4.8) wants of the parts that are used."""
    assert re.fullmatch(r"3\.1\.\d+", described["openapi"])
    assert set(described["info"]) >= {"title", "version"}
    names = [each["get"]["operationId"] for each in described["paths"].values()]
    assert len(names) == len(set(names)) and all(names)
    for path, methods in described["paths"].items():
        assert path.startswith("/") and set(methods) == {"get"}
        for said in methods["get"]["responses"].values():
            assert said["description"]
        for wanted in methods["get"]["security"]:
            assert set(wanted) <= set(described["components"]["securitySchemes"])
        wanted_names = set(re.findall(r"{(\w+)}", path))
        given = {each["name"]: each for each in methods["get"].get("parameters", [])}
        assert set(given) == wanted_names
        assert all(each["in"] == "path" and each["required"] is True for each in given.values())
    for schema in described["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    for reference in re.findall(r'"\$ref": "([^"]*)"', json.dumps(described)):
        found = described
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]


def basic(given: str) -> str:
    return "Basic " + base64.b64encode(given.encode()).decode()


def test_metrics_are_what_prometheus_reads(tmp_path: Path, quick: Watched) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    with quick(serving(tmp_path), [Told("store/postgres", findings=[trouble()])]) as running:
        until(lambda: running.open, "it is open")
        with served(running) as client:
            _, text = client.get("/metrics")
    found = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["bilten_store_up", (("store", "postgres"),)] == 0
    assert found["bilten_incidents_open", (("severity", "critical"),)] == 1
    assert found["bilten_source_known", (("source", "store/postgres"),)] == 1
    assert all(re.fullmatch(r"(bilten|process)_[a-z_]+", name) for name, _ in found)


@contextmanager
def _silent() -> Iterator[int]:
    """Takes connections and says nothing: what a hanging server does."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        yield server.getsockname()[1]


@contextmanager
def _refused() -> Iterator[int]:
    yield ports.any_free()


@contextmanager
def _slow() -> Iterator[int]:
    """Sends a byte now and then, which keeps time limits of single reads from passing."""
    stop = threading.Event()

    def drip(connection: socket.socket) -> None:
        with connection:
            while not stop.wait(0.2):
                try:
                    connection.sendall(b" ")
                except OSError:
                    return

    def accept() -> None:
        while not stop.is_set():
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=drip, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]
        stop.set()


def _all_at(home: Path, port: int) -> Settings:
    return serving(home, probe_interval_seconds=1, probe_seconds=1).model_copy(
        update={
            "postgres": PostgresSettings(host="127.0.0.1", port=port),
            "clickhouse": ClickHouseSettings(host="127.0.0.1", port=port),
            "redis": RedisSettings(host="127.0.0.1", port=port),
            "object_store": ObjectStoreSettings(
                endpoint_url=f"http://127.0.0.1:{port}",
                access_key_id=SecretStr("testaccesskey"),
                secret_access_key=SecretStr("testsecretkey"),
            ),
            "opensearch": OpenSearchSettings(enabled=True, url=f"http://127.0.0.1:{port}"),
            "dagster": DagsterSettings(port=port),
        }
    )


@pytest.mark.parametrize("how", [_silent, _refused, _slow], ids=["hung", "refused", "slow"])
def test_answers_within_a_second_while_every_store_is_away(
    tmp_path: Path, quick: Watched, how: Callable[[], Any]
) -> None:
    with how() as port:
        settings = _all_at(tmp_path, port)
        sources = stores.sources(settings)
        assert len(sources) == 6
        with quick(settings, sources) as running, served(running) as client:
            until(lambda: len(running.open) == 6, "each is known to be down")
            for path in ("/", "/health", "/health/live", "/health/ready", "/metrics", "/docs"):
                fastest = min(_seconds(client, path) for _ in range(3))  # of a loaded machine
                assert fastest < 1, path
            code, document = client.get("/health", token=TOKEN)
            assert code == 503
            assert {each["status"] for each in document["components"]} == {"down"}
            assert client.get("/health/live")[0] == 200
            assert TOKEN not in json.dumps(document)
            assert "testsecretkey" not in json.dumps(document)


def _seconds(client: Client, path: str) -> float:
    began = time.monotonic()
    client.get(path)
    return time.monotonic() - began


@pytest.mark.faults
def test_10_000_scrapes_take_no_memory(tmp_path: Path, quick: Watched) -> None:
    with quick(serving(tmp_path), [Told("store/postgres", findings=[trouble()])]) as running:
        until(lambda: running.open, "it is open")
        with served(running) as client:
            for _ in range(1000):
                client.get("/metrics")
            before = psutil.Process().memory_info().rss
            for _ in range(10_000):
                assert client.get("/metrics")[0] == 200
            grown = psutil.Process().memory_info().rss - before
    assert grown < 8 << 20, f"{grown:,} bytes more"


def test_receivers_that_are_none_are_refused_before_anything_starts(tmp_path: Path, quick: Watched) -> None:
    with pytest.raises(SettingsError), quick(alerting(tmp_path, "nothing://x"), [Told()]):
        pass
