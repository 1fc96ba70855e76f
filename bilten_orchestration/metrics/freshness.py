"""Whether the newest closed day of each mart is published as final: a freshness policy would take any
partition for fresh, and one that was never built for unknown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Final

from bilten_orchestration.metrics import days as day_rules
from bilten_orchestration.metrics import verdicts
from bilten_orchestration.metrics.verdicts import MartDay
from bilten_orchestration.settings import CHECKOUT

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

    from bilten_orchestration.metrics.evidence import Newest

FINAL_TAKES: Final = timedelta(hours=2)
"""From 12:00 UTC, when a day is over everywhere, until its final build has ended."""
FINAL_CRON: Final = "0 13 * * *"
"""When a day that is over everywhere is built for good (UTC)."""
FINAL_GRACE: Final = timedelta(hours=1)
"""What that build may take before its day counts as late."""
_BUILD = "__build"


@dataclass(frozen=True, slots=True)
class Freshness:
    """`due` is the day that must be final; `state` what there is of it, None where it was never built.

    `batch` are the moments of the newest one: what a build of the day would read.
    """

    mart: str
    due: date
    state: MartDay | None
    batch: Newest

    @property
    def fresh(self) -> bool:
        return self.state is not None and self.state.is_final and self.state.verdict != "refused"

    @property
    def shown(self) -> str:
        if self.state is None:
            return "never built"
        return f"{self.state.verdict}, {'final' if self.state.is_final else 'provisional'}"

    @property
    def held_open(self) -> bool:
        """Whether no build makes the day final: in the newest batch a transaction of its time was open."""
        over = day_rules.over_at(self.due)
        return self.batch.settled_until < over <= self.batch.as_of

    @property
    def by_hand(self) -> str:
        build = f"bilten metrics build --from {self.due} --to {self.due}"
        if self.held_open:
            return (
                f"end the transaction that was open at {day_rules.over_at(self.due):%F %T} UTC, which"
                f" `bilten sync` names; bilten sync; {build}"
            )
        return build if self.batch.as_of >= day_rules.over_at(self.due) else f"bilten sync; {build}"


def judge(client: Client, marts: Sequence[str], now: datetime) -> list[Freshness]:
    """Of each of these marts, in their order."""
    from bilten_orchestration.metrics import evidence

    due = day_rules.newest_over(now - FINAL_TAKES)
    states = {state.mart: state for state in verdicts.mart_days(client, marts, days=[due])}
    batch = evidence.newest(client)
    return [Freshness(mart, due, states.get(mart), batch) for mart in marts]


@cache
def daily_marts() -> tuple[str, ...]:
    """Their names, from the files of the dbt project: for who has no manifest at hand."""
    marts = CHECKOUT / "dbt_project" / "models" / "marts"
    return tuple(sorted(file.stem.removesuffix(_BUILD) for file in marts.glob(f"*{_BUILD}.sql")))
