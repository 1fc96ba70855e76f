"""Kill a process at an exact line of the code under test.

The work runs in a forked child that counts the lines it executes in the given modules and sends itself
SIGKILL before the n-th of them: no cleanup, no `finally`, no goodbye to any server.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Collection
from types import FrameType, ModuleType
from typing import Any


def killed_before_line(work: Callable[[], object], modules: Collection[ModuleType], number: int) -> bool:
    """Run `work` in a child; True when it was killed, False when it ended before its `number`-th line.

    A child that fails on its own raises AssertionError here: then the kill proves nothing.
    """
    files = {module.__file__ for module in modules}
    child = os.fork()
    if child == 0:
        try:
            sys.settrace(_tracer(files, number))
            work()
        except BaseException:  # noqa: BLE001 the parent tells it; nothing of pytest may run here
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0, "the child failed by itself; see its traceback on stderr"
    return False


def _tracer(files: Collection[str | None], number: int) -> Callable[[FrameType, str, Any], Any]:
    left = number

    def on_line(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal left
        if event == "line":
            left -= 1
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return on_line

    def on_call(frame: FrameType, event: str, argument: Any) -> Any:
        return on_line if frame.f_code.co_filename in files else None

    return on_call
