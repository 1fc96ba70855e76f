"""Receivers as there are outside: a mail server and a webhook, on real sockets."""

from __future__ import annotations

import email
import email.policy
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from bilten_orchestration.local import ports


@dataclass(frozen=True)
class Mail:
    subject: str
    body: str
    to: tuple[str, ...]


@dataclass
class MailServer:
    """`url` for apprise. `refusing`: answers 451 to every mail."""

    port: int
    mails: list[Mail] = field(default_factory=list)
    refused: int = 0
    refusing: bool = False

    @property
    def url(self) -> str:
        return self.to("oncall@example.org")

    def to(self, address: str) -> str:
        return f"mailto://127.0.0.1:{self.port}?from=bilten@example.org&to={address}&mode=insecure"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self.refusing:
            self.refused += 1
            return "451 not now"
        assert isinstance(envelope.content, bytes)
        found = email.message_from_bytes(envelope.content, policy=email.policy.default)
        body = found.get_body()
        assert body is not None
        self.mails.append(Mail(str(found["subject"]), body.get_content(), tuple(envelope.rcpt_tos)))
        return "250 OK"

    def subjects(self) -> list[str]:
        return [mail.subject for mail in self.mails]


@contextmanager
def mail_server() -> Iterator[MailServer]:
    server = MailServer(ports.any_free())
    controller = Controller(server, hostname="127.0.0.1", port=server.port)
    controller.start()
    try:
        yield server
    finally:
        controller.stop()


@dataclass
class Webhook:
    """`url` for apprise. `status` is what it answers; `taken` counts requests, also those refused."""

    port: int
    posts: list[dict[str, Any]] = field(default_factory=list)
    status: int = 200
    taken: int = 0
    hold: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"json://127.0.0.1:{self.port}/hook"


@contextmanager
def webhook() -> Iterator[Webhook]:
    found = Webhook(0)
    found.hold.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.taken += 1
            found.hold.wait()
            if found.status == 200:
                found.posts.append(json.loads(body))
            self.send_response(found.status)
            self.end_headers()

        def do_GET(self) -> None:
            found.taken += 1
            self.send_response(found.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield found
        finally:
            found.hold.set()
            server.shutdown()
            thread.join()
