"""From a finding to a mail server and a webhook, over real sockets."""

from __future__ import annotations

import re
import sqlite3
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from bilten_orchestration.errors import Problem
from bilten_orchestration.observability import listing
from bilten_orchestration.observability.delivery import Postman
from bilten_orchestration.observability.finding import KINDS, Finding
from bilten_orchestration.observability.ledger import Ledger, Message
from bilten_orchestration.observability.watchdog import Watchdog
from bilten_orchestration.settings import PostgresSettings, ServeSettings
from tests.integration.observability.conftest import Told, Watched, alerting, trouble
from tests.integration.observability.receivers import Mail, MailServer, Webhook
from tests.waiting import until

ALWAYS = datetime.fromtimestamp(0, UTC)


def judged_again(running: Watchdog) -> None:
    """Two judgements from now: the second began after this call."""
    for _ in range(2):
        before = running.judged_at
        until(lambda: running.judged_at != before, "judged again")  # noqa: B023 waited for at once


def test_one_message_when_it_opens_when_it_worsens_and_when_it_recovers(
    tmp_path: Path, mails: MailServer, hook: Webhook, quick: Watched
) -> None:
    source = Told(findings=[trouble(severity="warning", link="http://dagster/runs/1")])
    settings = alerting(tmp_path, mails.url, hook.url)
    with quick(settings, [source]) as running:
        until(lambda: len(mails.mails) == 1 and len(hook.posts) == 1, "it opened")
        judged_again(running)
        source.findings = [trouble(severity="critical")]
        until(lambda: len(mails.mails) == 2 and len(hook.posts) == 2, "it worsened")
        source.findings = [trouble(severity="warning")]  # better is no news
        judged_again(running)
        source.findings = []
        until(lambda: len(mails.mails) == 3 and len(hook.posts) == 3, "it recovered")
    assert [re.sub(r"^\[Bilten test\] ", "", subject) for subject in mails.subjects()] == [
        "WARNING PostgreSQL does not answer",
        "CRITICAL WORSE: PostgreSQL does not answer",
        "OK RECOVERED: PostgreSQL does not answer",
    ]
    assert [post["title"] for post in hook.posts] == mails.subjects()
    assert [post["type"] for post in hook.posts] == ["warning", "failure", "success"]
    body = mails.mails[0].body
    for line in (
        "expected: an answer",
        "found:    none",
        "next:     bilten status",
        "more:     docs/operations.md#store-down",
        "run:      http://dagster/runs/1",
        "owner:    team:data-platform",
    ):
        assert line in body, body
    assert re.search(r"since:    \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", body)


def test_every_kind_opens_worsens_and_recovers_by_mail_and_by_webhook(
    tmp_path: Path, mails: MailServer, hook: Webhook, quick: Watched
) -> None:
    def of(severity: str) -> list[Finding]:
        return [trouble(f"{kind}/x", kind=kind, severity=severity) for kind in KINDS]

    source, each = Told(findings=of("warning")), len(KINDS)
    with quick(alerting(tmp_path, mails.url, hook.url, burst=100), [source]):
        for told, findings in ((1, of("critical")), (2, []), (3, [])):
            count = told * each
            until(lambda: len(mails.mails) == len(hook.posts) == count, "all of them")  # noqa: B023
            source.findings = findings
    for number, said in enumerate(("WARNING", "CRITICAL WORSE:", "OK RECOVERED:")):
        part = slice(number * each, (number + 1) * each)
        titles = mails.subjects()[part]
        assert [post["title"] for post in hook.posts[part]] == titles
        assert {title.split("] ")[1].partition(" PostgreSQL")[0] for title in titles} == {said}
        found = {
            _key(mail): "docs/operations.md#" + _key(mail)[:-2] in mail.body for mail in mails.mails[part]
        }
        assert found == dict.fromkeys((f"{kind}/x" for kind in KINDS), number < 2)


def _key(mail: Mail) -> str:
    return mail.body.rpartition("incident: ")[2].split()[0]


