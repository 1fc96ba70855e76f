"""Search: an index loaded against opensearch-py's parallel_bulk, memory by size, and the delay of a change.

The loads write the same documents, by the same statement, from one server, into an index of the same
definition without refreshes and replicas, and are timed from before that index is made. The rival is what its
manual proposes: a server-side cursor feeds `parallel_bulk`, once as it is by default (4 threads, 500 rows at
a time), and once with 2,000 rows.
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

from bench.harness import OURS, Comparison, Contestant, Context, take_turns
from bilten_orchestration.progress import Progress
from bilten_orchestration.search import definition, documents
from bilten_orchestration.search.delta import delta
from bilten_orchestration.search.documents import Version
from bilten_orchestration.search.query import search
from bilten_orchestration.search.rebuild import rebuild
from bilten_orchestration.search.request import SearchRequest
from bilten_orchestration.settings import OpenSearchSettings, Settings
from bilten_orchestration.settings.loading import as_environment
from bilten_orchestration.stores import opensearch, postgres
from tests import stack

RIVALS = {"parallel_bulk": 500, "parallel_bulk 2,000": 2_000}
AIM = 1.3
EVENTS = 100_000
MEMORY_SIZES = (100_000, 1_000_000)
CHANGES = 200

# venues, people and prices as of a platform; the check of its zone takes 15 ms per event
_ROWS = (
    "alter table events.events disable trigger user",
    "alter table tickets.ticket_types disable trigger user",
    # takes longer than all the rest, and search does not use it
    "drop index if exists events.events_full_text",
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
    "alter table tickets.ticket_types enable trigger user",
    "analyze events.events, tickets.ticket_types",
)


def loads(context: Context) -> list[Comparison]:
    """Documents per second, memory and the delay of a change, on servers of its own."""
    with _servers(context.progress) as settings:
        _fill(settings, 1, _scaled(context, EVENTS))
        return [_loaded(context, settings), _followed(context, settings), _memory(context, settings)]


def _loaded(context: Context, settings: Settings) -> Comparison:
    def ours() -> float:
        # from the call to the last range, its index and its plan among them; neither gates nor swap
        return rebuild(settings, fresh=True, judges=[]).phases["load"]

    def rival(chunk: int) -> Contestant:
        return lambda: _parallel_bulk(settings, chunk)

    events = _scaled(context, EVENTS)
    contestants: dict[str, Contestant] = {OURS: ours}
    contestants |= {name: rival(chunk) for name, chunk in RIVALS.items()}
    for name in contestants:  # the server compiles what it runs often
        contestants[name]()
    found = take_turns(contestants, context.runs, context.progress, before=lambda _: _forget(settings))
    told = ", ".join(f"{events / seconds:,.0f} by {name}" for name, seconds in found.items())
    return Comparison(
        "search load",
        context.scale,
        f"{events:,} events",
        found,
        context.runs,
        aim=dict.fromkeys(RIVALS, AIM),
        note=f"documents/s: {told}",
    )


def _forget(settings: Settings) -> None:
    """Every index but the one that serves: their merges and their room are no part of a turn."""
    client = opensearch.connect(settings.opensearch, timeout_seconds=60)
    live = client.indices.get_alias(name=definition.ALIAS) if _serves(client) else {}
    for name in client.indices.get(index="events-*"):
        if name not in live:
            client.indices.delete(index=name)
    client.close()


def _serves(client: Any) -> bool:
    return bool(client.indices.exists_alias(name=definition.ALIAS))


def _parallel_bulk(settings: Settings, chunk: int) -> float:
    """Seconds of the usual way. Threads and queue are those of the library."""
    from opensearchpy.helpers import parallel_bulk

    started = time.perf_counter()
    client = opensearch.client(settings.opensearch, timeout_seconds=120, compressed=False)
    name = f"events-rival-{time.time_ns()}"
    body = definition.index_body(0)
    body["settings"]["index"]["refresh_interval"] = "-1"
    client.indices.create(index=name, body=body)
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
        for ok, item in parallel_bulk(client, actions, chunk_size=chunk):
            assert ok, item
    seconds = time.perf_counter() - started
    client.close()
    return seconds


def _followed(context: Context, settings: Settings) -> Comparison:
    """From the commit of a change until a search finds it, by one delta each; and that delta alone."""
    rebuild(settings, fresh=True, judges=[])
    client = opensearch.connect(settings.opensearch, timeout_seconds=60)
    found, runs = [], []
    with postgres.connect(settings.postgres, autocommit=True) as owner:
        changes = min(CHANGES, max(20, int(CHANGES * context.scale)))
        for n in range(1, changes + 1):
            owner.execute(
                "update events.events set title = %s where id = md5(%s)::uuid",
                (f"Changed number {n} of the bench", f"event{n}"),
            )
            committed = time.perf_counter()
            assert delta(settings).applied.operations == 1
            runs.append(time.perf_counter() - committed)
            asked = SearchRequest(f'"Changed number {n} of the bench"', fuzzy=False)
            assert search(settings.opensearch, client, asked, seconds=60).total == 1
            found.append(time.perf_counter() - committed)
    client.close()
    return Comparison(
        "search delta",
        context.scale,
        f"one change among {_scaled(context, EVENTS):,} events",
        {OURS: statistics.median(found)},
        changes,
        note=f"from commit to found {_spread(found)}; the delta alone {_spread(runs)}, connections included",
    )


def _spread(seconds: list[float]) -> str:
    p99 = statistics.quantiles(seconds, n=100, method="inclusive")[98]
    return f"p50 {statistics.median(seconds) * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms"


def _memory(context: Context, settings: Settings) -> Comparison:
    """Of `bilten search reindex`, in a process of its own, at two sizes."""
    told, seconds, filled = [], 0.0, _scaled(context, EVENTS)
    for size in MEMORY_SIZES:
        events = _scaled(context, size)
        if events > filled:
            _fill(settings, filled + 1, events)
            filled = events
        _forget(settings)
        context.progress(f"  reindex of {events:,} events, with every gate")
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
            node, node_settings = stack.start_opensearch(base, heap_bytes=OpenSearchSettings().heap_bytes)
            running.append(node)
            settings = Settings(
                home=base / "home",
                environment="test",
                postgres=server.settings(),
                clickhouse=clickhouse.settings,
                opensearch=node_settings,
            )
            runner.up(settings)
            premake(settings)
            progress("servers are up")
            yield settings
    finally:
        shutil.rmtree(base, ignore_errors=True)
