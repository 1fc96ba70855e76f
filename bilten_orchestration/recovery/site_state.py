"""How far a recovery of a site has come: a file in the state directory, replaced in one step."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from bilten_orchestration.errors import Mismatch
from bilten_orchestration.settings import Settings


@dataclass(frozen=True, slots=True)
class SiteState:
    """`id` becomes the epoch of the sync; `backups` are chosen once, by store, so that a run that goes on
    restores nothing else; `done` are phases that came to their good end. `reached_at` is the last commit that
    PostgreSQL came back with (UTC), None while that is not known."""

    id: str
    begun_at: str
    bucket: str
    lost: tuple[str, ...]
    backups: dict[str, str]
    done: tuple[str, ...] = ()
    reached_at: str | None = None


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


def begin(settings: Settings, bucket: str, lost: tuple[str, ...], backups: dict[str, str]) -> SiteState:
    state = SiteState(str(uuid4()), datetime.now(UTC).isoformat(), bucket, lost, backups)
    _write(settings, state)
    return state


def advance(settings: Settings, state: SiteState, phase: str) -> SiteState:
    new = replace(state, done=(*state.done, phase))
    _write(settings, new)
    return new


def reached(settings: Settings, state: SiteState, at: datetime | None) -> SiteState:
    new = replace(state, reached_at=None if at is None else at.astimezone(UTC).isoformat())
    _write(settings, new)
    return new


def undone(settings: Settings, state: SiteState, phase: str) -> SiteState:
    """What it brought back is gone again."""
    new = replace(state, done=tuple(each for each in state.done if each != phase))
    _write(settings, new)
    return new


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