def test_in_quiet_hours_only_what_is_critical_goes_out_and_the_rest_in_the_morning(
    tmp_path: Path, mails: MailServer, quick: Watched
) -> None:
    now = datetime.now(UTC)
    begin, end = now - timedelta(hours=2), now + timedelta(hours=2)
    settings = alerting(tmp_path, mails.url, quiet_hours=f"{begin:%H:%M}-{end:%H:%M}")
    findings = [trouble("a", severity="warning"), trouble("b"), trouble("c", severity="info")]
    with quick(settings, [Told(findings=findings)]) as running:
        until(lambda: mails.mails, "what is critical")
        (receiver,) = running.receivers
        until(lambda: "sent" in dict(_states(running)), "it is written")
        judged_again(running)
        assert _states(running) == [("sent", 1), ("waiting", 2)]
        morning = Postman(settings, running.ledger, receiver, threading.Event(), lambda text: None)
        morning.turn(end - timedelta(minutes=5))
        assert len(mails.mails) == 1
        morning.turn(end + timedelta(minutes=1))
        until(lambda: len(mails.mails) == 3, "the others")
    assert [_key(mail) for mail in mails.mails] == ["b", "a", "c"]


def _states(running: Watchdog) -> list[tuple[str, int]]:
    return sorted((state, count) for (_, state), count in running.ledger.counts().items())


def test_where_people_reach_the_watchdog_the_message_leads_to_its_section(
    tmp_path: Path, mails: MailServer, quick: Watched
) -> None:
    given = {"serve": ServeSettings(url="https://status.example.org/bilten/")}
    with quick(alerting(tmp_path, mails.url).model_copy(update=given), [Told(findings=[trouble()])]):
        until(lambda: mails.mails, "a mail")
    assert (
        "more:     https://status.example.org/bilten/runbook/operations.md#store-down" in mails.mails[0].body
    )


def test_a_flood_of_500_failures_is_one_summary_and_so_is_their_recovery(
    tmp_path: Path, mails: MailServer, quick: Watched
) -> None:
    source = Told(
        findings=[trouble(f"run/{number}", kind="run-failed", severity="warning") for number in range(500)]
    )
    with quick(alerting(tmp_path, mails.url, summary_seconds=10), [source]) as running:
        until(lambda: mails.mails, "a summary")
        source.findings = []
        until(lambda: not running.ledger.current(), "recovered")
        until(lambda: len(mails.mails) == 2, "their recovery")
    assert mails.subjects() == [
        "[Bilten test] WARNING 500 incidents: 500 opened",
        "[Bilten test] OK 500 incidents: 500 recovered",
    ]
    assert "and 480 more: 480 run-failed" in mails.mails[0].body


def test_owners_are_told_of_what_they_own_and_pagers_of_what_is_critical(
    tmp_path: Path, mails: MailServer, quick: Watched
) -> None:
    receivers = (
        mails.to("anybody@example.org"),
        "team:finance=" + mails.to("finance@example.org"),
        "critical=" + mails.to("pager@example.org"),
    )
    findings = [
        trouble("a", severity="warning", owner="team:finance"),
        trouble("b", severity="critical", owner="team:finance"),
        trouble("c", severity="warning", owner="team:data-platform"),
        trouble("d", severity="critical"),
    ]
    with quick(alerting(tmp_path, *receivers), [Told(findings=findings)]):
        until(lambda: len(mails.mails) >= 6, "all of them")
    told = {
        (mail.to[0].partition("@")[0], key)
        for mail in mails.mails
        if (key := mail.body.rpartition("incident: ")[2].split()[0])
    }
    assert told == {
        ("finance", "a"),
        ("finance", "b"),
        ("pager", "b"),
        ("anybody", "c"),
        ("anybody", "d"),
        ("pager", "d"),
    }
    assert len(mails.mails) == 6


def test_no_secret_is_in_a_message(tmp_path: Path, mails: MailServer, quick: Watched) -> None:
    settings = alerting(tmp_path, mails.url).model_copy(
        update={"postgres": PostgresSettings(password=SecretStr("correct-horse"))}
    )
    problem = Problem(
        "cannot connect with correct-horse",
        "postgresql://owner:hunter22@db/bilten",
        "password=battery-staple token: abcdef",
        "set it",
    )
    with quick(settings, [Told(findings=[trouble(problem=problem)])]):
        until(lambda: mails.mails, "a mail")
    whole = mails.mails[0].subject + mails.mails[0].body
    for secret in ("correct-horse", "hunter22", "battery-staple", "abcdef"):
        assert secret not in whole
    assert b"correct-horse" not in (tmp_path / "watchdog" / "watchdog.sqlite").read_bytes()


