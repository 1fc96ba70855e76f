"""Search: an index loaded against opensearch-py's parallel_bulk, memory by size, and the delay of a change.

Both loads write the same documents, by the same statement, from one server, into an index of the same
definition without refreshes and replicas. The rival is what its manual proposes: a server-side cursor feeds
`parallel_bulk`, with as many threads as `bilten` has readers.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from psycopg import sql

from bench.harness import OURS, Comparison, Context, take_turns
from bilten_orchestration.progress import Progress
from bilten_orchestration.search import definition, documents
from bilten_orchestration.search.delta import delta
from bilten_orchestration.search.documents import Version
from bilten_orchestration.search.rebuild import rebuild
from bilten_orchestration.settings import Settings
from bilten_orchestration.settings.loading import as_environment
from bilten_orchestration.stores import opensearch, postgres
from tests import stack

RIVAL = "parallel_bulk"
AIM = 1.3
EVENTS = 100_000
MEMORY_SIZES = (100_000, 1_000_000)
CHANGES = 200

# venues, people and prices as of a platform; the check of its zone takes 15 ms per event
_ROWS = (
    "alter table events.events disable trigger user",
    "insert into users.organizations (id, name) select md5('org' || n)::uuid, 'Organization ' || n "
    "from generate_series(0, 99) n on conflict do nothing",
    "insert into users.users (id, email, password_hash) "
    "select md5('user' || n)::uuid, n || '@example.org', 'x' from generate_series(0, 999) n "
    "on conflict do nothing",
    "insert into events.venues (id, name, address, city, country, latitude, longitude) "
    "select md5('venue' || n)::uuid, 'Hall ' || n, 'Street', 'City ' || n % 50, 'PT', n % 80, n % 170 "
    "from generate_series(0, 4999) n on conflict do nothing",
    "insert into events.events (id, organizer_id, organization_id, venue_id, title, description, category, "
    "tags, start_date, end_date, status) select md5('event' || n)::uuid, md5('user' || n % 1000)::uuid, "
    "md5('org' || n % 100)::uuid, md5('venue' || n % 5000)::uuid, 'Concert number ' || n || ' in the park', "
    "repeat('Doors open half an hour before, ' || n || '. ', 10), 'music', array['outdoor', 'seated'], "
    "timestamptz '2027-01-01 18:00+00' + n % 9000 * interval '1 hour', "
    "timestamptz '2029-01-01 18:00+00', 'published' from generate_series(LOW, HIGH) n",
    "insert into tickets.ticket_types (event_id, name, price, currency, quantity) "
    "select md5('event' || n)::uuid, 'Type ' || kind, 10 * kind + n % 90, 'EUR', 500 "
    "from generate_series(LOW, HIGH) n, generate_series(1, 2) kind",
    "alter table events.events enable trigger user",
    "analyze events.events, tickets.ticket_types",
)


def loads(context: Context) -> list[Comparison]:
    """Documents per second, memory and the delay of a change, on servers of its own."""
    with _servers(context.progress) as settings:
        _fill(settings, 1, _scaled(context, EVENTS))
        return [_loaded(context, settings), _followed(context, settings), _memory(context, settings)]


def _loaded(context: Context, settings: Settings) -> Comparison:
    def ours() -> float:
        return rebuild(settings, fresh=True, judges=[]).loaded.seconds

    def rival() -> float:
        return _parallel_bulk(settings)

    def forget(_: str) -> None:
        client = opensearch.connect(settings.opensearch, timeout_seconds=60)
        live = client.indices.get_alias(name=definition.ALIAS) if _serves(client) else {}
        for name in client.indices.get(index="events-*"):
            if name not in live:
                client.indices.delete(index=name)
        client.close()

    events = _scaled(context, EVENTS)
    found = take_turns({OURS: ours, RIVAL: rival}, context.runs, context.progress, before=forget)
    return Comparison(
        "search load",
        context.scale,
        f"{events:,} events",
        found,
        context.runs,
        aim={RIVAL: AIM},
        note=f"{events / found[OURS]:,.0f} documents/s against {events / found[RIVAL]:,.0f}",
    )


def _serves(client: Any) -> bool:
    return bool(client.indices.exists_alias(name=definition.ALIAS))


def _parallel_bulk(settings: Settings) -> float:
    """Seconds of the usual way."""
    from opensearchpy.helpers import parallel_bulk

    client = opensearch.client(settings.opensearch, timeout_seconds=120, compressed=False)
    name = f"events-rival-{time.time_ns()}"
    body = definition.index_body(0)
    body["settings"]["index"]["refresh_interval"] = "-1"
    client.indices.create(index=name, body=body)
    started = time.perf_counter()
    with postgres.connect(settings.postgres, "etl") as connection, connection.cursor("rival") as cursor:
        cursor.itersize = 2_000
        cursor.execute(
            sql.SQL("select d.id, d.source from ({}) d").format(
                documents.searchable(Version(1, datetime.now(UTC)))
            )
        )
        actions = (
            {"_index": name, "_id": str(key), "_version": 1, "_version_type": "external", "_source": source}
            for key, source in cursor
        )
        for ok, item in parallel_bulk(
            client, actions, thread_count=settings.search.parallel, chunk_size=500, queue_size=4
        ):
            assert ok, item
    seconds = time.perf_counter() - started
    client.close()
    return seconds


def _followed(context: Context, settings: Settings) -> Comparison:
    """From the commit of a change until a query finds it, by one delta each."""
    rebuild(settings, fresh=True, judges=[])
    waits = []
    with postgres.connect(settings.postgres, autocommit=True) as owner:
        changes = min(CHANGES, max(20, int(CHANGES * context.scale)))
        for n in range(1, changes + 1):
            owner.execute(
                "update events.events set title = %s where id = md5(%s)::uuid", (f"N {n}", f"event{n}")
            )
            started = time.perf_counter()
            assert delta(settings).applied.operations == 1
            waits.append(time.perf_counter() - started)
    p50, p99 = statistics.median(waits), statistics.quantiles(waits, n=100)[98]
    return Comparison(
        "search delta",
        context.scale,
        f"one change among {_scaled(context, EVENTS):,} events",
        {OURS: p50},
        changes,
        note=f"p50 {p50 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms, connections included",
    )


def _memory(context: Context, settings: Settings) -> Comparison:
    """Of `bilten search reindex`, in a process of its own, at two sizes."""
    told, seconds, filled = [], 0.0, _scaled(context, EVENTS)
    for size in MEMORY_SIZES:
        events = _scaled(context, size)
        if events > filled:
            _fill(settings, filled + 1, events)
            filled = events
        started = time.perf_counter()
        told.append(f"{_peak_mebibytes(settings):.0f} MiB at {events:,}")
        seconds = time.perf_counter() - started
    return Comparison(
        "search reindex memory",
        context.scale,
        f"{filled:,} events, whole command with gates",
        {OURS: seconds},
        1,
        note="peak memory " + ", ".join(told),
    )


_PROGRAM = """
from pathlib import Path
from bilten_orchestration.search.rebuild import rebuild
from bilten_orchestration.settings.loading import load_settings
assert rebuild(load_settings(), fresh=True, accept_size=True).swapped
print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""


