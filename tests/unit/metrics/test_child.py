"""dbt dies with whoever started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from bilten_orchestration.metrics import dbt_child
from tests.processes import runs
from tests.waiting import until

PARENT = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], str(os.getpid())], stdout=subprocess.PIPE)
child.stdout.readline()  # it has asked for our death
print(child.pid, flush=True)
sys.stdin.read()
"""
CHILD = f"""
import importlib.util, sys, time
spec = importlib.util.spec_from_file_location("dbt_child", {str(Path(dbt_child.__file__))!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
module.die_with_parent(int(sys.argv[1]))
print("ready", flush=True)
time.sleep(600)
"""


def test_a_killed_parent_takes_the_child_along() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    until(lambda: not runs(child), "the child outlived its parent", 20)
