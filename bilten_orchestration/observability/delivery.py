"""Messages go to receivers: one thread for each, so that one that hangs holds up no other.

Delivery is tried again with growing pauses until it is given up; every failure stays visible, in
`bilten alerts list`, the health API and the metrics. See ledger.py for what a kill leaves.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from bilten_orchestration.observability import envelopes, messages
from bilten_orchestration.observability.ledger import Ledger, Message
from bilten_orchestration.observability.messages import Text
from bilten_orchestration.observability.receivers import Receiver
from bilten_orchestration.observability.secrecy import Secrecy
from bilten_orchestration.progress import Progress
from bilten_orchestration.settings import Settings

TICK_SECONDS: Final = 1.0
_FIRST_PAUSE: Final = timedelta(seconds=5)
_LONGEST_PAUSE: Final = timedelta(minutes=10)
_ERROR: Final = 500

Send = Callable[[Receiver, Text], str | None]


def send(receiver: Receiver, text: Text) -> str | None:
    """Hand a text to one receiver. None when it took it, else why not (which may hold secrets)."""
    from apprise import Apprise, LogCapture, NotifyFormat, NotifyType

    kind = {"info": NotifyType.INFO, "warning": NotifyType.WARNING, "critical": NotifyType.FAILURE}
    client = Apprise()
    client.add(receiver.url)
    logging.getLogger("apprise").propagate = False
    capture: Any = LogCapture
    with capture(level=logging.WARNING, fmt="%(message)s") as log:
        taken = client.notify(
            title=text.title,
            body=text.body,
            body_format=NotifyFormat.TEXT,
            notify_type=NotifyType.SUCCESS if text.recovered else kind[text.severity],
        )
        said = " ".join(log.getvalue().split())
    return None if taken else said[:_ERROR] or "it did not take the message, and did not say why"


class Postman(threading.Thread):
    """Serves one receiver until `stop`; `beat` is called with each turn."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        receiver: Receiver,
        stop: threading.Event,
        progress: Progress,
        *,
        deliver: Send = send,
    ) -> None:
        super().__init__(name=f"postman {receiver.name}", daemon=True)
        self._alerts, self._environment = settings.alerts, settings.environment
        # an address of this machine alone would lead nowhere from a phone
        url = settings.serve.url
        self._runbook = f"{url.rstrip('/')}/runbook/operations.md" if url else messages.RUNBOOK
        self._ledger, self.receiver, self._stop_asked = ledger, receiver, stop
        self._progress, self._deliver = progress, deliver
        self._secrecy = Secrecy(settings)
        self._unwritten: list[list[Message]] = []  # sent, and the ledger could not be told

    def run(self) -> None:
        self._ledger.interrupted(self.receiver.id)
        while not self._stop_asked.is_set():
            try:
                self.turn(datetime.now(UTC))
            except Exception as error:  # noqa: BLE001 a disk that is full now: the next turn may be luckier
                self._progress(f"alerts to {self.receiver.name}: {type(error).__name__}: {error}")
            self._stop_asked.wait(TICK_SECONDS)

    def turn(self, now: datetime) -> None:
        """Send what is due. A message that fails waits, and those behind it of other incidents go on."""
        while self._unwritten:  # else they would be sent again
            self._ledger.sent(self._unwritten[0], now)
            self._unwritten.pop(0)
        waiting = self._ledger.waiting(self.receiver.id)
        if not waiting:
            return
        window = timedelta(seconds=self._alerts.summary_seconds)
        sent = self._ledger.envelopes(self.receiver.id, now - window)
        for group in envelopes.due(waiting, sent, now=now, burst=self._alerts.burst, window=window):
            self._send(group, now)
            if self._stop_asked.is_set():
                return

    def _send(self, group: list[Message], now: datetime) -> None:
        self._ledger.sending(group, str(uuid.uuid4()))
        try:
            text = messages.text(group, self._environment, self._secrecy, runbook=self._runbook)
            failed = self._deliver(self.receiver, text)
        except Exception as error:  # noqa: BLE001 of whatever service: it is told, and tried again
            failed = f"{type(error).__name__}: {error}"
        if failed is None:
            self._unwritten.append(group)
            self._ledger.sent(group, datetime.now(UTC))
            self._unwritten.pop()
            return
        failed = self._secrecy.clean(failed)[:_ERROR]
        over = [
            each for each in group if now - each.created_at >= timedelta(hours=self._alerts.give_up_hours)
        ]
        if over:
            self._ledger.given_up(over, failed)
        if left := [each for each in group if each not in over]:
            attempts = max(each.attempts for each in left)
            pause = min(_FIRST_PAUSE * 2 ** min(attempts, 20), _LONGEST_PAUSE)
            self._ledger.put_back(left, failed, now + pause)
        self._progress(f"alerts to {self.receiver.name}: not delivered: {failed}")
