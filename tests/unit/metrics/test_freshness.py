"""What to do about a newest closed day that is not final."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from bilten_orchestration.metrics import days as day_rules
from bilten_orchestration.metrics.evidence import Newest
from bilten_orchestration.metrics.freshness import Freshness

DAY = date(2026, 3, 10)
OVER = day_rules.over_at(DAY)
BUILD = "bilten metrics build --from 2026-03-10 --to 2026-03-10"
BEFORE = OVER - timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("as_of", "settled", "held", "first"),
    [
        (OVER, OVER, False, BUILD),
        (BEFORE, BEFORE, False, "bilten sync"),  # nothing was brought since, whatever is open
        (OVER, BEFORE, True, "end the transaction that was open at 2026-03-11 12:00:00 UTC"),
        (datetime(1970, 1, 1, tzinfo=UTC), datetime(1970, 1, 1, tzinfo=UTC), False, "bilten sync"),
    ],
)
def test_what_helps_depends_on_the_newest_batch(
    as_of: datetime, settled: datetime, held: bool, first: str
) -> None:
    found = Freshness("fct_event_sales_daily", DAY, None, Newest(as_of, settled))
    assert found.held_open == held
    assert found.by_hand.startswith(first)
    assert found.by_hand.endswith(BUILD)