def test_a_delivery_that_fails_is_tried_again_and_visible(
    tmp_path: Path, mails: MailServer, hook: Webhook, quick: Watched
) -> None:
    mails.refusing = True
    settings = alerting(tmp_path, mails.url, hook.url)
    with quick(settings, [Told(findings=[trouble()])]) as running:
        until(lambda: hook.posts, "the other receiver has it")
        (late,) = until(lambda: running.ledger.undelivered(ALWAYS), "a failed try")
        assert late.attempts == 1 and late.state == "waiting" and late.error
        mails.refusing = False
        until(lambda: mails.mails, "it arrives")
        until(lambda: not running.ledger.undelivered(ALWAYS), "nothing is left")
    assert len(hook.posts) == 1
    assert len(mails.mails) == 1


def test_what_cannot_be_delivered_is_given_up_and_listed(
    tmp_path: Path, mails: MailServer, quick: Watched
) -> None:
    mails.refusing = True
    settings = alerting(tmp_path, mails.url, give_up_hours=1)
    with quick(settings, [Told(findings=[trouble()])]) as running:
        until(lambda: running.ledger.undelivered(ALWAYS), "a failed try")
        (receiver,) = running.receivers
        later = Postman(settings, running.ledger, receiver, threading.Event(), lambda text: None)
        later.turn(datetime.now(UTC) + timedelta(hours=2))
        (lost,) = running.ledger.undelivered(ALWAYS)
        assert lost.state == "failed"
    found = listing.alerts(settings, days=1)
    assert found.read_from == "disk"
    (undelivered,) = found.undelivered
    assert undelivered.given_up and undelivered.key == "store/postgres"
    assert [each.key for each in found.incidents] == ["store/postgres"]
    assert [problem.next for problem in found.problems] == ["bilten status", "bilten alerts test"]


def test_a_source_that_cannot_be_read_neither_opens_nor_recovers_anything(
    tmp_path: Path, mails: MailServer, quick: Watched
) -> None:
    source, other = Told(findings=[trouble()]), Told(name="other")
    with quick(alerting(tmp_path, mails.url), [source, other]) as running:
        until(lambda: mails.mails, "it opened")
        source.error = Problem("the store is away")
        until(lambda: running.entries()["told"].problem is not None, "unreadable")
        other.findings = [trouble("b")]
        until(lambda: len(mails.mails) == 2, "judged")
        assert set(running.ledger.current()) == {"store/postgres", "b"}
        source.error, source.findings = None, []
        until(lambda: len(mails.mails) == 3, "recovered")
    assert "RECOVERED" in mails.subjects()[2]


def test_the_test_message_says_which_receiver_does_not_take_it(
    tmp_path: Path, mails: MailServer, hook: Webhook
) -> None:
    hook.status = 500
    found = listing.try_receivers(alerting(tmp_path, mails.url, hook.url))
    assert [each.error is None for each in found.receivers] == [True, False]
    assert mails.subjects() == ["[Bilten test] TEST of alerts"]
    (problem,) = found.problems
    assert "2 (json)" in problem.what and problem.found


def test_what_was_sent_and_could_not_be_written_is_not_sent_again(
    tmp_path: Path, mails: MailServer, quick: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, failures = Ledger.sent, []

    def fails_twice(ledger: Ledger, messages: list[Message], now: datetime) -> None:
        if len(failures) < 2:
            failures.append(1)
            raise sqlite3.OperationalError("disk I/O error")
        whole(ledger, messages, now)

    monkeypatch.setattr(Ledger, "sent", fails_twice)
    source = Told(findings=[trouble("a")])
    with quick(alerting(tmp_path, mails.url), [source]) as running:
        until(lambda: list(running.ledger.counts().values()) == [1], "it is written at last")
        until(lambda: {state for _, state in running.ledger.counts()} == {"sent"}, "as sent")
        source.findings.append(trouble("b"))
        until(lambda: len(mails.mails) == 2, "the next one")
    assert len(failures) == 2
    assert [mail.body.rpartition("incident: ")[2].split()[0] for mail in mails.mails] == ["a", "b"]
