"""Not yet, missed, unknown: by when the platform was installed, and who knows it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bilten_orchestration.backups.plan import GRACE
from bilten_orchestration.errors import StoreUnavailable
from bilten_orchestration.observability import installed as module
from bilten_orchestration.observability.installed import Installation, Installed, after, whenever
from bilten_orchestration.settings import Settings

AT = datetime(2026, 11, 22, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("hours", "due"),
    [(0, "not_yet"), (16, "not_yet"), (17.9, "not_yet"), (18, "due"), (400, "due")],
)
def test_missed_once_the_first_schedule_has_passed_and_its_grace(hours: float, due: str) -> None:
    first = after("0 2 * * *", GRACE)  # at 2 in the next night, and two hours
    assert Installed(AT, AT).due(first, AT + hours * HOUR) == due


def test_where_nobody_says_when_it_is_unknown_until_it_would_have_been_due_all_the_same() -> None:
    unsaid = Installed(None, AT)
    assert unsaid.due(whenever(3600), AT + 0.5 * HOUR) == "unknown"
    assert unsaid.due(whenever(3600), AT + HOUR) == "due"
    # it has happened before, so it was there
    assert unsaid.seen([AT - 100 * HOUR, AT]).due(whenever(3600), AT) == "due"
    assert Installed(AT, AT).seen([AT - HOUR]).at == AT - HOUR
    assert Installed(AT, AT).seen([AT + HOUR]).at == AT


def test_it_is_asked_until_it_is_known_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[datetime | Exception | None] = [
        StoreUnavailable("away", expected="x", found="y", next="z"),
        None,
        AT,
    ]

    def asked(settings: Settings) -> datetime | None:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(module, "asked", asked)
    monkeypatch.setattr(module, "_ASK_SECONDS", -1.0)
    first = Installation(Settings(home=tmp_path), tmp_path)
    began = first().watched_since
    assert (first().at, len(answers)) == (None, 1)
    assert first() == first() == Installed(AT, began)
    assert answers == []
    assert Installation(Settings(home=tmp_path), tmp_path)() == Installed(AT, began)  # asks nobody


@pytest.mark.parametrize("text", ["", "{", "[]", '{"at": 3, "since": "yesterday"}', '{"at": null}'])
def test_a_damaged_file_is_begun_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(module, "asked", lambda settings: AT)
    (tmp_path / "installed.json").write_text(text)
    assert Installation(Settings(home=tmp_path), tmp_path)().at == AT
