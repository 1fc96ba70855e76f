"""The endpoint's process: the data directory's lock, the socket, uvicorn, the order of their end."""

import fcntl
import logging
import logging.config
import os
import signal
import socket
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette

from bilten_orchestration.errors import LockHeld, StoreUnavailable
from bilten_orchestration.local.clickhouse.app import application
from bilten_orchestration.local.clickhouse.config import EndpointConfig
from bilten_orchestration.local.clickhouse.engine import Engine

log = logging.getLogger(__name__)


class _Noise(logging.Filter):
    """Cut answers are meant (a failed query in mid stream); uvicorn reports each as its own error."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "without completing response" not in record.getMessage()


def _locked(data_dir: Path) -> Any:
    """An open file that holds the directory's lock; it is gone with the process, however that ends."""
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = (data_dir / "endpoint.lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.seek(0)
        raise LockHeld(
            f"another endpoint runs on {data_dir}",
            expected="one process a data directory",
            found=f"pid {file.read().strip() or 'unknown'} holds {file.name}",
            next="stop that process, or give this one a directory of its own",
        ) from None
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def _listening(config: EndpointConfig) -> socket.socket:
    """Bound before the engine starts: a taken port is known at once and by name."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    # asyncio sets TCP_NODELAY only where the protocol is named; without it every answer takes 40 ms more
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((config.host, config.port))
    except OSError as error:
        raise StoreUnavailable(
            f"cannot listen on {config.host}:{config.port}: {error.strerror}",
            expected="a free port",
            next=f"see who holds it: ss -ltnp 'sport = :{config.port}'",
        ) from None
    return listener


class _Server(uvicorn.Server):
    """Ends queries before connections: uvicorn alone would cut them off without an answer."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        application = self.config.app
        if isinstance(application, Starlette) and hasattr(application.state, "endpoint"):
            await application.state.endpoint.drain()
        await super().shutdown(sockets)


def serve(config: EndpointConfig, logging_config: dict[str, Any]) -> int:
    """Run until SIGTERM or SIGINT."""
    logging.config.dictConfig(logging_config)
    logging.getLogger("uvicorn.error").addFilter(_Noise())
    lock = _locked(config.data_dir)
    listener = _listening(config)
    _report_leftovers(config)
    server = _Server(
        uvicorn.Config(
            application(config, lambda: Engine(config)),
            log_config=None,
            access_log=False,
            http="httptools",
            loop="asyncio",
            ws="none",
            server_header=False,
            timeout_keep_alive=30,
            # After the queries are ended; what is left then is a client that does not read its answer.
            timeout_graceful_shutdown=5,
            backlog=512,
        )
    )
    # uvicorn raises the signal again after a clean end, which would look like a death by signal.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    server.run(sockets=[listener])
    lock.close()
    return 0 if server.started else 1


def _report_leftovers(config: EndpointConfig) -> None:
    """What a crash left: said, not swallowed. The engine clears its own status file and temporary parts."""
    if (config.data_dir / "data" / "status").exists():
        log.warning(
            "the last run did not end cleanly; the engine recovers its tables from what was committed"
        )
