"""Which messages go out now, and what goes out as one; quiet hours; who is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from bilten_orchestration.errors import Problem, SettingsError
from bilten_orchestration.observability import quiet
from bilten_orchestration.observability.envelopes import due
from bilten_orchestration.observability.incidents import Incident
from bilten_orchestration.observability.ledger import Message
from bilten_orchestration.observability.messages import text
from bilten_orchestration.observability.receivers import receivers, route
from bilten_orchestration.observability.secrecy import Secrecy
from bilten_orchestration.settings import AlertSettings, PostgresSettings, Settings

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
WINDOW = timedelta(minutes=10)


def message(number: int, incident: str = "", **given: Any) -> Message:
    name = incident or f"i{number}"
    about = Incident(
        id=name,
        key=name,
        source="s",
        kind="run-failed",
        severity="warning",
        step=0,
        problem=Problem(f"problem {name}", next="mend it"),
        owner="team:x",
        link="",
        since=NOON,
        first_seen_at=NOON,
        seen_at=NOON,
        opened_at=NOON,
        resolved_at=NOON if given.get("event") == "recovered" else None,
    )
    values: dict[str, Any] = {
        "event": "opened",
        "receiver": "r",
        "severity": "warning",
        "created_at": NOON,
        "next_try_at": NOON,
        "state": "waiting",
        "attempts": 0,
        "repeated": False,
        "error": "",
        "sent_at": None,
    }
    return Message(id=number, incident=about, **{**values, **given})


def numbers(groups: list[list[Message]]) -> list[list[int]]:
    return [[each.id for each in group] for group in groups]


def go(waiting: list[Message], sent: list[tuple[datetime, int]] | None = None) -> list[list[int]]:
    return numbers(due(waiting, sent or [], now=NOON, burst=3, window=WINDOW))


def test_a_few_go_out_each_by_itself() -> None:
    assert go([message(1), message(2), message(3)]) == [[1], [2], [3]]


def test_many_go_out_as_one_at_once() -> None:
    assert go([message(n) for n in range(500)]) == [list(range(500))]


def test_what_trickles_in_is_summed_up_once_the_burst_is_used() -> None:
    sent = [(NOON - timedelta(minutes=1), 1)] * 3
    assert go([message(4)], sent) == [[4]]  # the first one over is the first summary
    summed = [*sent, (NOON - timedelta(minutes=1), 7)]
    assert go([message(5), message(6)], summed) == []
    old = [(NOON - timedelta(minutes=11), 1)] * 3 + [(NOON - timedelta(minutes=11), 7)]
    assert go([message(5), message(6)], old) == [[5], [6]]


def test_what_is_critical_waits_a_tenth_of_the_time() -> None:
    sent = [(NOON - timedelta(minutes=2), 1)] * 3 + [(NOON - timedelta(minutes=2), 7)]
    assert go([message(5)], sent) == []
    assert go([message(5), message(6, severity="critical")], sent) == [[5, 6]]
    assert go([message(6, severity="critical", event="recovered")], sent) == []


def test_nothing_recovers_before_it_opened() -> None:
    later = NOON + timedelta(seconds=5)
    held = [message(1, "a", next_try_at=later), message(2, "b"), message(3, "a", event="recovered")]
    assert go(held) == [[2]]


def test_what_waits_about_one_incident_goes_out_as_one() -> None:
    assert go([message(1, "a"), message(2, "b"), message(3, "a", event="recovered")]) == [[1, 3], [2]]
    found = text([message(1, "a"), message(3, "a", event="recovered")], "test", Secrecy(Settings()))
    assert found.title == "[Bilten test] OK RECOVERED: problem a"


def test_what_gets_critical_does_not_wait_for_the_morning() -> None:
    morning = NOON + timedelta(hours=8)
    quiet_one = message(1, "a", next_try_at=morning)
    worse = message(2, "a", event="worsened", severity="critical")
    assert go([quiet_one, worse]) == [[1, 2]]
    assert go([quiet_one, message(2, "a", event="worsened", next_try_at=morning)]) == []
    found = text([quiet_one, worse], "test", Secrecy(Settings()))
    assert found.title == "[Bilten test] CRITICAL WORSE: problem a"


def test_a_summary_says_each_incident_once_at_its_last_state() -> None:
    found = text(
        [
            message(1, "a"),
            message(2, "b", severity="critical"),
            message(3, "a", event="recovered"),
        ],
        "test",
        Secrecy(Settings()),
    )
    assert found.title == "[Bilten test] CRITICAL 2 incidents: 1 opened, 1 recovered"
    assert found.body.index("critical  problem b") < found.body.index("recovered problem a")
    assert found.body.count("problem a") == 1


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("2026-03-01T21:59", "2026-03-01T21:59"),
        ("2026-03-01T22:00", "2026-03-02T07:00"),
        ("2026-03-02T06:59", "2026-03-02T07:00"),
        ("2026-03-02T07:00", "2026-03-02T07:00"),
    ],
)
def test_quiet_hours_over_midnight(now: str, expected: str) -> None:
    settings = AlertSettings(quiet_hours="22:00-07:00")
    at = datetime.fromisoformat(now).replace(tzinfo=UTC)
    assert quiet.not_before("warning", at, settings) == datetime.fromisoformat(expected).replace(tzinfo=UTC)
    assert quiet.not_before("critical", at, settings) == at


def test_quiet_hours_are_by_the_wall_clock_also_when_it_changes() -> None:
    settings = AlertSettings(quiet_hours="22:00-07:00", quiet_timezone="Europe/Berlin")
    night = datetime(2026, 3, 28, 22, tzinfo=UTC)  # 23:00, and clocks go forward at 02:00
    assert quiet.not_before("info", night, settings) == datetime(2026, 3, 29, 5, tzinfo=UTC)


def _receivers(text: str) -> AlertSettings:
    return AlertSettings(receivers=SecretStr(text))


def test_receivers_are_read_and_named_without_their_secrets() -> None:
    found = receivers(
        _receivers("json://u:secret@a/x team:f,critical=json://b json://u:secret@a/x mailto://u:p@c.org?to=d")
    )
    assert [each.name for each in found] == ["1 (json)", "2 (json)", "4 (mailto)"]
    assert (found[1].owners, found[1].least) == (("team:f",), "critical")
    assert "secret" not in repr(found)


def test_every_wrong_receiver_is_told_without_its_secrets() -> None:
    with pytest.raises(SettingsError) as caught:
        receivers(_receivers("nothing://x:secret@y json://a slack://secret"))
    assert len(caught.value.problems) == 2
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "owner", "severity", "expected"),
    [
        ("json://a team:f=json://b", "team:f", "info", "b"),
        ("json://a team:f=json://b", "team:g", "info", "a"),
        ("json://a critical=json://p", "team:f", "critical", "ap"),
        ("json://a critical=json://p", "team:f", "warning", "a"),
        ("team:f=json://b critical=json://p", "team:f", "critical", "bp"),
        ("critical=json://p", "team:f", "info", "p"),  # nobody else is there
        ("team:f=json://b", "team:g", "info", "b"),
        ("team:f,critical=json://b json://a", "team:f", "info", "a"),
    ],
)
def test_a_message_always_reaches_somebody(given: str, owner: str, severity: Any, expected: str) -> None:
    found = route(receivers(_receivers(given)), owner, severity)
    assert sorted(each.url.rpartition("/")[2] for each in found) == sorted(expected)


def test_secrets_are_hidden_wherever_they_stand() -> None:
    secrecy = Secrecy(
        Settings(
            postgres=PostgresSettings(password=SecretStr("pa.ss+word")),
            alerts=_receivers("slack://T000/B000/XXXX"),
        )
    )
    for said in (
        "with pa.ss+word inside",
        "postgresql://me:other@host/db",
        "Authorization: Bearer abcdef12",
        "AWS_SECRET_ACCESS_KEY: 1234/5",
        "password='a b'",
        "slack://T000/B000/XXXX refused",
    ):
        clean = secrecy.clean(said)
        assert "***" in clean, said
        for secret in ("pa.ss+word", "me:other", "abcdef12", "1234/5", "a b", "B000"):
            assert secret not in clean
    assert secrecy.clean("password authentication failed") == "password authentication failed"
