"""What the checks say of every table, from the stores as they are now; nothing is written."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from bilten_orchestration.errors import Problem
from bilten_orchestration.partitions import pruning
from bilten_orchestration.partitions.clickhouse.preview import preview as preview_months
from bilten_orchestration.partitions.declared import CLICKHOUSE, DECLARED
from bilten_orchestration.partitions.listing import list_partitions
from bilten_orchestration.partitions.postgres.preview import preview
from bilten_orchestration.partitions.postgres.reconcile import reconcile
from bilten_orchestration.partitions.standing import standing, too_few_ahead
from bilten_orchestration.settings import Settings


@dataclass(frozen=True, slots=True)
class Judgement:
    """`fails`: more than a warning. `numbers` are plotted."""

    problems: tuple[Problem, ...] = ()
    fails: bool = True
    numbers: dict[str, int] = field(default_factory=dict)


def judge(settings: Settings) -> dict[tuple[str, str], Judgement]:
    """By table and check. Raises StoreUnavailable: a store that is away is no evidence."""
    now = datetime.now(UTC)
    rows, _ = list_partitions(settings)
    pruned = pruning.judge(settings)
    found: dict[tuple[str, str], Judgement] = {}
    for table in DECLARED:
        stands = standing(table, rows, now)
        few = too_few_ahead(table, stands)
        found[table.name, "premake"] = (
            Judgement((few[0],), few[1], {"ahead": stands.ahead})
            if few
            else Judgement(numbers={"ahead": stands.ahead})
        )
        planned = preview(settings, tables=[table])
        waiting = sum(each.action not in ("create", "keep") for each in planned.actions)
        found[table.name, "retention"] = Judgement(planned.problems, numbers={"to_end": waiting})
        drift = reconcile(settings, [table], measure=False)
        found[table.name, "drift"] = Judgement(drift.problems)
    for table in CLICKHOUSE:
        months = preview_months(settings, table)
        rest = tuple(each for each in months.problems if each not in months.drift)
        found[table.name, "retention"] = Judgement(rest, numbers={"to_end": len(months.plan.changes)})
        found[table.name, "drift"] = Judgement(months.drift)
    for table in (*DECLARED, *CLICKHOUSE):
        mine = [each for each in pruned if each.pattern.table == table.name]
        lost = tuple(each.problem for each in mine if each.problem is not None)
        found[table.name, "pruning"] = Judgement(lost, numbers={"patterns": len(mine)})
    return found
