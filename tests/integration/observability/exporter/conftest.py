from __future__ import annotations

from bilten_orchestration.observability.board import Source
from tests.integration.observability.queries.conftest import database, owner

__all__ = ("Series", "database", "owner", "series")

Series = dict[tuple[str, ...], float]


def series(source: Source) -> Series:
    """What one reading says, by name without `bilten_` and the values of the labels."""
    return {
        (sample.family.name.removeprefix("bilten_"), *sample.labels): sample.value
        for sample in source.read().samples
    }
