"""What a build tells: one report for the command line, the asset and the tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

from bilten_orchestration.errors import Problem
from bilten_orchestration.metrics import days as day_rules
from bilten_orchestration.metrics.verdicts import VERDICTS


@dataclass(frozen=True, slots=True)
class BuiltDay:
    """What became of one day of one mart.

    `rows` are those published now; `restated` counts cells that had been published with another value.
    """

    date: date
    mart: str
    verdict: str
    rows: int
    is_final: bool
    restated: int


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build did. `refusals` is empty when every day was published.

    Closed days stay provisional that were not over everywhere at `settled_until` (UTC): transactions that
    had begun by then had not all ended.

    `seconds` is wall time, `model_seconds` dbt's time per mart, `query_ids` the statement that swapped
    each mart; `still_dirty` are built days that stay dirty (refused, or reaching into days not built);
    `whole` tests that failed on dimensions and reports.
    """

    build_id: str
    batch: int
    as_of: datetime
    settled_until: datetime
    seconds: float
    resumed: bool
    days: tuple[BuiltDay, ...]
    refusals: tuple[Problem, ...]
    still_dirty: tuple[date, ...] = ()
    model_seconds: Mapping[str, float] = field(default_factory=dict)
    query_ids: Mapping[str, str] = field(default_factory=dict)
    whole: tuple[Problem, ...] = ()

    @property
    def problems(self) -> tuple[Problem, ...]:
        return self.refusals + self.whole

    @property
    def refused_days(self) -> tuple[date, ...]:
        return tuple(sorted({built.date for built in self.days if built.verdict == "refused"}))

    @property
    def unsettled_days(self) -> tuple[date, ...]:
        """Days that were over everywhere, and are published as provisional."""
        return tuple(
            sorted(
                {
                    built.date
                    for built in self.days
                    if built.verdict != "refused"
                    and not built.is_final
                    and day_rules.is_over(built.date, self.as_of)
                }
            )
        )

    def counts(self) -> dict[str, int]:
        """Mart days per verdict."""
        return {verdict: sum(built.verdict == verdict for built in self.days) for verdict in VERDICTS}
