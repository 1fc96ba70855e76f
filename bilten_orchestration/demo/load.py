"""Loads the demo data: operational rows, then clickstream, cache and objects.

What a kill leaves behind
1. While the months of partitioned tables are made: some months, which the next run completes.
2. While the operational rows are loaded: nothing. Rows, late changes, validation and the record in
   system.demo_loads are one transaction, and so are the triggers switched off and on again.
3. After that: the record, with the parts still missing. The same command goes on there. The clickstream is
   sent in batches, each recorded after it was written; one sent again is the same to the byte, and the
   server drops it by the tokens that ingestion.clickstream makes of the content. Keys and objects are
   written again over themselves.

A database that holds events and no such record is not ours to fill: refused before anything is touched.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import date

from bilten_orchestration.demo import operational, record
from bilten_orchestration.demo.catalogue import catalogue
from bilten_orchestration.demo.parts import PARTS, WRITERS, Writer
from bilten_orchestration.demo.people import buyers
from bilten_orchestration.demo.plan import Plan
from bilten_orchestration.demo.record import Operational, Part
from bilten_orchestration.errors import UsageError
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from bilten_orchestration.stores.locks import LET_GO_SECONDS, advisory_lock
from bilten_orchestration.stores.postgres import Connection


@dataclass(frozen=True, slots=True)
class Phase:
    """One part of a load; `skipped` when an earlier run had done it."""

    name: str
    rows: int
    seconds: float
    skipped: bool = False


@dataclass(frozen=True, slots=True)
class LoadReport:
    """`rows` per table; `digest` is sha256 over every operational row sent, equal for equal plans."""

    seed: int
    scale: float
    today: date
    digest: str
    rows: dict[str, int]
    late_changes: dict[str, int]
    rules: dict[str, int]
    phases: tuple[Phase, ...]
    seconds: float = field(compare=False, default=0.0)


def load(
    settings: Settings,
    *,
    seed: int = 7,
    scale: float = 1.0,
    today: date | None = None,
    parts: Collection[str] = PARTS,
    progress: Progress = silent,
) -> LoadReport:
    """Fill an empty, migrated database, or finish a load that was killed.

    `today` is the UTC day that the data ends before; default: the current one, or that of the load to finish.
    `parts` are those wanted besides the operational rows; the others can follow later.
    Raises Refused (events that are not ours, another plan, production, no schema), LockHeld, Mismatch (a rule
    is broken; nothing is kept), StoreUnavailable (before anything is touched, for every store wanted).
    """
    if unknown := set(parts) - set(PARTS):
        raise UsageError(
            "unknown parts of a load", expected=", ".join(PARTS), found=", ".join(sorted(unknown))
        )
    started = time.monotonic()
    with ExitStack() as stack:
        connection = stack.enter_context(
            closing(postgres.connect(settings.postgres, application_name="bilten demo load", autocommit=True))
        )
        stack.enter_context(advisory_lock(connection, "demo", wait_seconds=LET_GO_SECONDS))
        admission = record.admit(settings, connection, seed, scale, today)
        reached = {name: admission.parts.get(name, Part()) for name in PARTS if name in parts}
        writers = {
            name: stack.enter_context(closing(WRITERS[name](settings)))
            for name, part in reached.items()
            if not part.done
        }
        done = admission.operational
        phases: list[Phase] = []
        if done is None or writers:
            bucket = settings.object_store.bucket_assets
            done, phases = _write(connection, admission.plan, done, reached, writers, bucket, progress)
        written = {phase.name for phase in phases}
        earlier = {"operational": Part(1, sum(done.rows.values()), done.seconds, done=True), **reached}
        phases += [Phase(n, p.rows, p.seconds, skipped=True) for n, p in earlier.items() if n not in written]
    return LoadReport(
        seed=admission.plan.seed,
        scale=admission.plan.scale,
        today=admission.plan.today,
        digest=done.digest,
        rows=done.rows,
        late_changes=done.late_changes,
        rules=done.rules,
        phases=tuple(phases),
        seconds=time.monotonic() - started,
    )


def _write(
    connection: Connection,
    plan: Plan,
    done: Operational | None,
    reached: Mapping[str, Part],
    writers: Mapping[str, Writer],
    bucket: str,
    progress: Progress,
) -> tuple[Operational, list[Phase]]:
    """What is missing, operational rows first; each batch is recorded as soon as its store has it."""
    offer = catalogue(plan)
    people = buyers(plan, offer)
    progress(f"planned: {len(offer.events.ids):,} events, {len(people.ids):,} buyers, up to {plan.today}")
    phases = []
    if done is None:
        done = operational.fill(connection, plan, offer, people, bucket, progress)
        phases.append(Phase("operational", sum(done.rows.values()), done.seconds))
    for name, writer in writers.items():
        part = reached[name]
        for part in writer.write(plan, offer, people, part):  # noqa: B020 (goes on from where it stood)
            record.mark(connection, name, part)
            progress(f"{name}: {part.rows:,} written, {part.seconds:.1f} s")
        phases.append(Phase(name, part.rows, part.seconds))
    return done, phases
