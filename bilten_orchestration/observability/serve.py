"""The process of `bilten serve`: the watchdog and its HTTP face, until a signal ends it."""

from __future__ import annotations

import logging
import signal
import socket
import threading

from bilten_orchestration.errors import Refused
from bilten_orchestration.local import ports
from bilten_orchestration.observability import watchdog
from bilten_orchestration.progress import Progress
from bilten_orchestration.settings import ServeSettings, Settings

_CONNECTIONS = 64
_KEEP_ALIVE_SECONDS = 30
_LEAVE_SECONDS = 3


def serve(settings: Settings, *, progress: Progress) -> None:
    """Run until SIGTERM or SIGINT.

    Raises LockHeld when one is at work already, Refused when the port is taken, SettingsError.
    """
    import uvicorn

    from bilten_orchestration.observability.api import application

    stop = threading.Event()
    # uvicorn takes both over, and hands on to these what it got once it has come to its end
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with watchdog.opened(settings, stop, progress) as running, _bound(settings.serve) as listening:
        server = uvicorn.Server(
            uvicorn.Config(
                application(running),
                log_config=None,
                access_log=False,
                lifespan="off",
                limit_concurrency=_CONNECTIONS,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=_LEAVE_SECONDS,
                server_header=False,
            )
        )
        logging.getLogger("uvicorn").setLevel(logging.WARNING)
        running.start()
        progress(f"watching; http://{settings.serve.host}:{settings.serve.port}")
        server.run(sockets=[listening])


def _bound(serve: ServeSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in serve.host else socket.AF_INET
    found = socket.socket(family)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((serve.host, serve.port))
    except OSError as error:
        found.close()
        raise Refused(
            f"the watchdog cannot listen on {serve.host}:{serve.port}",
            expected="a free port of this machine",
            found=f"{error.strerror or error}: {ports.holder(serve.port)}",
            next="end that process, or set BILTEN_SERVE__PORT",
        ) from None
    return found
