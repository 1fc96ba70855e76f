"""Which servers are embedded, on which ports, with which secrets: what goes into stack.env."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from bilten_orchestration.errors import Problem, Refused
from bilten_orchestration.local import ports, stack_env
from bilten_orchestration.settings import Settings

Store = Literal["postgres", "clickhouse", "redis", "object_store", "opensearch"]
STORES: tuple[Store, ...] = ("postgres", "clickhouse", "redis", "object_store", "opensearch")
OBJECT_STORE_PORT = 9000
OPENSEARCH_PORT = 9200
PORT_VARIABLES = {
    "postgres": "BILTEN_POSTGRES__PORT",
    "clickhouse": "BILTEN_CLICKHOUSE__PORT",
    "redis": "BILTEN_REDIS__PORT",
    "object-store": "BILTEN_OBJECT_STORE__ENDPOINT_URL",
    "opensearch": "BILTEN_OPENSEARCH__URL",
    "dagster-webserver": "BILTEN_DAGSTER__PORT",
    "dagster-code": "BILTEN_DAGSTER__CODE_SERVER_PORT",
    "watchdog": "BILTEN_SERVE__PORT",
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A port to be chosen: for which program, and what to try first."""

    program: str
    first: int
    host: str = ports.LOOPBACK

    @property
    def variable(self) -> str:
        return PORT_VARIABLES[self.program]


@dataclass(frozen=True, slots=True)
class Chosen:
    """`variables` is the new stack.env; `notes` say which port was taken and by whom."""

    variables: dict[str, str]
    notes: tuple[str, ...]


def wanted(settings: Settings) -> tuple[Store, ...]:
    """The stores there are, embedded or not: all, but search may be off."""
    return tuple(store for store in STORES if store != "opensearch" or settings.opensearch.enabled)


def embedded(outside: Settings) -> tuple[Store, ...]:
    """The stores that have no address, so that `up` starts them. `outside` is without stack.env."""
    addresses: Mapping[Store, str | None] = {
        "postgres": outside.postgres.host,
        "clickhouse": outside.clickhouse.host,
        "redis": outside.redis.host,
        "object_store": outside.object_store.endpoint_url,
        "opensearch": outside.opensearch.url,
    }
    return tuple(store for store in wanted(outside) if addresses[store] is None)


def choose(outside: Settings, recorded: Mapping[str, str], running: Mapping[str, int]) -> Chosen:
    """Addresses and secrets for everything embedded; what is recorded stays.

    `running` maps our own running programs to their ports: such a port is not taken, it is ours.
    Raises Refused when a port that the caller asked for by name is held by somebody else.
    """
    stores = embedded(outside)
    variables = {
        name: recorded.get(name) or stack_env.generate(name)
        for name in stack_env.SECRETS
        if any(name.startswith(f"BILTEN_{store.upper()}__") for store in (*stores, "serve"))
    }
    notes: list[str] = []
    problems: list[Problem] = []
    taken: set[int] = set()
    for endpoint in _endpoints(outside, stores):
        asked = os.environ.get(endpoint.variable)
        port = int(asked or _port(recorded.get(endpoint.variable)) or endpoint.first)
        free = port not in taken and (
            running.get(endpoint.program) == port or ports.claim(port, endpoint.host)
        )
        if not free and asked:
            problems.append(
                Problem(
                    f"port {port} for {endpoint.program} is taken",
                    expected="a free port, for you asked for this one",
                    found=ports.holder(port),
                    next=f"end that process, or unset {endpoint.variable} and another port is chosen",
                )
            )
            continue
        if not free:
            other = ports.next_free(port + 1, taken, endpoint.host)
            who = ports.holder(port) if port not in taken else "another program of this stack"
            notes.append(f"port {port} is taken by {who}; {endpoint.program} gets {other}")
            port = other
        taken.add(port)
        variables[endpoint.variable] = (
            f"http://{ports.LOOPBACK}:{port}" if endpoint.variable.endswith("_URL") else str(port)
        )
    if problems:
        raise Refused(problems)
    if outside.opensearch.not_fetched_from is not None:
        variables["BILTEN_OPENSEARCH__NOT_FETCHED_FROM"] = outside.opensearch.not_fetched_from
    for store in stores:
        if store not in ("object_store", "opensearch"):  # theirs are in their URL
            variables[f"BILTEN_{store.upper()}__HOST"] = ports.LOOPBACK
    return Chosen(variables, tuple(notes))


def recorded_ports(recorded: Mapping[str, str]) -> dict[str, int]:
    """Ports by program, as stack.env has them."""
    return {
        program: int(port)
        for program, variable in PORT_VARIABLES.items()
        if (port := _port(recorded.get(variable))) is not None
    }


def port_in(url: str | None) -> int:
    """The port in the address of an embedded server that has one."""
    port = _port(url)
    if port is None:
        raise ValueError("an embedded server has an address with a port")
    return int(port)


def _endpoints(outside: Settings, stores: tuple[Store, ...]) -> list[Endpoint]:
    every: dict[Store, Endpoint] = {
        "postgres": Endpoint("postgres", outside.postgres.port),
        "clickhouse": Endpoint("clickhouse", outside.clickhouse.port),
        "redis": Endpoint("redis", outside.redis.port),
        "object_store": Endpoint("object-store", OBJECT_STORE_PORT),
        "opensearch": Endpoint("opensearch", OPENSEARCH_PORT),
    }
    dagster = outside.dagster
    return [
        *(every[store] for store in stores),
        Endpoint("dagster-webserver", dagster.port, dagster.host),
        Endpoint("dagster-code", dagster.code_server_port),
        Endpoint("watchdog", outside.serve.port, outside.serve.host),
    ]


def _port(value: str | None) -> str | None:
    return value.rsplit(":", 1)[-1].strip("/") if value else None
