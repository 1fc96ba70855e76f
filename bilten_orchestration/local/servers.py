"""Brings up everything that has no address of its own, and waits until it answers.

Order, and what a kill between the steps leaves (the next `up` starts from the top each time):

    1. the jars of OpenSearch are fetched; where that cannot be, there is no search, and all the rest goes on
    2. stack.env is written, in one step: from here on ports, secrets and whether there is search are fixed
    3. data directories and configurations are written, each in one step
    4. supervisord learns the programs and starts the stores
    5. PostgreSQL's roles and databases are made, statement by statement, each idempotent
    6. Dagster's tables are made (dagster_storage.py)
    7. Dagster's services start; they are not waited for here, but by `await_dagster`
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from bilten_orchestration.errors import StoreUnavailable
from bilten_orchestration.local import (
    clickhouse_endpoint,
    dagster_services,
    dagster_storage,
    endpoints,
    health,
    object_store,
    ports,
    postgres,
    redis,
    stack_env,
    wal_stream,
    watchdog,
)
from bilten_orchestration.local.layout import Layout
from bilten_orchestration.local.opensearch import server as opensearch
from bilten_orchestration.local.opensearch.jars import NotFetched
from bilten_orchestration.local.programs import Program
from bilten_orchestration.local.supervision import State, Supervisor
from bilten_orchestration.progress import Progress
from bilten_orchestration.settings import Settings
from bilten_orchestration.settings.loading import load_settings
from bilten_orchestration.stores import opensearch as search

STORE_SECONDS = 180
DAGSTER_SECONDS = 180
STARTS = 4
PROGRAM_OF: dict[endpoints.Store, str] = {
    "postgres": "postgres",
    "clickhouse": "clickhouse",
    "redis": "redis",
    "object_store": "object-store",
    "opensearch": "opensearch",
}
CHECK_OF: dict[endpoints.Store, health.Check] = {
    "postgres": health.postgres,
    "clickhouse": health.clickhouse,
    "redis": health.redis,
    "object_store": health.object_store,
    "opensearch": health.opensearch,
}


@dataclass(frozen=True, slots=True)
class Started:
    """`settings` with all addresses. Of `programs`, `started` did not run before, `restarted` ran as another
    process, and `starting` have not proved yet that they stay; notes on ports."""

    settings: Settings
    programs: tuple[Program, ...] = ()
    started: tuple[str, ...] = ()
    restarted: tuple[str, ...] = ()
    starting: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        return bool(self.started or self.restarted)

    def __str__(self) -> str:
        said = [
            f"{what} {', '.join(names)}"
            for what, names in (
                ("started", self.started),
                ("restarted", self.restarted),
                ("still starting:", tuple(name for name in self.starting if name not in self.started)),
            )
            if names
        ]
        return "; ".join(said) or "all were running"


def start(layout: Layout, outside: Settings, supervisor: Supervisor, progress: Progress) -> Started:
    """Everything up to the first answer of each store. `outside` is without stack.env."""
    outside = _without_what_is_not_had(layout, outside, progress)
    states, notes = _choose(layout, outside, supervisor, progress)
    settings = load_settings()
    stores = endpoints.embedded(outside)
    cluster = _cluster(layout, settings) if "postgres" in stores else None

    programs = _prepare_stores(layout, settings, stores, cluster, progress)
    dagster_services.initialise(layout, settings)
    some_outside = len(stores) < len(endpoints.wanted(outside))
    services = dagster_services.programs(layout, settings, outside=some_outside)
    programs += services
    # they wait for the schema: `up` starts them behind the migrations
    later = [watchdog.program(layout, settings, outside=some_outside)]
    if "postgres" in stores:
        later.append(wal_stream.program(layout, settings, outside=some_outside))
    supervisor.apply([*programs, *later])
    for store in stores:
        supervisor.start(PROGRAM_OF[store])

    given_up = threading.Event()
    port_of = {program.name: program.port for program in programs}

    def wait(store: endpoints.Store) -> str:
        check: Callable[[], str] = partial(CHECK_OF[store], settings)
        if store == "postgres" and cluster is not None:
            check = partial(_provisioned, cluster, settings)
        name = PROGRAM_OF[store]
        return _await(name, check, supervisor, STORE_SECONDS, port_of[name], given_up)

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
    dagster_storage.prepare(
        layout, settings, supervisor, services[0].environment, progress, ours="postgres" in stores
    )
    for service in services:
        supervisor.start(service.name)
    return _told(settings, tuple(programs), states, supervisor.states(), (*notes, *not_had(settings)))


def start_object_store_alone(
    layout: Layout, outside: Settings, supervisor: Supervisor, progress: Progress
) -> Settings:
    """The object store runs, and nothing else of the stack: its data are of use, and the directories of the
    others are going to be filled. A kill leaves that; `up` starts the others again."""
    _choose(layout, outside, supervisor, progress)
    settings = load_settings()
    program = _object_store(layout, settings)
    supervisor.apply([program])
    supervisor.start(program.name)
    check: Callable[[], str] = partial(health.object_store, settings)
    progress(f"{program.name}: {_await(program.name, check, supervisor, STORE_SECONDS, program.port)}")
    return settings


def _choose(
    layout: Layout, outside: Settings, supervisor: Supervisor, progress: Progress
) -> tuple[Mapping[str, State], tuple[str, ...]]:
    """Write stack.env. What ran before, and notes on ports."""
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
    return states, chosen.notes


def not_had(settings: Settings) -> tuple[str, ...]:
    """For people: what `up` had to leave out, and what brings it."""
    if settings.opensearch.not_fetched_from is None:
        return ()
    problem = search.off(settings.opensearch)
    return (f"{problem.what}, {problem.found}. All else works. Next: {problem.next}",)


def _without_what_is_not_had(layout: Layout, outside: Settings, progress: Progress) -> Settings:
    """`outside`, with search off where the programs of the embedded node cannot be downloaded.

    All others come with the packages. Only that is forgiven: other bytes, or a node that does not start, are
    errors like any other. The next `up` tries again, for `outside` never is what this one found.
    """
    if "opensearch" not in endpoints.embedded(outside):
        return outside
    try:
        opensearch.programs(layout.data.parent, outside.opensearch.maven_url, progress)
    except NotFetched as error:
        (problem,) = error.problems
        progress(f"opensearch: {problem.what}: {problem.found}")
        without = {"enabled": False, "not_fetched_from": error.address}
        return outside.model_copy(update={"opensearch": outside.opensearch.model_copy(update=without)})
    return outside


def _told(
    settings: Settings,
    programs: tuple[Program, ...],
    before: Mapping[str, State],
    after: Mapping[str, State],
    notes: tuple[str, ...],
) -> Started:
    """What became of each program, by its process: the same pid is the same server."""
    ran = {name for name, state in before.items() if state.running and state.pid}
    same = {name for name in ran if name in after and after[name].pid == before[name].pid}
    names = tuple(program.name for program in programs)
    return Started(
        settings,
        programs,
        started=tuple(name for name in names if name not in ran),
        restarted=tuple(name for name in names if name in ran - same),
        starting=tuple(name for name in names if name in after and after[name].state == "STARTING"),
        notes=notes,
    )


def await_dagster(settings: Settings, supervisor: Supervisor) -> None:
    """Until the code server has loaded the definitions, the webserver answers and the daemon beats."""
    port_of = {
        dagster_services.CODE_SERVER: settings.dagster.code_server_port,
        dagster_services.WEBSERVER: settings.dagster.port,
        dagster_services.DAEMON: 0,
    }
    for name, check in dagster_checks(settings).items():
        _await(name, check, supervisor, DAGSTER_SECONDS, port_of[name])


def _await(
    program: str,
    check: Callable[[], str],
    supervisor: Supervisor,
    seconds: float,
    port: int,
    given_up: threading.Event | None = None,
) -> str:
    processes: set[int] = set()

    def dies() -> bool:
        """Given up by supervisord, or started again and again: it does not count those that last a while."""
        state = supervisor.states().get(program)
        if state is not None and state.pid:
            processes.add(state.pid)
        return state is None or state.ended or len(processes) > STARTS

    def worth_waiting() -> bool:
        return not dies() and not (given_up is not None and given_up.is_set())

    try:
        return health.wait(check, seconds=seconds, alive=worth_waiting)
    except StoreUnavailable:
        if not dies():
            raise  # slow, not dead: what the check found is the news
        if port and not ports.is_free(port):
            raise StoreUnavailable(
                f"port {port} for {program} was taken while it started",
                expected="the port that was free when it was chosen",
                found=ports.holder(port),
                next="bilten up again: it chooses another port",
            ) from None
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
        endpoint = clickhouse_endpoint.Endpoint(
            layout.data / "clickhouse", settings.clickhouse, _backup_disks(settings, progress)
        )
        clickhouse_endpoint.initialise(endpoint)
        programs.append(clickhouse_endpoint.program(endpoint))
    if "redis" in stores:
        cache = redis.Redis(
            layout.data / "redis",
            settings.redis.port,
            redis.binary(layout.home, layout.user, layout.data / "redis"),
            layout.user,
            settings.redis.password,
        )
        redis.initialise(cache)
        programs.append(redis.program(cache))
    if "object_store" in stores:
        programs.append(_object_store(layout, settings))
    if "opensearch" in stores:
        programs.append(_opensearch(layout, settings, progress))
    return programs


def _object_store(layout: Layout, settings: Settings) -> Program:
    store = object_store.ObjectStore(
        layout.data / "object-store",
        endpoints.port_in(settings.object_store.endpoint_url),
        object_store.binary(layout.home, layout.user),
        layout.user,
        settings.object_store.access_key_id,
        settings.object_store.secret_access_key,
    )
    object_store.initialise(store, settings.object_store.buckets)
    return object_store.program(store)


def _opensearch(layout: Layout, settings: Settings, progress: Progress) -> Program:
    node = opensearch.OpenSearch(
        layout.data / "opensearch",
        endpoints.port_in(settings.opensearch.url),
        opensearch.programs(layout.data.parent, settings.opensearch.maven_url, progress),
        opensearch.java(layout.home, layout.user),
        layout.user,
        settings.opensearch.heap_bytes,
    )
    opensearch.initialise(node)
    return opensearch.program(node)


def _backup_disks(settings: Settings, progress: Progress) -> str:
    """The disks that ClickHouse writes backups to; their keys are made here where there are none yet."""
    from bilten_orchestration.backups.clickhouse import disks
    from bilten_orchestration.backups.repository import keys
    from bilten_orchestration.backups.repository.opened import key_file

    place = key_file(settings)
    if not place.exists():
        progress(f"making {place}: no backup can be read without it, keep a copy elsewhere")
    return disks.configuration(settings.object_store, keys.ensure(place))


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
