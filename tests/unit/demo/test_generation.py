"""What is generated, before it reaches a server."""

from __future__ import annotations

import hashlib
import itertools
import os
import subprocess
import sys
import tracemalloc
from datetime import date

import numpy as np
import pytest

from bilten_orchestration.demo import cache, clicks, objects
from bilten_orchestration.demo.aftermath import aftermath
from bilten_orchestration.demo.catalogue import catalogue
from bilten_orchestration.demo.operational import generate
from bilten_orchestration.demo.people import buyers
from bilten_orchestration.demo.plan import EVENTS_PER_BLOCK, Plan, uuids
from bilten_orchestration.demo.rows import ticket_numbers
from bilten_orchestration.demo.sales import sales
from bilten_orchestration.settings import CHECKOUT

PLAN = Plan(7, 0.05, date(2026, 3, 30))
SMALL = Plan(7, 0.005, PLAN.today)


def digest(plan: Plan) -> str:
    offer = catalogue(plan)
    out = hashlib.sha256()
    for batch in generate(plan, offer, buyers(plan, offer)):
        out.update(batch.table.encode() + batch.data)
    return out.hexdigest()


def test_equal_plans_give_equal_bytes() -> None:
    assert digest(PLAN) == digest(Plan(7, 0.05, date(2026, 3, 30)))


def whole_digest(plan: Plan) -> str:
    """Of what goes into every store."""
    offer = catalogue(plan)
    people = buyers(plan, offer)
    out = hashlib.sha256(digest(plan).encode())
    for number, rows in clicks.batches(plan, offer, people):
        out.update(repr((number, rows.to_pylist())).encode())
    out.update(repr(list(cache.keys(plan, offer, people))).encode())
    out.update(repr(list(objects.assets(plan, offer))).encode())
    return out.hexdigest()


def test_equal_plans_give_equal_bytes_in_every_process() -> None:
    """Whatever its hashes, its time zone and its language."""

    def elsewhere(**environment: str) -> str:
        program = (
            "from tests.unit.demo.test_generation import SMALL, whole_digest; print(whole_digest(SMALL))"
        )
        child = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, **environment},
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert child.returncode == 0, child.stderr
        return child.stdout.strip()

    found = {
        elsewhere(PYTHONHASHSEED="1", TZ="Pacific/Apia", LC_ALL="C"),
        elsewhere(PYTHONHASHSEED="2", TZ="Pacific/Honolulu", LC_ALL="C.UTF-8"),
    }
    assert found == {whole_digest(SMALL)}


@pytest.mark.parametrize(
    "other", [Plan(8, 0.05, PLAN.today), Plan(7, 0.06, PLAN.today), Plan(7, 0.05, date(2026, 3, 29))]
)
def test_another_seed_scale_or_day_gives_other_bytes(other: Plan) -> None:
    assert digest(PLAN) != digest(other)


def test_a_block_can_be_generated_again_alone() -> None:
    plan = Plan(7, 0.2, PLAN.today)
    offer = catalogue(plan)
    people = buyers(plan, offer)
    everything = [sales(plan, offer, people, n, low, high) for n, (low, high) in enumerate(plan.blocks)]
    again = sales(plan, offer, people, 1, *plan.blocks[1])
    assert np.array_equal(again.payments.ids, everything[1].payments.ids)
    assert np.array_equal(again.items.amount, everything[1].items.amount)


def test_ids_are_version_4_and_never_the_same() -> None:
    ids = uuids(PLAN.stream("ids"), 50_000)
    assert set(ids[:, 6] >> 4) == {4}
    assert set(ids[:, 8] >> 6) == {2}
    assert len(np.unique(ids, axis=0)) == 50_000


def test_ticket_numbers_never_meet() -> None:
    numbers = [ticket_numbers(block, 30_000).tobytes() for block in range(4)]
    seen = {text[start : start + 12] for text in numbers for start in range(0, len(text), 12)}
    assert len(seen) == 120_000


def test_scale_1_has_the_promised_counts() -> None:
    plan = Plan(7, 1.0, PLAN.today)
    offer = catalogue(plan)
    assert (plan.organizations, plan.events, plan.payments) == (60, 1_500, 120_000)
    assert int(offer.events.payments.sum()) == 120_000
    people = buyers(plan, offer)
    tickets = 0
    for block, (low, high) in enumerate(plan.blocks):
        sold = sales(plan, offer, people, block, low, high)
        aftermath(plan, offer, people, sold)  # transfers are tickets of their own
        tickets += len(sold.tickets.event)
    assert tickets == pytest.approx(300_000, rel=0.03)
    per_organization = np.bincount(offer.organizers.organization[offer.organizers.organization >= 0])
    assert set(per_organization) == {1, 2, 3}
    assert clicks.batch_count(plan) * clicks.BLOCKS_PER_BATCH >= len(plan.blocks)


def test_memory_follows_the_block_and_not_the_scale() -> None:
    def peak(scale: float) -> int:
        plan = Plan(7, scale, PLAN.today)
        offer = catalogue(plan)
        people = buyers(plan, offer)
        tracemalloc.start()
        try:
            for _ in generate(plan, offer, people):
                pass
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    small, large = peak(0.2), peak(0.8)
    assert large < 1.5 * small, f"{small >> 20} MiB at scale 0.2, {large >> 20} MiB at 0.8"
    assert Plan(7, 0.2, PLAN.today).events >= EVENTS_PER_BLOCK * 3, "both have several blocks"


def test_files_are_small_images() -> None:
    offer = catalogue(PLAN)
    files = list(objects.assets(PLAN, offer))
    assert {file.content_type for file in files} == {"image/png", "image/svg+xml"}
    for file in itertools.islice(files, 3):
        assert file.body.startswith(b"\x89PNG\r\n")
    assert max(len(file.body) for file in files) < 4_096
