"""A way to a server that can be closed: open, hung (it takes connections and answers nothing), refused."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Literal

State = Literal["open", "hung", "refused"]


class Gate:
    """Listens on `port` and passes on to `upstream`, a port of this machine."""

    def __init__(self, upstream: int) -> None:
        self._upstream = upstream
        self._state: State = "open"
        self._guard = threading.Lock()
        self._open: list[socket.socket] = []
        self._server = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def turn(self, state: State) -> None:
        """What is connected is cut off when it refuses, and gets no answer any more when it hangs."""
        with self._guard:
            self._state = state
            if state == "refused":
                self._cut()

    def close(self) -> None:
        with self._guard:
            self._state = "refused"
            self._cut()
        self._server.close()

    def _cut(self) -> None:
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._open.clear()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            with self._guard:
                if self._state == "refused":
                    client.close()
                    continue
                try:
                    server = socket.create_connection(("127.0.0.1", self._upstream))
                except OSError:
                    client.close()
                    continue
                self._open += [client, server]
            for source, target in ((client, server), (server, client)):
                threading.Thread(target=self._pass, args=(source, target), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if self._state == "open":
                    target.sendall(data)
        if self._state != "hung":  # an end is an answer too
            with contextlib.suppress(OSError):
                target.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def gate(upstream: int) -> Iterator[Gate]:
    made = Gate(upstream)
    try:
        yield made
    finally:
        made.close()