def _peak_mebibytes(settings: Settings) -> float:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        env={"PYTHONPATH": ":".join(sys.path), **as_environment(settings)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return int(done.stdout.split()[-1]) / 1024


def _scaled(context: Context, events: int) -> int:
    return max(1_000, int(events * context.scale))


def _fill(settings: Settings, low: int, high: int) -> None:
    with postgres.connect(settings.postgres) as owner:
        for statement in _ROWS:
            owner.execute(statement.replace("LOW", str(low)).replace("HIGH", str(high)).encode())


@contextmanager
def _servers(progress: Progress) -> Iterator[Settings]:
    from bilten_orchestration.migrations import runner
    from bilten_orchestration.partitions.postgres.premake import premake

    base = stack.make_base()
    try:
        with stack.stopping() as running:
            server = stack.start_postgres(base)
            running.append(server)
            clickhouse = stack.start_clickhouse(base)
            running.append(clickhouse)
            node, search = stack.start_opensearch(base)
            running.append(node)
            settings = Settings(
                home=base / "home",
                environment="test",
                postgres=server.settings(),
                clickhouse=clickhouse.settings,
                opensearch=search,
            )
            runner.up(settings)
            premake(settings)
            progress("servers are up")
            yield settings
    finally:
        shutil.rmtree(base, ignore_errors=True)
