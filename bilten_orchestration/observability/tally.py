"""How often every promise was judged, and how often it was found to be kept.

The rates of these two are what multi-window burn rates are made of; unlike gauges they miss nothing between
two scrapes. Every judgement counts every promise once that could be due by now, and what nobody knows as not
kept. They begin again with the watchdog, which rate() takes for the restart that it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from bilten_orchestration.observability.board import Entry


class Tally:
    """Judgements of every promise since the start. One thread counts, others read."""

    def __init__(self) -> None:
        self._all: Counter[str] = Counter()
        self._kept: Counter[str] = Counter()

    def count(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            for promise in () if entry.reading is None else entry.reading.promises:
                if promise.not_due:
                    continue
                self._all[promise.name] += 1
                self._kept[promise.name] += bool(entry.fresh and promise.kept)

    @property
    def counts(self) -> dict[str, tuple[int, int]]:
        """By promise: judgements, and those that found it kept."""
        # a judgement may add one meanwhile: a copy is made at once, and kept ones first are never too many
        kept = dict(self._kept)
        return {name: (count, kept.get(name, 0)) for name, count in dict(self._all).items()}
