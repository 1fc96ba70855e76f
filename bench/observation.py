"""What it costs to be watched: CPU of the watchdog and of the servers that it asks, against those alone.

An idle stack with every server and Dagster's webserver and code server, but without the daemon: its
schedules would be the load. Dagster's storage holds five weeks of runs and checks, and the repository as many
backups as its retention keeps, for both are read again and again. The same length of time is measured without
the watchdog and with it, in turns; its start is left out. CPU-seconds count, so that a busy machine changes
little.

A length below 600 s does not average what is read every five minutes.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil

from bench.harness import OURS, Comparison, Context
from bilten_orchestration.errors import StoreUnavailable
from bilten_orchestration.local import dagster_services, dagster_storage, health, ports
from bilten_orchestration.local.layout import layout
from bilten_orchestration.local.supervision import base_environment
from bilten_orchestration.observability.sources.code_location import CodeLocation
from bilten_orchestration.progress import Progress
from bilten_orchestration.settings import DagsterSettings, ServeSettings, Settings
from bilten_orchestration.settings.loading import as_environment
from bilten_orchestration.stores import postgres
from tests import stack

SECONDS = 600.0
AIM_PERCENT = 2.0
SCRAPES = 2000
SETTLED_SECONDS = 45.0  # after its first answer: imports and first readings are over
RUNS = 15_000
BACKUPS = 170

_HISTORY = (
    "insert into runs (run_id, pipeline_name, status, run_body, create_timestamp, update_timestamp,"
    " start_time, end_time) select gen_random_uuid(), 'job_' || n %% 25,"
    " case when n %% 200 = 0 then 'FAILURE' else 'SUCCESS' end, '{}', at, at, extract(epoch from at),"
    " extract(epoch from at) from (select n, (now() at time zone 'UTC') - n * interval '3 min' as at"
    " from generate_series(1, %(runs)s) n) made",
    "insert into asset_check_executions (asset_key, check_name, run_id, execution_status, evaluation_event,"
    " evaluation_event_timestamp) select format('[\"marts\", \"m%%s\"]', n %% 40), 'check_' || n %% 120,"
    " gen_random_uuid(), case when n %% 500 = 0 then 'FAILED' else 'SUCCEEDED' end, '{}',"
    " (now() at time zone 'UTC') - n * interval '2 min' from generate_series(1, %(runs)s) n",
    "analyze",
)


@dataclass(frozen=True, slots=True)
class Window:
    """One length of time. `percent` of one core by program; connections as sampled; `sessions` are made a
    minute."""

    percent: Mapping[str, float]
    connections: float
    most_connections: int
    sessions: float

    @property
    def total(self) -> float:
        return sum(self.percent.values())


def observed(context: Context) -> list[Comparison]:
    """The whole observation, and one scrape."""
    seconds = max(30.0, SECONDS * context.scale)
    with _idle(context.progress) as (settings, programs):
        alone, watched, scrapes = [], [], []
        for turn in range(1, context.runs + 1):
            alone.append(_window(settings, programs, seconds))
            context.progress(f"  turn {turn}/{context.runs}, alone: {_shown(alone[-1])}")
            with _watching(settings) as process:
                watched.append(_window(settings, {**programs, "watchdog": process}, seconds))
                context.progress(f"  turn {turn}/{context.runs}, watched: {_shown(watched[-1])}")
                scrapes.append(_scrapes(settings, process))
                memory = process.memory_info().rss
    added = {
        name: statistics.median(each.percent[name] for each in watched)
        - (statistics.median(each.percent[name] for each in alone) if name in programs else 0.0)
        for name in (*programs, "watchdog")
    }
    told = ", ".join(f"{name} {percent:.2f} %" for name, percent in added.items())
    newest = watched[-1]
    return [
        Comparison(
            "observation",
            context.scale,
            f"an idle stack, {seconds:.0f} s",
            # of 100 s, so that it reads as percent of one core
            {OURS: sum(added.values())},
            context.runs,
            bound_seconds=AIM_PERCENT,
            note=f"CPU-seconds per 100 s that being watched adds: {told};"
            f" {newest.connections:.1f} connections to PostgreSQL on average and at most"
            f" {newest.most_connections},"
            f" {newest.sessions:.0f} made a minute; the watchdog has {memory / 2**20:.0f} MiB",
        ),
        Comparison(
            "scrape",
            context.scale,
            f"{SCRAPES} scrapes of /metrics",
            {OURS: statistics.median(scrapes)},
            context.runs,
            # every 15 s from two places, a tenth of the aim
            bound_seconds=AIM_PERCENT / 100 * 15 / 2 / 10,
            note="CPU-seconds of the watchdog for one",
        ),
    ]


def _shown(window: Window) -> str:
    parts = ", ".join(f"{name} {percent:.2f} %" for name, percent in window.percent.items())
    return f"{window.total:.2f} % of a core ({parts}); {window.connections:.1f} connections"


def _window(settings: Settings, programs: Mapping[str, psutil.Process], seconds: float) -> Window:
    counts: list[int] = []
    with postgres.connect(settings.postgres, application_name="bench", autocommit=True) as connection:
        sessions = _sessions(connection)
        before = {name: _cpu(process) for name, process in programs.items()}
        began = time.monotonic()
        while (left := seconds - (time.monotonic() - began)) > 0:
            row = connection.execute(
                "select count(*) from pg_stat_activity where application_name like 'bilten%'"
            ).fetchone()
            counts.append(row[0] if row else 0)
            time.sleep(min(1.0, left))  # a sample every second, not a wait for something
        took = time.monotonic() - began
        spent = {name: _cpu(process) - before[name] for name, process in programs.items()}
        made = _sessions(connection) - sessions
    return Window(
        {name: 100 * each / took for name, each in spent.items()},
        statistics.fmean(counts),
        max(counts),
        60 * made / took,
    )


def _sessions(connection: postgres.Connection) -> int:
    row = connection.execute("select sum(sessions) from pg_stat_database").fetchone()
    return int(row[0]) if row else 0


def _cpu(process: psutil.Process) -> float:
    """Seconds of a process, its descendants, and those that have ended and were waited for."""
    total = 0.0
    for each in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):  # its parent counts it from now on
            times = each.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def _scrapes(settings: Settings, process: psutil.Process) -> float:
    connection = http.client.HTTPConnection(settings.serve.host, settings.serve.port, timeout=60)
    try:
        before = _cpu(process)
        for _ in range(SCRAPES):
            connection.request("GET", "/metrics")
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status == 200
            assert b"bilten_" in body
        return (_cpu(process) - before) / SCRAPES
    finally:
        connection.close()


@contextmanager
def _watching(settings: Settings) -> Iterator[psutil.Process]:
    with _running(
        [sys.executable, "-m", "bilten_orchestration.cli.main", "serve"],
        base_environment(settings.home) | as_environment(settings) | _python(settings),
        settings.home / "serve.log",
    ) as process:
        from bilten_orchestration.local import watchdog

        health.wait(lambda: watchdog.check(settings), seconds=180, alive=process.is_running)
        time.sleep(SETTLED_SECONDS)
        yield process


@contextmanager
def _running(argv: list[str], environment: Mapping[str, str], log: Path) -> Iterator[psutil.Process]:
    with log.open("ab") as out:
        started = subprocess.Popen(argv, env=dict(environment), stdout=out, stderr=out, cwd=log.parent)
    try:
        yield psutil.Process(started.pid)
    finally:
        started.terminate()
        try:
            started.wait(timeout=60)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


def _python(settings: Settings) -> dict[str, str]:
    return {
        "BILTEN_HOME": str(settings.home),
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "PATH": f"{Path(sys.executable).parent}:{os.defpath}",
    }


@contextmanager
def _idle(progress: Progress) -> Iterator[tuple[Settings, dict[str, psutil.Process]]]:
    """An idle stack on servers of its own: settings, and its programs."""
    from bilten_orchestration.metrics import manifest
    from bilten_orchestration.migrations import runner
    from bilten_orchestration.partitions.postgres.premake import premake

    base = stack.make_base()
    try:
        with stack.stopping() as running, contextlib.ExitStack() as services:
            server = stack.start_postgres(base)
            running.append(server)
            clickhouse = stack.start_clickhouse(base)
            running.append(clickhouse)
            redis, redis_settings = stack.start_redis(base)
            running.append(redis)
            store, objects = stack.start_object_store(base)
            running.append(store)
            search, search_settings = stack.start_opensearch(base)
            running.append(search)
            settings = Settings(
                home=base / "home",
                environment="test",
                postgres=server.settings(),
                clickhouse=clickhouse.settings,
                redis=redis_settings,
                object_store=objects,
                opensearch=search_settings,
                dagster=DagsterSettings(port=ports.any_free(), code_server_port=ports.any_free()),
                serve=ServeSettings(port=ports.any_free()),
            )
            runner.up(settings)
            premake(settings)
            manifest.prepare(settings)
            progress("history of five weeks")
            programs = {
                "postgres": psutil.Process(server.pid),
                "clickhouse": psutil.Process(clickhouse.pid),
                "redis": psutil.Process(redis.pid),
                "object-store": psutil.Process(store.pid),
                "opensearch": psutil.Process(search.pid),
            } | _dagster(settings, services)
            _history(settings)
            _backups(settings)
            health.wait(lambda: _loaded(settings), seconds=180, alive=lambda: True)
            time.sleep(SETTLED_SECONDS)
            yield settings, programs
    finally:
        shutil.rmtree(base, ignore_errors=True)


def _loaded(settings: Settings) -> str:
    """Raises StoreUnavailable until the definitions are loaded: that is work of its own."""
    found = CodeLocation(settings).read()
    if found.findings:
        raise StoreUnavailable(found.findings[0].problem)
    return found.detail


def _dagster(settings: Settings, services: contextlib.ExitStack) -> dict[str, psutil.Process]:
    """Code server and webserver, on tables of their own."""
    place = layout(settings.home)
    place.dagster_home.mkdir(mode=0o755, parents=True, exist_ok=True)
    dagster_services.initialise(place, settings)
    own = as_environment(settings) | _python(settings)
    found = {}
    migrated = False
    for program in dagster_services.programs(place, settings, outside=False):
        environment = base_environment(settings.home) | dict(program.environment) | own
        if not migrated:
            dagster_storage.migrate(place, environment)
            migrated = True
        if program.name != dagster_services.DAEMON:
            found[program.name] = services.enter_context(
                _running(list(program.argv), environment, place.dagster_home / f"{program.name}.log")
            )
    return found


def _history(settings: Settings) -> None:
    with postgres.connect(settings.postgres, "dagster", autocommit=True) as connection:
        for statement in _HISTORY:
            connection.execute(statement.encode(), {"runs": RUNS} if "%(runs)s" in statement else None)


def _backups(settings: Settings) -> None:
    """Manifests of backups over the last 90 days, each with a mark."""
    from bilten_orchestration.backups.repository import catalogue, keys
    from bilten_orchestration.backups.repository.bucket import Repository
    from bilten_orchestration.backups.repository.manifest import Manifest, Mark, new_id
    from bilten_orchestration.backups.repository.opened import key_file
    from bilten_orchestration.stores.object_store import connect

    ring = keys.ensure(key_file(settings))
    newest = datetime.now(UTC) - timedelta(minutes=5)
    with closing(connect(settings.object_store)) as client:
        repository = Repository(client, settings.object_store.bucket_backups)
        for number in range(BACKUPS):
            at = newest - timedelta(hours=12 * number)
            store = ("postgres", "clickhouse", "redis")[number % 3]
            manifest = Manifest(
                id=new_id(store, "full", at),  # type: ignore[arg-type]
                store=store,  # type: ignore[arg-type]
                kind="full",
                source="1",
                started_at=at,
                finished_at=at + timedelta(minutes=1),
                raw_bytes=1,
                codec="zstd",
                objects=(),
                key_id=ring.current,
                versions={},
            )
            catalogue.add(repository, ring, manifest)
            mark = Mark(manifest.id, "verified", at + timedelta(hours=1), "bench")
            catalogue.mark(repository, ring, manifest, mark)
