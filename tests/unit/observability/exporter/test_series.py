"""Families by the conventions of Prometheus, and what a reading may not say.

https://prometheus.io/docs/practices/naming/ and the rules of `promtool check metrics`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bilten_orchestration.errors import Problem, TerminalError
from bilten_orchestration.observability import exposition
from bilten_orchestration.observability.board import Entry
from bilten_orchestration.observability.exporter import listing, reference
from bilten_orchestration.observability.finding import Promise, Reading
from bilten_orchestration.observability.series import MOST_SAMPLES, Collected, Family, counter, gauge
from bilten_orchestration.observability.tally import Tally

ROOT = Path(__file__).parents[4]
FAMILIES = listing.families()
#: What is no base unit, or an abbreviation of one.
NO_UNITS = (
    "milliseconds|ms|microseconds|us|nanoseconds|minutes|hours|days|kilobytes|kb|megabytes|mb|kib|mib|gib|"
    "percent|pct|sec|secs|second|byte|millis"
)
PREFIXES = ("postgres", "clickhouse", "redis", "opensearch", "object_store", "dagster")


def wrong(family: Family) -> Iterable[str]:
    name = family.name
    words = name.split("_")
    if not re.fullmatch(r"bilten_[a-z][a-z0-9]*(_[a-z0-9]+)*", name):
        yield "a name of lower-case words"
    if set(words) & set(NO_UNITS.split("|")):
        yield "a base unit"
    if (words[-1] == "total") != (family.kind == "counter"):
        yield "_total for counters, and for them alone"
    if words[-1] in ("count", "sum", "bucket", "info", "created"):
        yield "no suffix of a histogram or an info metric"
    unit = words[-2] if family.kind == "counter" else words[-1]
    if {"seconds", "bytes"} & set(words) and unit not in ("seconds", "bytes"):
        yield "the unit at the end"
    if "timestamp" in words and not name.endswith("_timestamp_seconds"):
        yield "moments as _timestamp_seconds"
    if {"gauge", "counter", "by"} & set(words):
        yield "neither its type nor its labels in the name"
    for label in family.labels:
        # Prometheus has these itself, and would rename ours
        if not re.fullmatch(r"[a-z][a-z_]*", label) or label in ("le", "quantile", "job", "instance"):
            yield f"another label than {label}"
    if not 8 <= len(family.help) <= 110 or family.help[-1] in ".:" or not family.help[0].isupper():
        yield "help in a sentence without its end"


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_names_follow_the_conventions(family: Family) -> None:
    assert list(wrong(family)) == []


@pytest.mark.parametrize(
    "family",
    [
        gauge("bilten_x_total", "Total of x"),
        counter("bilten_x", "Times of x"),
        gauge("bilten_x_milliseconds", "Time of x"),
        gauge("bilten_seconds_of_x", "Time of x"),
        gauge("bilten_x_count", "Number of x"),
        gauge("bilten_X", "Number of x"),
        gauge("bilten_x_timestamp", "Moment of x"),
        gauge("bilten_x", "Number of x", "instance"),
        gauge("bilten_x_by_table", "Number of x"),
        gauge("bilten_x", "x"),
    ],
    ids=lambda family: family.name,
)
def test_that_lint_finds_what_is_wrong(family: Family) -> None:
    assert list(wrong(family)) != []


def test_each_family_is_declared_once() -> None:
    names = [family.name for family in FAMILIES]
    assert len(set(names)) == len(names) > 120
    for prefix in PREFIXES:
        assert sum(name.startswith(f"bilten_{prefix}_") for name in names) >= 5, prefix


def test_the_list_of_series_is_that_of_the_code() -> None:
    page = ROOT / "docs" / "metrics-of-the-platform.md"
    assert page.read_text("utf-8") == reference.render(), "make docs"


def test_a_series_that_is_told_twice_is_a_defect() -> None:
    family = gauge("bilten_x", "Number of x", "table")
    found = Collected()
    found.add(family, 1, "a")
    found.add(family, 2, "b")
    found.add(family, None, "a")
    with pytest.raises(TerminalError, match="measured twice"):
        found.add(family, 3, "a")
    with pytest.raises(TypeError, match="has the labels"):
        found.add(family, 3)
    assert [(sample.value, sample.labels) for sample in found.samples] == [(1.0, ("a",)), (2.0, ("b",))]


def test_a_family_without_end_is_refused() -> None:
    family = gauge("bilten_x", "Number of x", "table")
    found = Collected()
    for number in range(MOST_SAMPLES):
        found.add(family, 1, str(number))
    assert len(found.samples) == MOST_SAMPLES
    found.add(family, 1, "one more")
    with pytest.raises(TerminalError, match="too many series"):
        _ = found.samples


def _entry(**given: object) -> Entry:
    found = Collected()
    found.add(gauge("bilten_x", "Number of x"), 7)
    reading = Reading(samples=found.samples)
    entry = Entry("metrics/x", (), reading, datetime.now(UTC), 0.1, fresh=True)
    return replace(entry, **given)  # type: ignore[arg-type]


def test_samples_of_a_reading_that_failed_or_is_old_vanish() -> None:
    assert [sample.value for sample in exposition.of_servers([_entry()])] == [7]
    assert list(exposition.of_servers([_entry(fresh=False)])) == []
    assert list(exposition.of_servers([_entry(problem=Problem("away"))])) == []
    assert list(exposition.of_servers([_entry(reading=None)])) == []
    # one that is under way is as good as the last one
    assert len(list(exposition.of_servers([_entry(began_at=datetime.now(UTC))]))) == 1


def test_what_nobody_knows_counts_as_not_kept() -> None:
    tally = Tally()
    kept, missed, unknown = (Promise(name, state, 1, 2, "s") for name, state in
                             (("k", True), ("m", False), ("u", None)))  # fmt: skip
    early = Promise("e", None, None, 2, "s", not_due=True)  # of a new installation: no budget is used up
    entry = Entry("p", (), Reading(promises=(kept, missed, unknown, early)), datetime.now(UTC), fresh=True)
    for _ in range(3):
        tally.count([entry])
    tally.count([replace(entry, fresh=False)])  # kept then, and not known now
    tally.count([Entry("never read", ())])
    assert tally.counts == {"k": (4, 3), "m": (4, 0), "u": (4, 0)}
