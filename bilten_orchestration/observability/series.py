"""What a series of /metrics is: a family that is declared once, and samples of it.

Families are constants of the modules that measure them (exporter/), so that the list of all series, the
dashboard and the rules can be checked against them. A family is bounded: whoever samples it names what may be
there at most (states, the largest tables), never one series per row of somebody's data.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final, Literal

from bilten_orchestration.errors import TerminalError

#: Samples of one family. A family that grows beyond it is a defect, and would cost whoever stores it.
MOST_SAMPLES: Final = 500


@dataclass(frozen=True, slots=True)
class Family:
    """`help` gives the meaning in a sentence without its end. Counters end in _total and may start again at
    0, which Prometheus takes for a restart."""

    name: str
    kind: Literal["gauge", "counter"]
    help: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sample:
    """`labels` are values, in the order of the family's."""

    family: Family
    value: float
    labels: tuple[str, ...] = ()


def gauge(name: str, help: str, *labels: str) -> Family:
    return Family(name, "gauge", help, labels)


def counter(name: str, help: str, *labels: str) -> Family:
    return Family(name, "counter", help, labels)


class Collected:
    """Samples of one reading, as they come. What is None has no sample: absence says that it is not known."""

    def __init__(self) -> None:
        self._found: dict[tuple[Family, tuple[str, ...]], float] = {}

    def add(self, family: Family, value: float | None, *labels: str) -> None:
        """Raises TerminalError for a series that is there already: one such would spoil a whole scrape."""
        if len(labels) != len(family.labels):
            raise TypeError(f"{family.name} has the labels {family.labels}, not {len(labels)}")
        if value is None:
            return
        if (family, labels) in self._found:
            raise TerminalError(
                f"{family.name} was measured twice for {labels}",
                expected="one value",
                found=f"{self._found[family, labels]:g} and {value:g}",
                next="this is a defect: bilten logs watchdog",
            )
        self._found[family, labels] = float(value)

    @property
    def samples(self) -> tuple[Sample, ...]:
        """Raises TerminalError when a family has more than MOST_SAMPLES."""
        for family, count in Counter(family for family, _ in self._found).items():
            if count > MOST_SAMPLES:
                raise TerminalError(
                    f"{family.name} has too many series",
                    expected=f"at most {MOST_SAMPLES}",
                    found=str(count),
                    next="lower BILTEN_SERVE__METRICS_TOP; else this is a defect",
                )
        return tuple(Sample(family, value, labels) for (family, labels), value in self._found.items())
