"""How requests end before their time: clients that leave, failures in mid stream, too many at once, shutdown."""  # noqa: E501

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from pathlib import Path

import psutil
import pytest

from bilten_orchestration.errors import StoreUnavailable
from bilten_orchestration.local.clickhouse.process import EndpointProcess, start
from tests.integration.local.clickhouse.conftest import ETL, Http, endpoint_config, running
from tests.waiting import until

SECONDS_TO_END = 5


def open_request(http_client: Http, sql: str, **parameters: str | int) -> socket.socket:
    """Send a request and leave it open."""
    config = http_client.endpoint.config
    connection = socket.create_connection((config.host, config.port), timeout=30)
    body = sql.encode()
    connection.sendall(
        f"POST {http_client.url(user=ETL[0], password=ETL[1], **parameters)} HTTP/1.1\r\nHost: x\r\n"
        f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    return connection


def count_running(http_client: Http, mark: str) -> int:
    return int(
        http_client.run(
            f"SELECT count() FROM system.processes WHERE query LIKE '%{mark}%' AND query NOT LIKE '%system.processes%'"  # noqa: E501
        )
    )


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count() AS {mark} FROM system.numbers",
        "SELECT sleepEachRow(1) AS {mark} FROM system.numbers SETTINGS max_block_size = 1",
        "SELECT number AS {mark} FROM system.numbers",  # the pipe is full and its writer blocked
        "INSERT INTO FUNCTION null('{mark} UInt64') SELECT number FROM system.numbers",
    ],
)
def test_a_query_ends_when_its_client_leaves(http_client: Http, sql: str) -> None:
    mark = f"leaves_{abs(hash(sql)) % 10**9}"
    connection = open_request(http_client, sql.replace("{mark}", mark))
    until(lambda: count_running(http_client, mark) == 1, "the statement to run")
    connection.close()
    until(lambda: count_running(http_client, mark) == 0, "its end", SECONDS_TO_END)


def test_an_insert_ends_when_its_client_leaves_and_writes_nothing(http_client: Http) -> None:
    http_client.run("CREATE OR REPLACE TABLE scratch.half (a UInt64) ENGINE = MergeTree ORDER BY a")
    config = http_client.endpoint.config
    connection = socket.create_connection((config.host, config.port), timeout=30)
    path = http_client.url(user=ETL[0], password=ETL[1], query="INSERT INTO scratch.half FORMAT TSV")
    connection.sendall(
        f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n1\n2\n3\n".encode()
    )
    until(lambda: count_running(http_client, "scratch.half") == 1, "the insert to run")
    connection.close()
    until(lambda: count_running(http_client, "scratch.half") == 0, "its end")
    assert http_client.run("SELECT count() FROM scratch.half") == "0"


def test_a_failure_in_mid_stream_breaks_the_answer(http_client: Http) -> None:
    connection = http_client.connect()
    connection.request(
        "POST",
        http_client.url(user=ETL[0], password=ETL[1]),
        "SELECT throwIf(number = 40000000), number FROM numbers(50000000) SETTINGS max_threads = 1 FORMAT RowBinary",  # noqa: E501
    )
    response = connection.getresponse()
    assert response.status == 200
    tag = response.headers["X-ClickHouse-Exception-Tag"]
    received = bytearray()
    with pytest.raises((http.client.IncompleteRead, ConnectionError)) as broken:  # noqa: PT012
        while chunk := response.read(1 << 20):
            received += chunk
    if isinstance(broken.value, http.client.IncompleteRead):
        received += broken.value.partial
    tail = bytes(received[-2000:]).decode(errors="replace")
    assert f"__exception__\r\n{tag}\r\nCode: 395." in tail
    assert tail.endswith(f" {tag}\r\n__exception__\r\n")


