"""system.incidents: written when PostgreSQL is there, waited for on disk, taken over by another watchdog."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bilten_orchestration.local import ports
from bilten_orchestration.observability import listing, watchdog
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from tests.integration.observability.conftest import Told, Watched, alerting, trouble
from tests.integration.observability.receivers import MailServer
from tests.waiting import until


@pytest.fixture
def telling(settings: Settings, mails: MailServer, tmp_path: Path) -> Settings:
    return alerting(tmp_path / "home", mails.url).model_copy(update={"postgres": settings.postgres})


def rows(settings: Settings) -> dict[str, tuple[str, bool, bool]]:
    """By key: severity, whether it is resolved, whether somebody was told."""
    with postgres.connect(settings.postgres) as connection:
        found = connection.execute(
            "select incident_key, severity, resolved_at is not null, notified_at is not null"
            " from system.incidents order by opened_at"
        ).fetchall()
    return {key: (severity, resolved, told) for key, severity, resolved, told in found}


def test_incidents_are_kept_in_postgres(telling: Settings, mails: MailServer, quick: Watched) -> None:
    source = Told(findings=[trouble("a", severity="warning"), trouble("b")])
    with quick(telling, [source]):
        both = {"a": ("warning", False, True), "b": ("critical", False, True)}
        until(lambda: rows(telling) == both, "both are there, as told")
        source.findings = [trouble("a")]
        later = {"a": ("critical", False, True), "b": ("critical", True, True)}
        until(lambda: rows(telling) == later, "one got worse, one recovered")
    found = listing.alerts(telling, days=1)
    assert found.read_from == "postgres"
    assert [(each.key, each.resolved_at is None) for each in found.incidents] == [("a", True), ("b", False)]


def test_they_wait_on_disk_while_postgres_is_away(
    telling: Settings, mails: MailServer, quick: Watched
) -> None:
    away = telling.postgres.model_copy(update={"port": ports.any_free()})
    gone = telling.model_copy(update={"postgres": away})
    with quick(gone, [Told(findings=[trouble("a")])]):
        until(lambda: mails.mails, "people are told all the same")
    found = listing.alerts(gone, days=1)
    assert found.read_from == "disk" and [each.key for each in found.incidents] == ["a"]
    assert rows(telling) == {}
    with quick(telling, [Told(findings=[])]):  # it recovers meanwhile
        until(lambda: rows(telling) == {"a": ("critical", True, True)}, "PostgreSQL learns of it")
        until(lambda: len(mails.mails) == 2, "and people")


def test_a_watchdog_without_its_disk_tells_nobody_again(
    telling: Settings, mails: MailServer, quick: Watched
) -> None:
    source = Told(findings=[trouble("a")])
    with quick(telling, [source]):
        until(lambda: rows(telling) == {"a": ("critical", False, True)}, "it is told and recorded")
    shutil.rmtree(watchdog.directory(telling))
    with quick(telling, [source]) as running:
        until(lambda: running.alive and running.open, "it judged")
        source.findings = []
        until(lambda: rows(telling) == {"a": ("critical", True, True)}, "it recovered")
    assert [subject.split("] ")[1].split()[0] for subject in mails.subjects()] == ["CRITICAL", "OK"]


def test_of_two_watchdogs_the_later_has_the_incident(
    telling: Settings, mails: MailServer, quick: Watched, tmp_path: Path
) -> None:
    away = telling.postgres.model_copy(update={"port": ports.any_free()})
    other = telling.model_copy(update={"home": tmp_path / "other", "postgres": away})
    source = Told(findings=[trouble("a")])
    with quick(other, [source]):  # it could not see what is open
        until(lambda: len(mails.mails) == 1, "told")
    with quick(telling, [source]):
        until(lambda: rows(telling), "recorded")
    back = other.model_copy(update={"postgres": telling.postgres})
    with quick(back, [source]):
        until(lambda: _states(telling) == [True, False], "taken over")


def _states(settings: Settings) -> list[bool]:
    with postgres.connect(settings.postgres) as connection:
        found = connection.execute(
            "select resolved_at is not null from system.incidents order by resolved_at nulls last"
        ).fetchall()
    return [resolved for (resolved,) in found]
