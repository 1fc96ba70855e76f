"""A proxy before ClickHouse that kills a client around the statement of choice."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

Moment = Literal["before", "after"]


class Killer:
    """Sends SIGKILL to `victim` before or after the nth statement that matches has run."""

    def __init__(self, pattern: str, moment: Moment, number: int = 1) -> None:
        self.pattern = re.compile(pattern, re.IGNORECASE | re.DOTALL)
        self.moment = moment
        self.number = number
        self.victim: subprocess.Popen[str] | None = None
        self.struck = threading.Event()
        self._seen = 0
        self._lock = threading.Lock()

    def is_due(self, statement: str) -> bool:
        with self._lock:
            self._seen += bool(self.pattern.search(statement))
            return (
                not self.struck.is_set()
                and self._seen == self.number
                and bool(self.pattern.search(statement))
            )

    def strike(self) -> None:
        assert self.victim is not None
        os.kill(self.victim.pid, signal.SIGKILL)
        self.struck.set()


@contextmanager
def intercepting(host: str, port: int, killer: Killer) -> Iterator[int]:
    """The port of the proxy."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None: ...

        def do_GET(self) -> None:
            self._forward(b"")

        def do_POST(self) -> None:
            self._forward(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

        def _forward(self, body: bytes) -> None:
            due = killer.is_due(body.decode(errors="replace"))
            if due and killer.moment == "before":
                return killer.strike()
            upstream = http.client.HTTPConnection(host, port, timeout=120)
            headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
            upstream.request(self.command, self.path, body or None, headers)
            answer = upstream.getresponse()
            content = answer.read()
            if due:
                return killer.strike()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in (
                    "transfer-encoding",
                    "content-length",
                    "connection",
                    "server",
                    "date",
                ):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            upstream.close()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
