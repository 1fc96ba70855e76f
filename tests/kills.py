"""Kill a process at an exact line of the code under test, at a turn to a store, or when it tells of a step.

The work runs in a forked child that counts the lines it executes in the given modules, or what it sends
to stores, and sends itself SIGKILL before the n-th of them: no cleanup, no `finally`, no goodbye to any
server.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Collection
from types import FrameType, ModuleType
from typing import Any

from bilten_orchestration.progress import Progress


def killed_before_line(work: Callable[[], object], modules: Collection[ModuleType], number: int) -> bool:
    """Run `work` in a child; True when it was killed, False when it ended before its `number`-th line.

    A child that fails on its own raises AssertionError here: then the kill proves nothing.
    """
    files = {module.__file__ for module in modules}
    return _killed(work, lambda: sys.settrace(_tracer(files, number)))


def killed_at_store(work: Callable[[], object], number: int) -> bool:
    """The same at its `number`-th turn to a store: what lies between two turns leaves the same behind.

    A turn is a statement about to go to PostgreSQL, one about to go over HTTP, and one that was sent over
    HTTP whole but not answered yet: then the server goes on alone. What only reads is no turn.
    """
    return _killed(work, lambda: _count_turns(number))


#: A step that nobody tells of: for work that kills itself.
NEVER = r"(?!)"


def killed_when_told(work: Callable[[Progress], object], step: str = "", times: int = 1) -> list[str]:
    """The same when it tells of `step`, a pattern, for the n-th time; returns what it had told by then.

    A child that never does, or fails on its own, raises AssertionError here.
    """
    left = times
    with tempfile.TemporaryFile() as file:

        def tell(text: str) -> None:
            nonlocal left
            os.write(file.fileno(), f"{text}\n".encode())
            left -= re.search(step, text) is not None
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

        killed = _killed(lambda: work(tell), lambda: None)
        file.seek(0)
        told = file.read().decode().splitlines()
    assert killed, f"it told of {step!r} fewer than {times} times: {told}"
    return told


def _count_turns(number: int) -> None:
    import http.client

    import psycopg
    import urllib3

    left = number
    reading = threading.local()
    execute, urlopen = psycopg.Connection.execute, urllib3.HTTPConnectionPool.urlopen
    getresponse = http.client.HTTPConnection.getresponse

    def turn() -> None:
        nonlocal left
        left -= 1
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def executing(connection: Any, query: Any, *arguments: Any, **named: Any) -> Any:
        if not _only_reads(query if isinstance(query, str | bytes) else query.as_string(connection)):
            turn()
        return execute(connection, query, *arguments, **named)

    def opening(pool: Any, method: str, url: str, body: Any = None, *arguments: Any, **named: Any) -> Any:
        reading.now = _only_reads(body)
        if not reading.now:
            turn()
        return urlopen(pool, method, url, body, *arguments, **named)

    def answering(connection: Any, *arguments: Any, **named: Any) -> Any:
        if not reading.now:
            turn()
        return getresponse(connection, *arguments, **named)

    setattr(psycopg.Connection, "execute", executing)  # noqa: B010 a method of a class
    setattr(urllib3.HTTPConnectionPool, "urlopen", opening)  # noqa: B010
    setattr(http.client.HTTPConnection, "getresponse", answering)  # noqa: B010


def _only_reads(statement: object) -> bool:
    text = statement.decode(errors="replace") if isinstance(statement, bytes) else statement
    return isinstance(text, str) and text.lstrip().lower().startswith(("select", "set ", "begin", "commit"))


def _killed(work: Callable[[], object], prepare: Callable[[], object]) -> bool:
    child = os.fork()
    if child == 0:
        try:
            prepare()
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
