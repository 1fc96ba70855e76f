"""Whose a process is, and how much memory it takes.

A pid alone proves nothing: numbers are used again. A process belongs to this stack when its own
environment says that supervisord started it for this state directory; the environment of a process
is fixed at its start and readable by its owner only.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

HOME_VARIABLE = "BILTEN_HOME"
PROGRAM_VARIABLE = "STACK_PROGRAM"  # not BILTEN_: those are settings, and unknown ones are refused


def of_stack(home: Path) -> Iterator[psutil.Process]:
    """Every process that this stack's programs are or have started, supervisord itself aside."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, OSError):
            environment = process.environ()
            if environment.get(HOME_VARIABLE) == str(home) and PROGRAM_VARIABLE in environment:
                yield process


def supervisors(configuration: Path) -> Iterator[psutil.Process]:
    """supervisord processes that run this very configuration file."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            words = process.cmdline()
            if "supervisor.supervisord" in words and str(configuration) in words:
                yield process


def end(processes: Iterable[psutil.Process], *, seconds: float) -> list[int]:
    """Ask them to end, then SIGKILL what is left after `seconds`. Returns the pids that were ended.

    Asking is SIGTERM, to a postmaster SIGINT (it would wait for open sessions otherwise).
    psutil.Process remembers when its process started and refuses to signal another one that got
    the same number.
    """
    targets = list(processes)
    for process in targets:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGINT if process.name() == "postgres" else signal.SIGTERM)
            process.send_signal(signal.SIGCONT)  # one that was stopped would not hear the other
    for process in wait_gone(targets, seconds=seconds):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    left = wait_gone(targets, seconds=10)
    if left:
        raise RuntimeError(f"processes that do not die: {[process.pid for process in left]}")
    return [process.pid for process in targets]


def wait_gone(processes: Iterable[psutil.Process], *, seconds: float) -> list[psutil.Process]:
    """Wait until they have ended; returns those that have not. A zombie has ended."""
    deadline = time.monotonic() + seconds
    left = list(processes)
    while left := [process for process in left if runs(process)]:
        if time.monotonic() >= deadline:
            break
        time.sleep(0.05)
    return left


def runs(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def memory_bytes(pid: int) -> int | None:
    """Memory of a process and all its descendants. None when the process is gone."""
    try:
        process = psutil.Process(pid)
        return sum(own_memory_bytes(member) for member in (process, *process.children(recursive=True)))
    except psutil.NoSuchProcess:
        return None


def stack_memory_bytes(configuration: Path) -> int:
    """Memory of the supervisord of this configuration and of all that it started."""
    return sum(memory_bytes(process.pid) or 0 for process in supervisors(configuration))


def own_memory_bytes(process: psutil.Process) -> int:
    """Shared pages divided among those who share them (PSS) where the system tells, otherwise resident
    size; 0 when the process is gone."""
    try:
        try:
            return int(process.memory_full_info().pss)
        except (AttributeError, psutil.AccessDenied):
            return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0