def test_memory_stays_flat_when_much_is_read_and_written(http_client: Http) -> None:
    process = psutil.Process(http_client.endpoint.process.pid)
    http_client.send("SELECT number FROM numbers(100000) FORMAT Native")
    before = process.memory_info().rss
    peak = [0]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            peak[0] = max(peak[0], process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    connection = http_client.connect()
    connection.request(
        "POST",
        http_client.url(user=ETL[0], password=ETL[1]),
        "SELECT number, toString(number) FROM numbers(30000000) FORMAT RowBinary",
    )
    response = connection.getresponse()
    size = 0
    while chunk := response.read(1 << 20):
        size += len(chunk)
    assert size > 450_000_000

    block = b"".join(b"%d\tsome text of a row\n" % n for n in range(100_000))
    connection = http_client.connect()
    connection.request(
        "POST",
        http_client.url(
            user=ETL[0], password=ETL[1], query="INSERT INTO FUNCTION null('a UInt64, b String') FORMAT TSV"
        ),
        iter([block] * 150),
        encode_chunked=True,
        headers={"Transfer-Encoding": "chunked"},
    )
    response = connection.getresponse()
    assert response.status == 200, response.read()
    assert json.loads(response.headers["X-ClickHouse-Summary"])["written_rows"] == "15000000"
    done.set()
    watcher.join()
    assert len(block) * 150 > 350_000_000
    # blocks of the engine; to keep either body would take more than this
    assert peak[0] - before < 300 * 1024**2, f"grew by {(peak[0] - before) / 1e6:.0f} MB"


def test_too_many_at_once_are_refused(tmp_path: Path) -> None:
    config = endpoint_config(
        tmp_path / "small", max_concurrent_queries=1, max_waiting_queries=1, max_wait_seconds=2
    )
    with running(config) as endpoint:
        client = Http(endpoint)
        held = open_request(client, "SELECT count() FROM system.numbers")
        outcomes: list[int] = []
        until(lambda: client.send("SELECT 1", max_execution_time=1).code == 202, "too many at once")
        started = time.monotonic()
        threads = [
            threading.Thread(target=lambda: outcomes.append(client.send("SELECT 1").code)) for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert outcomes == [202, 202, 202]
        assert time.monotonic() - started < 10
        held.close()
        until(lambda: client.send("SELECT 1").code == 0, "room again")


def test_sigterm_ends_cleanly_and_soon(tmp_path: Path) -> None:
    endpoint = start(endpoint_config(tmp_path / "term", shutdown_grace_seconds=1))
    client = Http(endpoint)
    client.run("CREATE DATABASE d")
    client.run("CREATE TABLE d.t (a UInt8) ENGINE = MergeTree ORDER BY a")
    client.run("INSERT INTO d.t VALUES (1)")
    connection = open_request(client, "SELECT count() FROM system.numbers")
    until(lambda: count_running(client, "system.numbers") == 1, "the statement to run")
    started = time.monotonic()
    assert endpoint.stop() == 0
    assert time.monotonic() - started < 10
    connection.close()
    assert "Traceback" not in endpoint.log_file.read_text()
    again = start(endpoint.config)
    assert Http(again).run("SELECT count() FROM d.t") == "1"
    assert "did not end cleanly" not in again.log_file.read_text()
    again.kill()


def test_one_process_a_directory(endpoint: EndpointProcess) -> None:
    with pytest.raises(StoreUnavailable, match=f"pid {endpoint.process.pid} holds"):
        start(endpoint.config.model_copy(update={"port": endpoint.config.port + 1}))


def test_a_taken_port_is_named(tmp_path: Path, endpoint: EndpointProcess) -> None:
    config = endpoint_config(tmp_path / "taken", port=endpoint.config.port)
    with pytest.raises(StoreUnavailable, match=f"cannot listen on 127.0.0.1:{endpoint.config.port}"):
        start(config, deadline_seconds=20)


def test_a_readable_or_wrong_configuration_is_refused_by_name(tmp_path: Path) -> None:
    import subprocess

    from bilten_orchestration.local.clickhouse.config import write_config
    from bilten_orchestration.local.clickhouse.process import command

    file = tmp_path / "endpoint.json"
    write_config(endpoint_config(tmp_path), file)
    file.chmod(0o644)
    outcome = subprocess.run(command(file), capture_output=True, text=True, check=False, timeout=60)
    assert outcome.returncode == 2
    assert "chmod 600" in outcome.stderr
    assert "Traceback" not in outcome.stderr
    file.write_text(json.dumps({"port": "x", "data_dir": 1, "nonsense": True}))
    file.chmod(0o600)
    outcome = subprocess.run(command(file), capture_output=True, text=True, check=False, timeout=60)
    assert outcome.returncode == 2
    for name in ("port", "data_dir", "nonsense", "users"):
        assert name in outcome.stderr
