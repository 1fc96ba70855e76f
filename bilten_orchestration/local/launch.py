"""What supervisord starts: read one program's description, become its user, become the program.

Run as a script with the path of a JSON file that only the owner can read. So supervisord's own
configuration holds no secret and needs no quoting, and no Python runs as another user: the
privileges go between the fork and the exec. Standard library only; it starts in milliseconds.

A scratch server names its `parent`: it is killed when that ends, however it ends (Linux; elsewhere whoever
starts the next one ends it).
"""

import json
import os
import signal
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def main(path: str) -> None:
    with open(path) as file:
        program = json.load(file)
    die_with = _dying_with(program.get("parent"))
    os.umask(0o077)
    os.chdir(program["directory"])
    if program["user"] is not None:
        os.setgroups([])
        os.setgid(program["user"]["gid"])
        os.setuid(program["user"]["uid"])
    die_with()
    os.execve(program["argv"][0], program["argv"], program["environment"])  # noqa: S606


def _dying_with(parent: int | None) -> Callable[[], None]:
    """What is to be called after setuid, which would clear it; prepared before, when Python can be read."""
    if parent is None or sys.platform != "linux":
        return lambda: None
    import ctypes

    library = ctypes.CDLL(None)

    def die_with() -> None:
        if library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) or os.getppid() != parent:
            sys.exit("the process that started this one has ended")

    return die_with


if __name__ == "__main__":
    main(sys.argv[1])
