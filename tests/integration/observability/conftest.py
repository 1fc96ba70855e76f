"""Fixtures of the watchdog: receivers on real sockets, and a watchdog whose sources are told what to say."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from bilten_orchestration.errors import Problem, StoreUnavailable
from bilten_orchestration.observability import watchdog
from bilten_orchestration.observability.board import Source
from bilten_orchestration.observability.finding import Finding, Promise, Reading
from bilten_orchestration.observability.history import Cell, Level
from bilten_orchestration.observability.owners import Owners
from bilten_orchestration.observability.watchdog import Watchdog
from bilten_orchestration.settings import AlertSettings, Settings
from tests.integration.observability.receivers import MailServer, Webhook, mail_server, webhook


@pytest.fixture
def mails() -> Iterator[MailServer]:
    with mail_server() as server:
        yield server


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with webhook() as server:
        yield server


@dataclass
class Told:
    """A source that says what the test wants; with `error` it cannot be read."""

    name: str = "told"
    interval_seconds: float = 0.05
    needs: tuple[str, ...] = ()
    findings: list[Finding] = field(default_factory=list)
    error: Problem | None = None
    promises: tuple[Promise, ...] = ()
    cells: tuple[Cell, ...] = ()
    levels: tuple[Level, ...] = ()

    def read(self) -> Reading:
        if self.error is not None:
            raise StoreUnavailable(self.error)
        return Reading(tuple(self.findings), self.promises, cells=self.cells, levels=self.levels)

    def overdue(self, began_at: datetime, now: datetime) -> Reading | None:
        return None


def trouble(key: str = "store/postgres", **given: Any) -> Finding:
    values: dict[str, Any] = {
        "kind": "store-down",
        "severity": "critical",
        "problem": Problem("PostgreSQL does not answer", "an answer", "none", "bilten status"),
        "lasting": True,
    }
    return Finding(key, **{**values, **given})


def alerting(home: Path, *receivers: str, **given: Any) -> Settings:
    """Settings whose stores have no address, and that tell these receivers at once."""
    values = {"open_after_seconds": 0, "recover_after_seconds": 0, **given}
    return Settings(
        home=home,
        environment="test",
        alerts=AlertSettings(receivers=SecretStr(" ".join(receivers)), **values),
    )


Watched = Callable[[Settings, Sequence[Source]], AbstractContextManager[Watchdog]]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Watched:
    """A watchdog that judges and sends ten times a second."""
    for name in ("JUDGE_SECONDS", "RECORD_SECONDS", "REMEMBER_SECONDS"):
        monkeypatch.setattr(watchdog, name, 0.1)
    monkeypatch.setattr("bilten_orchestration.observability.delivery.TICK_SECONDS", 0.1)

    @contextmanager
    def build(settings: Settings, sources: Sequence[Source]) -> Iterator[Watchdog]:
        def given(_: Settings, __: Owners) -> Sequence[Source]:
            return sources

        with watchdog.opened(settings, threading.Event(), sources=given) as found:
            found.start()
            yield found

    return build
