"""Mixed requests from several threads, each of which checks its own answers."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass

import psutil
from clickhouse_connect.driver.exceptions import DatabaseError

from bilten_orchestration.local.clickhouse.process import EndpointProcess
from tests.integration.local.clickhouse.conftest import ANALYST, Http
from tests.integration.local.clickhouse.test_clickhouse_connect import connect

THREADS = 9
SETTLING_SECONDS = 8


@dataclass
class Outcome:
    requests: int
    errors: list[str]
    seconds: float
    rss_after_warm_up: int
    rss_at_end: int
    threads_after_warm_up: int
    threads_at_end: int


def mixed_load(endpoint: EndpointProcess, requests: int, warm_up: int) -> Outcome:
    """Selects, inserts, DDL, sessions, errors, aborted and compressed requests, by turns."""
    Http(endpoint).run(
        "CREATE OR REPLACE TABLE scratch.load (thread UInt8, n UInt32, s String) ENGINE = MergeTree"
        # merged parts stay in memory for eight minutes otherwise
        " ORDER BY n SETTINGS old_parts_lifetime = 1"
    )
    process = psutil.Process(endpoint.process.pid)
    errors: list[str] = []

    def work(thread: int, count: int, seed: int) -> None:
        chance = random.Random(seed * 100 + thread)
        client = connect(endpoint, database="scratch", autogenerate_session_id=thread % 2 == 0)
        plain, analyst = Http(endpoint), Http(endpoint, ANALYST)
        inserted = int(client.command(f"SELECT count() FROM load WHERE thread = {thread}"))
        for turn in range(count):
            try:
                match chance.randrange(9):
                    case 0 | 1:
                        rows = chance.randrange(1, 2000)
                        assert (
                            len(
                                client.query(
                                    f"SELECT number, toString(number) FROM numbers({rows})"
                                ).result_rows
                            )
                            == rows
                        )
                    case 2:
                        rows = chance.randrange(1, 50)
                        client.insert(
                            "load",
                            [[thread, i, "x" * i] for i in range(rows)],
                            column_names=["thread", "n", "s"],
                        )
                        inserted += rows
                    case 3:
                        assert client.command(f"SELECT count() FROM load WHERE thread = {thread}") == inserted
                    case 4:
                        assert plain.run("SELECT 1 FORMAT JSONCompact").startswith("{")
                    case 5:
                        try:
                            client.query("SELECT * FROM nosuch")
                            errors.append("no error for an unknown table")
                        except DatabaseError as error:
                            assert "code: 60" in str(error), error  # noqa: PT017
                    case 6:
                        assert analyst.run("SELECT sum(a) FROM marts.m") == "45"
                    case 7:
                        name = f"scratch.t{thread}_{turn}"
                        plain.run(f"CREATE TABLE {name} (a Int) ENGINE = Memory")
                        plain.run(f"DROP TABLE {name} SYNC")
                    case 8:
                        reply = plain.send("SELECT number FROM numbers(20000) FORMAT RowBinary")
                        assert len(reply.body) == 160_000
            except Exception as error:  # noqa: BLE001
                errors.append(f"thread {thread} turn {turn}: {type(error).__name__}: {error}"[:500])
        client.close()

    def round_of(count: int, seed: int) -> None:
        threads = [threading.Thread(target=work, args=(n, count // THREADS, seed)) for n in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    round_of(warm_up, 1)
    rss, threads = _settled_rss(process), process.num_threads()
    started = time.monotonic()
    round_of(requests, 2)
    seconds = time.monotonic() - started
    return Outcome(requests, errors, seconds, rss, _settled_rss(process), threads, process.num_threads())


def _settled_rss(process: psutil.Process) -> int:
    """Bytes, at their lowest within some seconds: the allocator returns freed pages with a delay."""
    until = time.monotonic() + SETTLING_SECONDS
    lowest = process.memory_info().rss
    while time.monotonic() < until:
        time.sleep(0.1)
        lowest = min(lowest, process.memory_info().rss)
    return lowest
