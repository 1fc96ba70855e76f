"""Brings up everything that has no address of its own, and waits until it answers.

Order, and what a kill between the steps leaves (the next `up` starts from the top each time):

    1. stack.env is written, in one step: from here on ports and secrets are fixed
    2. data directories and configurations are written, each in one step
    3. supervisord learns the programs and starts the stores
    4. PostgreSQL's roles and databases are made, statement by statement, each idempotent
    5. Dagster's tables are made (dagster_storage.py)
    6. Dagster's services start; they are not waited for here, but by `await_dagster`
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from bilten_orchestration.errors import StoreUnavailable
from bilten_orchestration.local import (
    clickhouse_endpoint,
    dagster_services,
    dagster_storage,
    endpoints,
    health,
    object_store,
    postgres,
    redis,
    stack_env,
)
from bilten_orchestration.local.layout import Layout
from bilten_orchestration.local.programs import Program
from bilten_orchestration.local.supervision import Supervisor
from bilten_orchestration.progress import Progress
from bilten_orchestration.settings import Settings, load_settings

STORE_SECONDS = 120
DAGSTER_SECONDS = 180
PROGRAM_OF: dict[endpoints.Store, str] = {
    "postgres": "postgres",
    "clickhouse": "clickhouse",
    "redis": "redis",
    "object_store": "object-store",
}
CHECK_OF: dict[endpoints.Store, health.Check] = {
    "postgres": health.postgres,
    "clickhouse": health.clickhouse,
    "redis": health.redis,
    "object_store": health.object_store,
}


@dataclass(slots=True)
class Started:
    """`settings` with all addresses; names of programs that were not running before; notes on ports."""

    settings: Settings
    programs: tuple[Program, ...]
    started: list[str] = field(default_factory=list)
    notes: tuple[str, ...] = ()


def start(layout: Layout, outside: Settings, supervisor: Supervisor, progress: Progress) -> Started:
    """Everything up to the first answer of each store. `outside` is without stack.env."""
    if not supervisor.answers():
        supervisor.end_orphans()
    states = supervisor.states()
    recorded = stack_env.read(layout.stack_env)
    running = {
        program: port
        for program, port in endpoints.recorded_ports(recorded).items()
        if program in states and states[program].running
    }
    chosen = endpoints.choose(outside, recorded, running)
    for note in chosen.notes:
        progress(note)
    stack_env.write(layout.stack_env, chosen.variables)
    settings = load_settings()
    stores = endpoints.embedded(outside)
    cluster = _cluster(layout, settings) if "postgres" in stores else None

    programs = _prepare_stores(layout, settings, stores, cluster, progress)
    dagster_services.initialise(layout, settings)
    programs += dagster_services.programs(layout, settings)
    supervisor.apply(programs)

    result = Started(settings, tuple(programs), notes=chosen.notes)
    names = [PROGRAM_OF[store] for store in stores]
    result.started += [name for name in names if supervisor.start(name)]

    given_up = threading.Event()

    def wait(store: endpoints.Store) -> str:
        check: Callable[[], str] = partial(CHECK_OF[store], settings)
        if store == "postgres" and cluster is not None:
            check = partial(_provisioned, cluster, settings)
        return _await(PROGRAM_OF[store], check, supervisor, STORE_SECONDS, given_up)

    from bilten_orchestration.metrics import manifest

    with ThreadPoolExecutor(max_workers=len(stores) + 1) as pool:
        # the code server reads the manifest; parsing needs no store
        parsed = pool.submit(manifest.prepare, settings, progress=progress)
        try:
            for store, found in zip(stores, pool.map(wait, stores), strict=True):
                progress(f"{PROGRAM_OF[store]}: {found}")
            parsed.result()
        finally:
            given_up.set()  # one that failed, or Ctrl-C, ends the waiting for the others
    dagster_storage.prepare(layout, settings, supervisor, progress, ours="postgres" in stores)
    for name in (dagster_services.CODE_SERVER, dagster_services.WEBSERVER, dagster_services.DAEMON):
        if supervisor.start(name):
            result.started.append(name)
    return result


def await_dagster(settings: Settings, supervisor: Supervisor) -> None:
    """Until the code server has loaded the definitions, the webserver answers and the daemon beats."""
    for name, check in dagster_checks(settings).items():
        _await(name, check, supervisor, DAGSTER_SECONDS)


def _await(
    program: str,
    check: Callable[[], str],
    supervisor: Supervisor,
    seconds: float,
    given_up: threading.Event | None = None,
) -> str:
    def worth_waiting() -> bool:
        return supervisor.alive(program) and not (given_up is not None and given_up.is_set())

    try:
        return health.wait(check, seconds=seconds, alive=worth_waiting)
    except StoreUnavailable:
        if supervisor.alive(program):
            raise  # slow, not dead: what the check found is the news
        lines = [line.strip() for line in supervisor.last_lines(program) if line.strip()]
        raise StoreUnavailable(
            f"{program} ended each time it was started",
            expected="a server that stays",
            found=" | ".join(lines[-3:])[-600:] or "an empty log",
            next=f"bilten logs {program}",
        ) from None


def dagster_checks(settings: Settings) -> dict[str, Callable[[], str]]:
    return {
        dagster_services.CODE_SERVER: partial(
            health.code_server, settings, settings.dagster.code_server_port
        ),
        dagster_services.WEBSERVER: partial(health.webserver, settings),
        dagster_services.DAEMON: partial(health.daemon, settings),
    }


def _prepare_stores(
    layout: Layout,
    settings: Settings,
    stores: tuple[endpoints.Store, ...],
    cluster: postgres.Cluster | None,
    progress: Progress,
) -> list[Program]:
    programs: list[Program] = []
    if cluster is not None:
        if not (cluster.data / "PG_VERSION").exists():
            progress("postgres: making a cluster")
        postgres.initialise(cluster)
        programs.append(postgres.program(cluster))
    if "clickhouse" in stores:
        endpoint = clickhouse_endpoint.Endpoint(layout.data / "clickhouse", settings.clickhouse)
        clickhouse_endpoint.initialise(endpoint)
        programs.append(clickhouse_endpoint.program(endpoint))
    if "redis" in stores:
        cache = redis.Redis(
            layout.data / "redis",
            settings.redis.port,
            redis.binary(layout.home, layout.user),
            layout.user,
            settings.redis.password,
        )
        redis.initialise(cache)
        programs.append(redis.program(cache))
    if "object_store" in stores:
        store = object_store.ObjectStore(
            layout.data / "object-store",
            endpoints.object_store_port(settings),
            object_store.binary(layout.home, layout.user),
            layout.user,
            settings.object_store.access_key_id,
            settings.object_store.secret_access_key,
        )
        object_store.initialise(store, settings.object_store.buckets)
        programs.append(object_store.program(store))
    return programs


def _cluster(layout: Layout, settings: Settings) -> postgres.Cluster:
    return postgres.Cluster(
        data=layout.data / "postgres",
        socket_directory=layout.sockets / "postgres",
        port=settings.postgres.port,
        bin=postgres.binaries(layout.home, layout.user),
        user=layout.user,
    )


def _provisioned(cluster: postgres.Cluster, settings: Settings) -> str:
    """Roles and databases are there, or are made as soon as the server lets the superuser in."""
    postgres.ensure_provisioned(cluster, settings.postgres)
    return health.postgres(settings)
