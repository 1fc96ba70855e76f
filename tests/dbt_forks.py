"""dbt for tests, forked from a process that has it imported: a third of the CPU time of a call.

A call of the platform starts a Python that imports dbt, and compiles macros and classes as it goes: 5.9
CPU-seconds for a small build, of which 2.2 are left here. Tests make some fifty calls and are about what dbt
does, not about how it starts. So one process per test session does all that once and forks for each call; the
fork runs the platform's own dbt_child.py. What starts it in its place is a small client, with the same
arguments, environment, directory and output, that lives as long as the call:

    test --argv--> client --socket: arguments, environment, its stdout and stderr--> server --fork--> dbt
    test <-exit code- client <----------------------- exit code ---------------------'

A client dies with whoever started it and takes its dbt along, and the server goes with the test session.
Commands of `bilten` and runs in processes of their own (tests/e2e, tests/faults/metrics but for the kills at
every step, the kill in test_day_swap.py) start dbt as production does.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import psutil

SERVER = Path(__file__)

#: Imports nothing that takes time. The kernel holds what was sent until the server takes it.
CLIENT = """
import ctypes, json, os, socket, sys
ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
server = socket.socket(socket.AF_UNIX)
server.connect(sys.argv[1])
call = json.dumps({"argv": sys.argv[2:], "environment": dict(os.environ), "directory": os.getcwd()}).encode()
socket.send_fds(server, [len(call).to_bytes(8, "big")], [1, 2])
server.sendall(call)
code = server.recv(4)
os._exit(int.from_bytes(code, "big") if code else 70)
"""


def argv(address: Path, fresh: Sequence[str]) -> list[str]:
    """What to start in the place of `fresh`, which starts dbt_child.py: python -P dbt_child.py ARGUMENTS."""
    assert fresh[1] == "-P"
    return [sys.executable, "-I", "-S", "-c", CLIENT, str(address), *fresh[3:]]


def start(address: Path, parsed: Path) -> subprocess.Popen[bytes]:
    """The server, once it answers; `parsed` is the project whose macros it holds compiled."""
    server = subprocess.Popen(
        [sys.executable, "-P", str(SERVER), str(os.getpid()), str(address), str(parsed)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"
    return server


def calls(address: Path) -> list[int]:
    """Processes that the server has forked and that run."""
    parents = {}
    for process in psutil.process_iter(["cmdline", "ppid"]):  # of one that has ended there is no command line
        if {str(SERVER), str(address)} <= set(process.info["cmdline"] or ()):
            parents[process.pid] = process.info["ppid"]
    return [pid for pid, parent in parents.items() if parent in parents]


def _serve(parent: int, address: str, parsed: str) -> None:
    """One thread alone: what is forked must hold no lock of another one."""
    child = _dbt_child()
    child.die_with_parent(parent)
    from dbt.cli.main import cli
    from dbt_common.clients.jinja import template_cache

    assert cli
    manifest = child.parsed_for(Path(parsed).read_bytes(), ())
    for node in {type(node): node for node in manifest.nodes.values()}.values():
        node.to_dict()  # the code of which mashumaro writes at the first call
    for macro in manifest.macros.values():
        template_cache.get_node_template(macro)
    del manifest
    gc.collect()
    gc.freeze()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    os.write(1, b"ready\n")
    server = os.getpid()
    while True:
        client, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            child.die_with_parent(server)
            _answer(client, child)
        client.close()
        while _reaped():
            pass


def _reaped() -> bool:
    """Whether one that has answered was taken off the list of processes."""
    try:
        return os.waitpid(-1, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return False


def _answer(client: socket.socket, child: ModuleType) -> None:
    """Fork dbt for this client and tell how it ended; without a client it ends too. Returns in dbt alone."""
    length, outputs, _, _ = socket.recv_fds(client, 8, 2)
    with client.makefile("rb") as stream:
        call = json.loads(stream.read(int.from_bytes(length, "big")))
    waiting = os.getpid()
    dbt = os.fork()
    if dbt == 0:
        client.close()
        for output, standard in zip(outputs, (1, 2), strict=True):
            os.dup2(output, standard)
            os.close(output)
        os.environ.clear()
        os.environ.update(call["environment"])
        os.chdir(call["directory"])
        sys.argv = [str(child.__file__), str(waiting), *call["argv"][1:]]
        child.main()
        sys.exit()
    for output in outputs:
        os.close(output)
    ended = os.pidfd_open(dbt)
    ready, _, _ = select.select([client, ended], [], [])
    if ended not in ready:
        os.kill(dbt, signal.SIGKILL)
    _, status = os.waitpid(dbt, 0)
    code = os.waitstatus_to_exitcode(status)
    if ended in ready:
        client.sendall((code & 0xFF).to_bytes(4, "big"))
    os._exit(0)


def _dbt_child() -> ModuleType:
    path = SERVER.parents[1] / "bilten_orchestration" / "metrics" / "dbt_child.py"
    spec = importlib.util.spec_from_file_location("dbt_child", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    _serve(int(sys.argv[1]), sys.argv[2], sys.argv[3])
