"""kill -9 of a command of search when it tells of a step."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable

from bilten_orchestration.progress import Progress


def killed_at(work: Callable[[Progress], object], step: str, times: int = 1) -> None:
    """Run `work` in a child that kills itself when it tells of `step` for the n-th time."""
    told = 0

    def die(text: str) -> None:
        nonlocal told
        if re.search(step, text):
            told += 1
            if told >= times:
                os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        try:
            work(die)
        except BaseException:  # noqa: BLE001 nothing of pytest may run in the child
            import traceback

            traceback.print_exc()
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), f"it never said {step!r}"
    assert os.WTERMSIG(status) == signal.SIGKILL
