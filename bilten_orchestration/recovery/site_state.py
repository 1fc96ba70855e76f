"""How far a recovery of a site has come: a file in the state directory, replaced in one step.

A call that goes on with it may name other options for what was not brought back yet: another bucket, another
backup, another moment, or fewer stores. What contradicts it is refused, all of it at once (`adjusted`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from bilten_orchestration.errors import Mismatch, Problem, Refused
from bilten_orchestration.settings import Settings

#: Its databases are ours to drop.
CLICKHOUSE_BEGUN = "clickhouse begun"


@dataclass(frozen=True, slots=True)
class SiteState:
    """`id` becomes the epoch of the sync; `backups` are what each store is brought back from, those that were
    `named` by the caller and the newest of the others; `until` is the moment that PostgreSQL is brought back
    to (None: all that is stored). `done` are phases that came to their good end. `reached_at` is the last
    commit that PostgreSQL came back with (UTC), None while that is not known."""

    id: str
    begun_at: str
    bucket: str
    lost: tuple[str, ...]
    backups: dict[str, str]
    done: tuple[str, ...] = ()
    reached_at: str | None = None
    named: Mapping[str, str] = field(default_factory=dict)
    until: str | None = None

    @property
    def left(self) -> tuple[str, ...]:
        """Stores that are not brought back yet."""
        return tuple(store for store in self.lost if store not in self.done)


def place(settings: Settings) -> Path:
    return settings.home / "recover-site.json"


def read(settings: Settings) -> SiteState | None:
    """None where none is under way. Raises Mismatch for a file that cannot be read."""
    try:
        found = json.loads(place(settings).read_text())
        return SiteState(**{**found, "lost": tuple(found["lost"]), "done": tuple(found["done"])})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError):
        raise Mismatch(
            f"{place(settings)} cannot be read",
            expected="how far a recovery has come",
            found="something else",
            next="look at it; without it a recovery begins anew, on empty directories",
        ) from None


def new(bucket: str, lost: tuple[str, ...], named: Mapping[str, str], until: str | None) -> SiteState:
    """Not written yet: until `chosen` is, there is none."""
    at = datetime.now(UTC).isoformat()
    return SiteState(str(uuid4()), at, bucket, lost, {}, named=dict(named), until=until)


def adjusted(
    state: SiteState,
    lost: Sequence[str] | None,
    bucket: str | None,
    named: Mapping[str, str],
    until: str | None,
) -> SiteState:
    """The state by what a call that goes on with it was told; None and nothing: as before.

    Raises Refused for what contradicts what was brought back already.
    """
    begun = {*state.done, *(("clickhouse",) if CLICKHOUSE_BEGUN in state.done else ())}
    kept = state.lost if lost is None else tuple(store for store in state.lost if store in lost)
    found: list[tuple[str, str, str]] = []
    if lost is not None:
        others = [store for store in lost if store not in state.lost]
        dropped = [store for store in state.lost if store in begun and store not in lost]
        found += [(f"{store} is none of its stores", ", ".join(state.lost), store) for store in others]
        found += [
            (f"{store} cannot be left out", "it is brought back already", "left out") for store in dropped
        ]
    for store, backup in named.items():
        if store in state.done and backup != state.backups.get(store):
            found.append((f"{store} is brought back already", f"from {state.backups.get(store)}", backup))
    if until is not None and until != state.until and "postgres" in state.done:
        found.append(("postgres is brought back already", f"up to {state.until or 'the end of WAL'}", until))
    if found:
        raise Refused(
            [
                Problem(
                    f"a recovery of this site is under way since {state.begun_at}, and {what}",
                    expected,
                    said,
                    "go on with it first: bilten recover site --execute, without these options",
                )
                for what, expected, said in found
            ]
        )
    return replace(
        state,
        lost=kept,
        bucket=bucket or state.bucket,
        named={**state.named, **named},
        until=until or state.until,
    )


def chosen(settings: Settings, state: SiteState, backups: Mapping[str, str]) -> SiteState:
    """What stores are brought back from."""
    new = replace(state, backups={**state.backups, **backups})
    _write(settings, new)
    return new


def advance(settings: Settings, state: SiteState, phase: str) -> SiteState:
    new = replace(state, done=(*state.done, phase))
    _write(settings, new)
    return new


def reached(settings: Settings, state: SiteState, at: datetime | None) -> SiteState:
    new = replace(state, reached_at=None if at is None else at.astimezone(UTC).isoformat())
    _write(settings, new)
    return new


def undone(state: SiteState, phase: str) -> SiteState:
    """What it brought back is gone again. Not written yet: until `chosen` is, it counts as done."""
    return replace(state, done=tuple(each for each in state.done if each != phase))


def forget(settings: Settings) -> None:
    place(settings).unlink(missing_ok=True)


def _write(settings: Settings, state: SiteState) -> None:
    file = place(settings)
    temporary = file.with_suffix(".new")
    with temporary.open("w") as out:
        json.dump(asdict(state), out)
        out.flush()
        os.fsync(out.fileno())
    temporary.replace(file)
