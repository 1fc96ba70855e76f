"""A wire before a real object store, which has bad days at will: away, failing, full, slow, lying.

Requests and answers pass as they are but for one header: a connection carries one request, so that every
request is looked at. SigV4 does not sign `Connection`.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from bilten_orchestration.local import ports
from bilten_orchestration.settings import ObjectStoreSettings

_WRITES = ("PUT", "POST")
_CHUNK = 65_536
_DRAIN_SECONDS = 2.0
_EMPTY = (
    '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult'
    ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bucket</Name><Prefix></Prefix>'
    "<KeyCount>0</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated></ListBucketResult>"
)


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]

    @property
    def lists(self) -> bool:
        return self.method == "GET" and "list-type=2" in self.path

    @property
    def writes_content(self) -> bool:
        """An object of a backup or a part of one; none of the catalogue."""
        return self.method == "PUT" and "/objects/" in self.path

    @property
    def completes(self) -> bool:
        """The last step of an upload in parts."""
        return self.method == "POST" and "uploadId=" in self.path


def every(request: Request) -> bool:
    return True


@dataclass
class _Trouble:
    """What is wrong at present. A count of None has no end."""

    answer: tuple[int, str, str] | None = None
    answered: Callable[[Request], bool] = every
    answers_left: int | None = None
    bytes_per_second: int | None = None
    cut_after: int = 0
    cuts_left: int = 0
    flip_after: int | None = None
    lost: Callable[[Request], bool] = every
    losses_left: int = 0


@dataclass
class _Once:
    which: Callable[[Request], bool]
    then: Callable[[], object]
    left: int


@dataclass
class TroubledStore:
    """`settings` lead through it; `requests` came in so far, `flipped` bytes were changed."""

    behind: ObjectStoreSettings
    requests: int = 0
    flipped: int = 0
    _now: _Trouble = field(default_factory=_Trouble)
    _guard: threading.Lock = field(default_factory=threading.Lock)
    _free_at: float = 0.0
    _open: set[socket.socket] = field(default_factory=set)
    _once: _Once | None = None
    _listener: socket.socket | None = None
    port: int = 0

    def __post_init__(self) -> None:
        target = urlsplit(str(self.behind.endpoint_url))
        self._target = (target.hostname or ports.LOOPBACK, target.port or 80)
        self.back()

    @property
    def address(self) -> str:
        return f"http://{ports.LOOPBACK}:{self.port}"

    @property
    def settings(self) -> ObjectStoreSettings:
        return self.behind.model_copy(update={"endpoint_url": self.address})

    @property
    def cuts_left(self) -> int:
        return self._now.cuts_left

    @property
    def losses_left(self) -> int:
        return self._now.losses_left

    def well(self) -> None:
        """As if nothing stood here."""
        self._now, self._once = _Trouble(), None
        self.back()

    def away(self) -> None:
        """Connections are refused, and those that are open break."""
        listener, self._listener = self._listener, None
        if listener is not None:
            # a thread that waits in accept() holds the port until it is woken
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        with self._guard:
            broken = list(self._open)
        for each in broken:
            _break(each)

    def back(self) -> None:
        """On the same port as before."""
        if self._listener is not None:
            return
        self._listener = listener = socket.create_server((ports.LOOPBACK, self.port), backlog=128)
        self.port = listener.getsockname()[1]
        threading.Thread(target=self._serve, args=(listener,), daemon=True).start()

    def once(self, which: Callable[[Request], bool], then: Callable[[], object], *, number: int = 1) -> None:
        """Do something before the `number`th of those requests is looked at."""
        self._once = _Once(which, then, number)

    def fails(self, times: int | None = None, *, status: int = 503, code: str = "SlowDown") -> None:
        """The next requests, or all."""
        self._now = _Trouble(answer=(status, code, "Please reduce your request rate."), answers_left=times)

    def full(self, *, status: int = 507, code: str = "XMinioStorageFull") -> None:
        """It takes nothing more, and gives what it has."""
        self._now = _Trouble(
            answer=(status, code, "Storage backend has reached its minimum free drive threshold."),
            answered=lambda request: request.method in _WRITES,
        )

    def slow(self, bytes_per_second: int) -> None:
        """Both ways and all connections together."""
        self._now = _Trouble(bytes_per_second=bytes_per_second)

    def lists_nothing(self) -> None:
        self._now = _Trouble(answer=(200, "", _EMPTY), answered=lambda request: request.lists)

    def cuts(self, after: int, times: int) -> None:
        """Answers end after so many bytes."""
        self._now = _Trouble(cut_after=after, cuts_left=times)

    def flips(self, after: int) -> None:
        """One byte of the first request of more than so many bytes."""
        self._now = _Trouble(flip_after=after)

    def loses(self, which: Callable[[Request], bool], times: int = 1) -> None:
        """It does what it is asked, and the answer never comes."""
        self._now = _Trouble(lost=which, losses_left=times)

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._one, args=(client,), daemon=True).start()

    def _one(self, client: socket.socket) -> None:
        with self._guard:
            self._open.add(client)
            self.requests += 1
        try:
            with contextlib.suppress(OSError):
                self._pass(client)
        finally:
            with self._guard:
                self._open.discard(client)
            client.close()

    def _pass(self, client: socket.socket) -> None:
        head, rest = _head(client)
        if head is None:
            return
        request = _request(head)
        self._look(request)
        answer = self._answer_to(request)
        if answer is not None:
            _refuse(client, request, len(rest), *answer)
            return
        with socket.create_connection(self._target) as server:
            with self._guard:
                self._open.add(server)
            up = threading.Thread(target=self._up, args=(client, server, _closing(head) + rest), daemon=True)
            up.start()
            try:
                self._down(server, client, request)
            finally:
                _break(server)
                _break(client)
                up.join()
                with self._guard:
                    self._open.discard(server)

    def _look(self, request: Request) -> None:
        with self._guard:
            once = self._once
            if once is None or not once.which(request):
                return
            once.left -= 1
            if once.left > 0:
                return
            self._once = None
        once.then()

    def _answer_to(self, request: Request) -> tuple[int, str, str] | None:
        with self._guard:
            now = self._now
            if now.answer is None or not now.answered(request) or now.answers_left == 0:
                return None
            if now.answers_left is not None:
                now.answers_left -= 1
            return now.answer

    def _up(self, client: socket.socket, server: socket.socket, first: bytes) -> None:
        passed, chunk = 0, first
        with contextlib.suppress(OSError):
            while True:
                passed += len(chunk)
                with self._guard:
                    flip = self._now.flip_after is not None and passed > self._now.flip_after
                    if flip:
                        self._now.flip_after = None
                        self.flipped += 1
                if flip:
                    chunk = chunk[:-1] + bytes([chunk[-1] ^ 1])
                self._wait_for(len(chunk))
                server.sendall(chunk)
                if not (chunk := client.recv(_CHUNK)):
                    return

    def _down(self, server: socket.socket, client: socket.socket, request: Request) -> None:
        passed, lost = 0, False
        while chunk := server.recv(_CHUNK):
            if passed == 0 and not chunk.startswith(b"HTTP/1.1 100"):
                with self._guard:
                    lost = self._now.losses_left > 0 and self._now.lost(request)
                    self._now.losses_left -= lost
            if lost:
                continue
            self._wait_for(len(chunk))
            with self._guard:
                end = self._now.cut_after if self._now.cuts_left else None
                cut = end is not None and passed + len(chunk) >= end
                if cut and end is not None:
                    self._now.cuts_left -= 1
                    chunk = chunk[: end - passed]
            client.sendall(chunk)
            passed += len(chunk)
            if cut:
                return

    def _wait_for(self, size: int) -> None:
        with self._guard:
            rate = self._now.bytes_per_second
            if rate is None:
                return
            self._free_at = max(self._free_at, time.monotonic()) + size / rate
            at = self._free_at
        time.sleep(max(0.0, at - time.monotonic()))


@contextlib.contextmanager
def before(store: ObjectStoreSettings) -> Iterator[TroubledStore]:
    """One before that store, gone with the block."""
    troubled = TroubledStore(store)
    try:
        yield troubled
    finally:
        troubled.away()


def _head(client: socket.socket) -> tuple[bytes | None, bytes]:
    """The first lines of a request, and what came with them; None when none came."""
    got = b""
    while b"\r\n\r\n" not in got:
        chunk = client.recv(_CHUNK)
        if not chunk:
            return None, b""
        got += chunk
    head, _, rest = got.partition(b"\r\n\r\n")
    return head, rest


def _request(head: bytes) -> Request:
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ", 2)
    pairs = (line.partition(":") for line in lines)
    return Request(method, path, {name.strip().lower(): value.strip() for name, _, value in pairs})


def _closing(head: bytes) -> bytes:
    kept = re.sub(rb"(?i)\r\nconnection:[^\r\n]*", b"", head)
    return kept + b"\r\nConnection: close\r\n\r\n"


def _refuse(client: socket.socket, request: Request, read: int, status: int, code: str, text: str) -> None:
    waits = "expect" in request.headers
    left = 0 if waits else int(request.headers.get("content-length", 0)) - read
    while left > 0 and (chunk := client.recv(min(_CHUNK, left))):
        left -= len(chunk)
    body = text if not code else f"<Error><Code>{code}</Code><Message>{text}</Message></Error>"
    sent = "" if request.method == "HEAD" else body
    client.sendall(
        f"HTTP/1.1 {status} Trouble\r\nContent-Type: application/xml\r\nConnection: close\r\n"
        f"Content-Length: {len(sent)}\r\n\r\n{sent}".encode()
    )
    # who closes while bytes come in sends a reset, which may overtake the answer
    client.shutdown(socket.SHUT_WR)
    client.settimeout(_DRAIN_SECONDS)
    while client.recv(_CHUNK):
        pass


def _break(each: socket.socket) -> None:
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
