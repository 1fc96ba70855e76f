"""Which days get fresh control totals when a run asks for them."""

from __future__ import annotations

from datetime import date

import pytest

from bilten_orchestration.errors import Refused
from bilten_orchestration.ingestion.assets import control_days
from bilten_orchestration.ingestion.sync import sync
from bilten_orchestration.settings import Settings

TODAY = date(2026, 3, 10)


@pytest.mark.parametrize(
    ("back", "count", "oldest"), [(0, 0, None), (2, 2, date(2026, 3, 8)), (36_500, 9, date(2026, 3, 1))]
)
def test_days_back_end_at_the_first_day_of_the_metrics(back: int, count: int, oldest: date | None) -> None:
    found = control_days(back, "2026-03-01", TODAY)
    assert len(found) == count
    assert min(found, default=None) == oldest
    assert TODAY not in found


def test_days_before_the_metrics_are_refused_before_any_store_is_asked() -> None:
    settings = Settings(metrics={"first_day": "2026-03-01"})  # no store has an address
    with pytest.raises(Refused, match="no metrics") as refused:
        sync(settings, control_days=[date(2026, 2, 27), date(2026, 3, 1), date(2026, 2, 28)])
    assert [problem.found for problem in refused.value.problems] == ["2 days, 2026-02-27 to 2026-02-28"]
