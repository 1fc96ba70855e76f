"""One embedded endpoint for all tests of this folder, and a plain HTTP client as a BI driver has it."""

from __future__ import annotations

import contextlib
import http.client
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from bilten_orchestration.local import ports
from bilten_orchestration.local.clickhouse.config import EndpointConfig, User, hash_password
from bilten_orchestration.local.clickhouse.process import EndpointProcess, start

ETL = ("bilten_etl", "etl-password-1234")
ANALYST = ("bilten_analyst", "analyst-password-1234")


@dataclass
class Reply:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def code(self) -> int:
        return int(self.headers.get("X-ClickHouse-Exception-Code", "0"))


@dataclass
class Http:
    """Statements over plain HTTP, nothing but the protocol."""

    endpoint: EndpointProcess
    user: tuple[str, str] = ETL
    headers: dict[str, str] = field(default_factory=dict)

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.endpoint.config.host, self.endpoint.config.port, timeout=60)

    def url(self, **parameters: str | int) -> str:
        return "/?" + urllib.parse.urlencode(parameters)

    def send(
        self,
        body: bytes | str = b"",
        *,
        method: str = "POST",
        path: str | None = None,
        headers: dict[str, str] | None = None,
        **parameters: str | int,
    ) -> Reply:
        sent = (
            {"X-ClickHouse-User": self.user[0], "X-ClickHouse-Key": self.user[1]}
            if headers is None
            else headers
        )
        with contextlib.closing(self.connect()) as connection:
            connection.request(
                method,
                path or self.url(**parameters),
                body.encode() if isinstance(body, str) else body,
                sent | self.headers,
            )
            response = connection.getresponse()
            return Reply(response.status, response.headers, response.read())

    def run(self, sql: str, **parameters: str | int) -> str:
        """The answer of a statement that must succeed, without its last line end."""
        reply = self.send(sql, **parameters)
        assert reply.status == 200, reply.text
        return reply.text.removesuffix("\n")


def endpoint_config(data_dir: Path, **changes: object) -> EndpointConfig:
    return EndpointConfig.model_validate(
        {
            "data_dir": data_dir,
            "port": ports.any_free(),
            "users": {
                ETL[0]: User(password_hash=hash_password(ETL[1]), profile="etl"),
                ANALYST[0]: User(password_hash=hash_password(ANALYST[1]), profile="analyst"),
            },
        }
        | changes
    )


@contextlib.contextmanager
def running(config: EndpointConfig) -> Iterator[EndpointProcess]:
    process = start(config)
    try:
        yield process
    finally:
        process.kill()


@pytest.fixture(autouse=True)
def no_endpoint_outlives_its_test() -> Iterator[None]:
    """Whatever a failing test left running ends with it."""
    before = {child.pid for child in psutil.Process().children()}
    yield
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if child.pid not in before and "bilten_orchestration.local.clickhouse" in child.cmdline():
                child.kill()


@pytest.fixture(scope="session")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EndpointProcess]:
    with running(endpoint_config(tmp_path_factory.mktemp("clickhouse"))) as process:
        setup = Http(process)
        for database in ("staging", "marts", "analytics", "bilten_raw", "intermediate", "scratch"):
            setup.run(f"CREATE DATABASE {database}")
        setup.run("CREATE TABLE bilten_raw.t (a UInt64, secret String) ENGINE = MergeTree ORDER BY a")
        setup.run("INSERT INTO bilten_raw.t VALUES (7, 'hidden')")
        setup.run("CREATE VIEW staging.v AS SELECT a FROM bilten_raw.t")
        setup.run("CREATE TABLE marts.m (a UInt64, b String) ENGINE = MergeTree ORDER BY a")
        setup.run("INSERT INTO marts.m SELECT number, toString(number) FROM numbers(10)")
        yield process


@pytest.fixture
def http_client(endpoint: EndpointProcess) -> Http:
    return Http(endpoint)


@pytest.fixture
def analyst(endpoint: EndpointProcess) -> Http:
    return Http(endpoint, ANALYST)
