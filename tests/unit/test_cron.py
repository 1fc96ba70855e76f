"""Ticks as Dagster itself has them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from dagster._utils.schedules import cron_string_iterator

from bilten_orchestration import cron
from bilten_orchestration.backups.plan import PLANNED
from bilten_orchestration.drills.plan import CRONS
from bilten_orchestration.metrics.freshness import FINAL_CRON

SUNDAY = datetime(2026, 11, 22, 10, 7, 31, tzinfo=UTC)
EXPRESSIONS = sorted({each.cron for each in PLANNED} | {each for each, _ in CRONS.values()} | {FINAL_CRON})


@pytest.mark.parametrize("expression", [*EXPRESSIONS, "7,37 9-17/2 * * 1-5", "*/15 * * * 7"])
def test_ticks_are_those_of_dagster(expression: str) -> None:
    until = SUNDAY + timedelta(days=15)
    theirs = cron_string_iterator(SUNDAY.timestamp(), expression, "UTC")
    wanted = []
    for tick in theirs:
        if tick > until:
            break
        wanted.append(tick)
    assert list(cron.ticks(expression, SUNDAY, until)) == wanted
    assert cron.first_after(expression, SUNDAY) == wanted[0]


def test_a_tick_is_after_and_not_at() -> None:
    at = datetime(2026, 11, 22, 2, tzinfo=UTC)
    assert cron.first_after("0 2 * * *", at) == at + timedelta(days=1)
    assert list(cron.ticks("0 2 * * *", at - timedelta(minutes=1), at)) == [at]


@pytest.mark.parametrize("expression", ["0 2 1 * *", "0 2 * *", "61 * * * *", "0 2 * * MON", "@daily"])
def test_what_is_not_understood_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match=r"schedule of other|not within|invalid literal"):
        cron.first_after(expression, SUNDAY)
