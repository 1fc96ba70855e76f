"""Which ports and secrets are chosen, and what is said about a port that is taken."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bilten_orchestration.errors import Refused
from bilten_orchestration.local import endpoints, ports, stack_env
from bilten_orchestration.settings import PostgresSettings, Settings


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind((ports.LOOPBACK, 0))
        listener.listen()
        yield listener.getsockname()[1]


def outside(**sections: object) -> Settings:
    everything = {"opensearch": {"enabled": True}, **sections}
    return Settings.model_validate({"home": Path("/nonexistent"), **everything})


def test_first_start_chooses_everything_and_secrets_differ() -> None:
    chosen = endpoints.choose(outside(), {}, {}).variables
    secrets = [chosen[name] for name in stack_env.SECRETS]
    assert len(set(secrets)) == len(secrets)
    assert all(len(secret) >= 20 for secret in secrets)
    assert set(endpoints.recorded_ports(chosen)) == set(endpoints.PORT_VARIABLES)
    assert len(set(endpoints.recorded_ports(chosen).values())) == len(endpoints.PORT_VARIABLES)


def test_what_is_recorded_stays() -> None:
    first = endpoints.choose(outside(), {}, {}).variables
    assert endpoints.choose(outside(), first, {}) == endpoints.Chosen(first, ())


def test_a_taken_port_gives_way_and_names_its_holder(taken: int) -> None:
    chosen = endpoints.choose(outside(postgres=PostgresSettings(port=taken)), {}, {})
    assert chosen.variables["BILTEN_POSTGRES__PORT"] != str(taken)
    assert str(taken) in chosen.notes[0]
    assert f"pid {os.getpid()}" in chosen.notes[0]


def test_a_taken_port_that_was_asked_for_is_refused(taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BILTEN_REDIS__PORT", str(taken))
    with pytest.raises(Refused) as caught:
        endpoints.choose(outside(), {}, {})
    (problem,) = caught.value.problems
    assert f"pid {os.getpid()}" in problem.found
    assert "BILTEN_REDIS__PORT" in problem.next


def test_stacks_that_start_together_choose_apart() -> None:
    """Each port is free for all of them: none has started a server yet."""
    program = (
        "from bilten_orchestration.local import endpoints;"
        "from bilten_orchestration.settings import Settings;"
        "every = Settings(home='/nonexistent', opensearch={'enabled': True});"
        "chosen = endpoints.choose(every, {}, {}).variables;"
        "print(*endpoints.recorded_ports(chosen).values(), flush=True); input()"
    )
    stacks = [
        subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    try:
        chosen = [port for stack in stacks if stack.stdout for port in stack.stdout.readline().split()]
        assert len(chosen) == len(set(chosen)) == 3 * len(endpoints.PORT_VARIABLES)
        assert not any(ports.claim(int(port)) for port in chosen)
        assert ports.holder(int(chosen[0])) == "another stack that is starting"
    finally:
        for stack in stacks:
            stack.communicate("\n")
    # free again, or somebody else's who has nothing to do with these
    assert all(
        ports.claim(int(port)) or ports.holder(int(port)) != "another stack that is starting"
        for port in chosen
    )


def test_a_port_that_our_own_program_holds_is_not_taken(taken: int) -> None:
    recorded = endpoints.choose(outside(), {}, {}).variables | {"BILTEN_POSTGRES__PORT": str(taken)}
    assert endpoints.choose(outside(), recorded, {"postgres": taken}).variables == recorded


def test_nothing_is_chosen_for_a_store_that_has_an_address() -> None:
    given = outside(postgres=PostgresSettings(host="db.example.com"))
    chosen = endpoints.choose(given, {"BILTEN_POSTGRES__PASSWORD": "of the embedded one"}, {})
    assert not [name for name in chosen.variables if name.startswith("BILTEN_POSTGRES__")]
    assert "postgres" not in endpoints.embedded(given)


def test_stack_env_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "stack.env"
    stack_env.write(path, {"BILTEN_A": "x=y", "BILTEN_B": "1"})
    assert path.stat().st_mode & 0o777 == 0o600
    assert stack_env.read(path) == {"BILTEN_A": "x=y", "BILTEN_B": "1"}
    written = path.stat().st_ino
    stack_env.write(path, {"BILTEN_B": "1", "BILTEN_A": "x=y"})
    assert path.stat().st_ino == written
