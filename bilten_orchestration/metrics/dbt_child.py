"""dbt, as a child that dies with the process that started it.

A killed build must not leave a dbt behind that goes on swapping after its locks are gone. So this is
what is started instead of the `dbt` script: it asks the kernel for SIGKILL at the death of its parent
(prctl, Linux; elsewhere a watching thread does the same within a second), then becomes dbt.

Nothing of the platform is imported here: the child holds dbt and its adapter, no more.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time

PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """`parent` is the pid of who started us; when it is gone already, leave at once."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:  # it died before the request was made
        os.kill(os.getpid(), signal.SIGKILL)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Arguments: the parent's pid, then dbt's own."""
    die_with_parent(int(sys.argv[1]))
    del sys.argv[1]
    sys.argv[0] = "dbt"
    from dbt.cli.main import cli

    cli()


if __name__ == "__main__":
    main()
