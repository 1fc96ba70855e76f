"""A fall against the drill before: digests that are equal prove a copy, also one of what was emptied."""

from __future__ import annotations

from collections.abc import Mapping

from bilten_orchestration.drills.report import Proof

_FEW = 100
_TOLD = 5


def fall(previous: Mapping[str, int], counts: Mapping[str, int], what: str, percent: int) -> Proof:
    """Warns when something lost so many percent of what the previous drill counted, or all of it: rows may go
    for a reason. `what` is counted; of less than a hundred only the loss of all is told."""
    fallen = [
        f"{name}: {before:,} {what}, now {counts.get(name, 0):,}"
        for name, before in sorted(previous.items())
        if (before >= _FEW and counts.get(name, 0) < before * (1 - percent / 100))
        or (before and not counts.get(name, 0))
    ]
    more = f" and {len(fallen) - _TOLD} more" if len(fallen) > _TOLD else ""
    return Proof(
        f"no fall of {what}",
        not fallen,
        f"nothing with {percent} % less than the drill before it counted"
        if previous
        else "no drill before it",
        f"{', '.join(fallen[:_TOLD])}{more}" if fallen else f"{sum(counts.values()):,} {what}",
        0.0,
        warns=True,
    )
