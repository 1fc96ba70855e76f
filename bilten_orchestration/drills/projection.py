"""How long it would take at production's size, from what a drill measured. No I/O.

    projected = fixed + production bytes / rate,   rate = restored bytes / seconds of phases that grow

Phases that grow with the data are taken to grow in proportion, at the rate of the drill; the others, and the
replay of WAL, which grows with the writes between two backups and not with the data, are taken as they were.
What is fixed inside a phase counts as growing, so a drill of little data measures a rate that is too low:
what is projected from it is a bound from above, often a far one, and is called so.
"""

from __future__ import annotations

from dataclasses import dataclass

from bilten_orchestration.drills.report import DrillReport

#: Phases whose seconds do not grow with the data.
FIXED = frozenset({"room", "choose", "find", "start", "replay", "first_query"})
#: Phases before the time to recover begins, and after its end.
ASIDE = frozenset({"point", "digests", "wal", "tail", "proof", "agree"})
#: With less restored, what is fixed inside the phases outweighs the rate.
MEASURABLE_BYTES = 256 << 20
_LEAST_SECONDS = 0.001


@dataclass(frozen=True, slots=True)
class Projection:
    """Seconds for `production_bytes`, of which `at_most` tells that they are no more than a bound; `formula`
    with its numbers, for people."""

    production_bytes: int
    restored_bytes: int
    fixed_seconds: float
    bytes_per_second: float
    seconds: float

    @property
    def at_most(self) -> bool:
        return self.restored_bytes < MEASURABLE_BYTES

    @property
    def formula(self) -> str:
        left = (
            f"{self.fixed_seconds:.1f} s fixed + {self.production_bytes / 1e9:,.1f} GB"
            f" / {self.bytes_per_second / 1e6:,.1f} MB/s"
        )
        if self.at_most:
            little = f"{self.restored_bytes / 1e6:,.1f} MB tell little of the rate"
            return f"{left} = at most {self.seconds:,.0f} s: {little}"
        return f"{left} = {self.seconds:,.0f} s"


def projection(report: DrillReport, production_bytes: int) -> Projection | None:
    """None for a drill that did not come to its first query, or restored nothing.

    What of the time to recover no phase accounts for is fixed.
    """
    if report.rto_seconds is None or report.restored_bytes <= 0:
        return None
    growing = sum(
        seconds for name, seconds in report.phases.items() if name not in FIXED and name not in ASIDE
    )
    growing = max(min(growing, report.rto_seconds), _LEAST_SECONDS)
    fixed = max(0.0, report.rto_seconds - growing)
    rate = report.restored_bytes / growing
    return Projection(production_bytes, report.restored_bytes, fixed, rate, fixed + production_bytes / rate)
