"""Mixed requests from several threads, each of which checks its own answers."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
from clickhouse_connect.driver.exceptions import DatabaseError

from bilten_orchestration.local.clickhouse.process import EndpointProcess
from tests.integration.local.clickhouse.conftest import ANALYST, Http
from tests.integration.local.clickhouse.frames import driver_read, driver_written
from tests.integration.local.clickhouse.test_clickhouse_connect import connect

THREADS = 9
SETTLING_SECONDS = 8


#: What the engine's pools and its allocator may differ by from one moment to the next.
RSS_BYTES, THREAD_COUNT, DESCRIPTOR_COUNT = 64 * 1024**2, 16, 8


@dataclass(frozen=True)
class Held:
    """What the endpoint's process holds. Idle threads of the engine's pool are not counted, as how many there
    are depends on how much once ran side by side; nor are the three files below /proc that a thread of it
    keeps open once it has worked, for its own counters."""

    rss_bytes: int
    threads: int
    descriptors: int


@dataclass
class Outcome:
    errors: list[str]
    after_warm_up: Held
    at_end: Held

    @property
    def problems(self) -> list[str]:
        """Errors of requests, and what the process holds more than after the warm-up."""
        before, after = self.after_warm_up, self.at_end
        grown = {
            "bytes": after.rss_bytes - before.rss_bytes - RSS_BYTES,
            "threads": after.threads - before.threads - THREAD_COUNT,
            "descriptors": after.descriptors - before.descriptors - DESCRIPTOR_COUNT,
        }
        return self.errors + [f"{what}: {before} became {after}" for what, more in grown.items() if more > 0]


def mixed_load(endpoint: EndpointProcess, requests: int, warm_up: int) -> Outcome:
    """Selects, inserts, DDL, sessions, errors, aborted requests and ones in frames, by turns.

    clickhouse-connect's own are in zstd or lz4.
    """
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
                match chance.randrange(11):
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
                    case 9:
                        with contextlib.closing(plain.connect()) as aborted:
                            sql = b"SELECT number FROM system.numbers FORMAT RowBinary"
                            key = {"X-ClickHouse-User": plain.user[0], "X-ClickHouse-Key": plain.user[1]}
                            aborted.request("POST", plain.url(compress=turn % 2), sql, key)
                            assert len(aborted.getresponse().read(1000)) == 1000
                    case 10:
                        rows = driver_written(b"SELECT number FROM numbers(5000) FORMAT RowBinary")
                        reply = plain.send(rows, compress=1, decompress=1)
                        assert len(driver_read(reply.body)) == 40_000
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
    held = _settled(process)
    round_of(requests, 2)
    return Outcome(errors, held, _settled(process))


def _threads(pid: int) -> int:
    found = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # ended meanwhile
            found += (thread / "comm").read_text().strip() != "ThreadPool"
    return found


def _descriptors(pid: int) -> int:
    found = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found += not str(descriptor.readlink()).startswith(f"/proc/{pid}/task/")
    return found


def _settled(process: psutil.Process) -> Held:
    """The lowest within some seconds: the allocator returns freed pages with a delay, and a query of a client
    that left ends a moment later."""
    until = time.monotonic() + SETTLING_SECONDS
    seen = []
    while time.monotonic() < until:
        seen.append((process.memory_info().rss, _threads(process.pid), _descriptors(process.pid)))
        time.sleep(0.1)
    rss, threads, descriptors = map(min, zip(*seen, strict=True))
    return Held(rss, threads, descriptors)
