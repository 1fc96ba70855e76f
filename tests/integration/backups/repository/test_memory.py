"""Memory of a backup does not grow with its size."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bilten_orchestration.settings import Settings
from tests.conftest import Servers

PUT = """
import os, sys
from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.settings.loading import load_settings
noise = os.urandom(2 << 20)
def chunks():
    for at in range(48):
        yield noise[at * 1000 : at * 1000 + (1 << 20)]
objects = int(sys.argv[1])
with Opened.of(load_settings()) as opened:
    names = (f"objects/postgres/{objects}/{number:06}" for number in range(objects))
    opened.put_slices("a-backup", ((name, None, chunks()) for name in names))
# ru_maxrss would count what the process that started this one takes
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
MOST_KIB = 300 << 10  # what the platform promises of a backup's process


@pytest.mark.faults
def test_many_objects_take_no_more_than_few(
    servers: Servers, tmp_path: Path, environment: Callable[[Settings], dict[str, str]]
) -> None:
    settings = Settings(home=tmp_path, environment="test", object_store=servers.buckets())

    def peak(objects: int) -> int:
        found = subprocess.run(
            [sys.executable, "-c", PUT, str(objects)],
            env=environment(settings)
            | {"PYTHONPATH": str(Path(__file__).parents[4]), "BILTEN_HOME": str(tmp_path / str(objects))},
            capture_output=True,
            text=True,
            check=True,
            timeout=300,
        )
        return int(found.stdout)

    assert peak(2) < MOST_KIB
    assert peak(16) < MOST_KIB
