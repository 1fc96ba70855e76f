"""kill -9 of the embedded ClickHouse under load: what was acknowledged is there, once, and it starts by itself."""  # noqa: E501

from __future__ import annotations

import http.client
import random
import threading
import time
from pathlib import Path

import pytest

from bilten_orchestration.local.clickhouse.process import start
from tests.integration.local.clickhouse.conftest import (
    Http,
    endpoint_config,
    no_endpoint_outlives_its_test,  # noqa: F401 - a fixture for all tests here
    running,
)
from tests.integration.local.clickhouse.load import mixed_load

WRITERS = 4
ROWS = 500
ROUNDS = 4


def test_kill_9_loses_nothing_acknowledged_and_doubles_nothing(tmp_path: Path) -> None:
    config = endpoint_config(tmp_path / "clickhouse")
    endpoint = start(config)
    client = Http(endpoint)
    client.run("CREATE DATABASE d")
    client.run(
        "CREATE TABLE d.t (writer UInt8, batch UInt32, n UInt32, s String) ENGINE = MergeTree ORDER BY (writer, batch, n)"  # noqa: E501
    )
    acknowledged: set[tuple[int, int]] = set()
    sent: set[tuple[int, int]] = set()
    chance = random.Random(7)
    for turn in range(ROUNDS):
        stop = threading.Event()

        def write(writer: int, turn: int = turn, stop: threading.Event = stop) -> None:
            batch = turn * 1_000_000
            while not stop.is_set():
                batch += 1
                rows = "".join(f"{writer}\t{batch}\t{n}\tsome text {n}\n" for n in range(ROWS))
                sent.add((writer, batch))
                try:
                    reply = Http(endpoint).send(rows, query="INSERT INTO d.t FORMAT TSV")  # noqa: B023
                except (OSError, http.client.HTTPException):
                    return
                if reply.status == 200:
                    acknowledged.add((writer, batch))

        before = len(acknowledged)
        threads = [threading.Thread(target=write, args=(writer,)) for writer in range(WRITERS)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 60
        while len(acknowledged) < before + 20:
            assert time.monotonic() < deadline, "no progress under load"
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.3))  # where in a batch the kill falls is left to chance
        endpoint.kill()
        stop.set()
        for thread in threads:
            thread.join()

        endpoint = start(config)
        client = Http(endpoint)
        found = {
            (int(writer), int(batch)): (int(rows), int(distinct))
            for writer, batch, rows, distinct in (
                line.split("\t")
                for line in client.run(
                    "SELECT writer, batch, count(), uniqExact(n) FROM d.t GROUP BY ALL"
                ).splitlines()
            )
        }
        assert acknowledged - set(found) == set(), "acknowledged rows are gone"
        # What was not acknowledged may be there, but whole: one INSERT of this size is one part.
        assert {key: value for key, value in found.items() if value != (ROWS, ROWS)} == {}
        assert set(found) <= sent
        assert client.run("CHECK TABLE d.t", check_query_single_value_result=1) == "1"
        assert client.run("SELECT count() FROM system.detached_parts WHERE database = 'd'") == "0"
        assert "did not end cleanly" in endpoint.log_file.read_text()
    assert endpoint.stop() == 0


def test_kill_9_during_ddl_and_merges_starts_again(tmp_path: Path) -> None:
    config = endpoint_config(tmp_path / "clickhouse")
    endpoint = start(config)
    Http(endpoint).run("CREATE DATABASE d")
    for turn in range(3):
        created: list[str] = []

        def work(endpoint_turn: int = turn, created: list[str] = created) -> None:
            number = 0
            while True:
                number += 1
                name = f"d.t{endpoint_turn}_{number}"
                try:
                    client = Http(endpoint)  # noqa: B023
                    client.run(
                        f"CREATE TABLE {name} (a UInt32) ENGINE = MergeTree ORDER BY a PARTITION BY a % 3"
                    )
                    for _ in range(3):
                        client.run(f"INSERT INTO {name} SELECT number FROM numbers(100)")
                    client.run(f"OPTIMIZE TABLE {name} FINAL")
                    client.run(f"ALTER TABLE {name} DROP PARTITION 1")
                except (OSError, http.client.HTTPException):
                    return
                created.append(name)

        thread = threading.Thread(target=work)
        thread.start()
        deadline = time.monotonic() + 60
        while len(created) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        endpoint.kill()
        thread.join()
        endpoint = start(config)
        for name in created:
            assert Http(endpoint).run(f"SELECT count() FROM {name}") == "201", name
    endpoint.kill()


@pytest.mark.faults
def test_ten_thousand_mixed_requests_from_nine_threads(tmp_path: Path) -> None:
    with running(endpoint_config(tmp_path / "clickhouse")) as endpoint:
        client = Http(endpoint)
        for database in ("marts", "scratch"):
            client.run(f"CREATE DATABASE {database}")
        client.run("CREATE TABLE marts.m (a UInt64) ENGINE = MergeTree ORDER BY a")
        client.run("INSERT INTO marts.m SELECT number FROM numbers(10)")
        assert mixed_load(endpoint, 10_000, 5_000).problems == []
