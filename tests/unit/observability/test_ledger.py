"""What the ledger keeps for PostgreSQL while others write beside."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from bilten_orchestration.errors import Problem
from bilten_orchestration.observability.incidents import Incident, Outcome
from bilten_orchestration.observability.ledger import Ledger, Post

NOON = datetime(2026, 11, 22, 12, 0, 0, 123457, tzinfo=UTC)
OPEN = Incident(
    id="0f8fad5b-d9cb-469f-a165-70867728950e",
    key="a",
    source="s",
    kind="run-failed",
    severity="warning",
    step=0,
    problem=Problem("a run failed"),
    owner="team:x",
    link="",
    since=NOON,
    first_seen_at=NOON,
    seen_at=NOON,
    opened_at=NOON,
)


def test_what_is_told_while_it_is_copied_is_copied_again(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.save(Outcome((OPEN,), (), ()), [Post(OPEN, "opened", "mail", NOON)], NOON)
    (copied,) = ledger.unrecorded(9)
    assert ledger.told_at(OPEN.id) is None
    # the copy lies in PostgreSQL by now, and the message goes out before that is noted
    ledger.sent(ledger.waiting("mail"), NOON + timedelta(seconds=1))
    ledger.recorded([(copied, None)])
    assert ledger.unrecorded(9) == [OPEN]
    told_at = ledger.told_at(OPEN.id)
    assert told_at == NOON + timedelta(seconds=1)
    ledger.recorded([(OPEN, told_at)])
    assert ledger.unrecorded(9) == []
    ledger.close()


def test_what_nobody_was_told_is_noted_as_it_is(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.save(Outcome((OPEN,), (), ()), [], NOON)
    ledger.recorded([(OPEN, None)])
    assert ledger.unrecorded(9) == []
    ledger.close()
