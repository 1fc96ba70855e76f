"""What the events index is: settings that stay, analysis, fields; and how a live index differs from it.

Here belongs what every document and every query rely on. How documents are made from rows is in documents.py,
what is set for the time of a load (refresh, replicas) in the rebuild.

A change of this file is recognised by `mapping_hash`, which each index carries in its _meta. The name of an
index carries the hash that it was made with: after an addition in place only _meta says the truth.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

ALIAS: Final = "events_index"
PREFIX: Final = "events-"
SHARDS: Final = 3
REFRESH_INTERVAL: Final = "1s"
# A tombstone keeps its version for so long; a build that takes longer could resurrect what was deleted
# during it, and is refused.
GC_DELETES_SECONDS: Final = 12 * 3600

ANALYZER: Final = "event_analyzer"
_KEYWORD: Final = {"type": "keyword"}
_STORED: Final = {"type": "keyword", "index": False}  # comes back, is not asked for
# offsets: a long text is highlighted without being analysed again, and has no limit then
_TEXT: Final = {"type": "text", "analyzer": ANALYZER, "index_options": "offsets"}
_NAME: Final = _TEXT | {"fields": {"keyword": _KEYWORD}}

ANALYSIS: Final[dict[str, Any]] = {
    "analyzer": {
        ANALYZER: {"type": "custom", "tokenizer": "standard", "filter": ["lowercase", "stop", "snowball"]}
    }
}

# No default is spelt out here: a live mapping does not echo them, and would differ from this one for ever.
FIELDS: Final[dict[str, Any]] = {
    "id": _KEYWORD,
    "title": _NAME,
    "description": _TEXT,
    "category": _KEYWORD,
    "tags": _KEYWORD,
    "status": _KEYWORD,
    "organizer_id": _KEYWORD,
    "organization_id": _KEYWORD,
    "organization_name": _NAME,
    "venue_id": _KEYWORD,
    "venue_name": _NAME,
    "location": {"properties": {"coordinates": {"type": "geo_point"}, "city": _KEYWORD, "country": _KEYWORD}},
    # instants in milliseconds, which is what a date holds
    "start_date": {"type": "date"},
    "end_date": {"type": "date"},
    # nested: a price and its currency belong together, and an event may be sold in several
    "price_range": {
        "type": "nested",
        "properties": {"min": {"type": "double"}, "max": {"type": "double"}, "currency": _KEYWORD},
    },
    # the following are outside the content hash: they change all day and mean nothing to the proof
    "availability": _KEYWORD,
    "popularity": {"type": "long"},
    "content_hash": _STORED,
    "indexed_at": {"type": "date"},
}
# What a document says about itself or about sales, and no row of PostgreSQL decides alone.
OUTSIDE_HASH: Final = frozenset({"availability", "popularity", "content_hash", "indexed_at"})
SEARCHABLE_STATUS: Final = "published"
SEARCHABLE_VISIBILITY: Final = "public"


class Step(StrEnum):
    """What makes a live index as it is wanted."""

    NOTHING = "nothing"
    ADD = "addition in place"
    REBUILD = "rebuild"


@dataclass(frozen=True, slots=True)
class Change:
    """One place where a live index differs; `live` or `wanted` is empty where it has nothing."""

    path: str
    live: str
    wanted: str
    step: Step

    def __str__(self) -> str:
        if not self.live:
            return f"+ {self.path}: {self.wanted}  ({self.step})"
        if not self.wanted:
            return f"- {self.path}: {self.live}  ({self.step})"
        return f"~ {self.path}: {self.live} -> {self.wanted}  ({self.step})"


@dataclass(frozen=True, slots=True)
class Difference:
    """How a live index differs from this definition, one line per place."""

    live_hash: str
    wanted_hash: str
    changes: tuple[Change, ...]

    @property
    def step(self) -> Step:
        steps = {change.step for change in self.changes}
        return next((step for step in (Step.REBUILD, Step.ADD) if step in steps), Step.NOTHING)

    @property
    def text(self) -> str:
        return "\n".join(map(str, self.changes)) or f"no difference (mapping {self.wanted_hash})"


def mapping_hash() -> str:
    """Of everything that decides how documents are stored: 12 hexadecimal digits."""
    return _hash({"shards": SHARDS, "analysis": ANALYSIS, "dynamic": "strict", "properties": FIELDS})


def mappings() -> dict[str, Any]:
    """Also the body that adds fields in place."""
    return {"dynamic": "strict", "_meta": {"mapping_hash": mapping_hash()}, "properties": FIELDS}


def index_body(replicas: int) -> dict[str, Any]:
    """The body of the call that creates an index."""
    return {
        "settings": {
            "index": {
                "number_of_shards": SHARDS,
                "number_of_replicas": replicas,
                "refresh_interval": REFRESH_INTERVAL,
                "gc_deletes": f"{GC_DELETES_SECONDS}s",
                "analysis": ANALYSIS,
            }
        },
        "mappings": mappings(),
    }


def replicas(wanted: int | None, data_nodes: int) -> int:
    """`wanted` is the setting; unset: one where there is a second node to hold it, else none."""
    return min(1, data_nodes - 1) if wanted is None else wanted


def index_name(at: datetime) -> str:
    """events-<mapping hash>-<time to the millisecond, UTC>."""
    return f"{PREFIX}{mapping_hash()}-{at.astimezone(UTC):%Y%m%dt%H%M%S%f}"[:-3]


def difference(live: Mapping[str, Any], wanted: Mapping[str, Any] | None = None) -> Difference:
    """`live` is what the server says of one index ({"mappings", "settings"}), `wanted` as `index_body`.

    Documents that are there get an added field when they are written again: after an addition in place each
    of them must be. What is decided by the rebuild (refresh, replicas) is no difference.
    """
    body = index_body(0) if wanted is None else wanted
    changes = [
        *_compared("settings", _settings(live["settings"]), _settings(body["settings"]), Step.REBUILD),
        *_compared(
            "mappings",
            _flat({key: value for key, value in live["mappings"].items() if key != "_meta"}),
            _flat({key: value for key, value in body["mappings"].items() if key != "_meta"}),
            Step.ADD,
        ),
    ]
    live_hash, wanted_hash = _carried(live), _carried(body)
    if not changes and live_hash != wanted_hash:
        changes.append(Change("mappings._meta.mapping_hash", live_hash, wanted_hash, Step.ADD))
    return Difference(live_hash, wanted_hash, tuple(changes))


def _carried(body: Mapping[str, Any]) -> str:
    return str(body["mappings"].get("_meta", {}).get("mapping_hash", ""))


def _settings(settings: Mapping[str, Any]) -> dict[str, str]:
    """Shards and analysis; a live index gives numbers as text."""
    index = settings["index"]
    return {
        "number_of_shards": str(index["number_of_shards"]),
        **_flat(index.get("analysis", {}), "analysis"),
    }


def _compared(
    part: str, live: Mapping[str, str], wanted: Mapping[str, str], when_added: Step
) -> Iterator[Change]:
    for path in sorted(live.keys() | wanted.keys()):
        if live.get(path) != wanted.get(path):
            # an attribute more of a field that is there is a change of that field
            is_new = path not in live and not _is_attribute_of_known(path, live)
            yield Change(
                f"{part}.{path}",
                live.get(path, ""),
                wanted.get(path, ""),
                when_added if is_new else Step.REBUILD,
            )


def _is_attribute_of_known(path: str, live: Mapping[str, str]) -> bool:
    field, _, _ = path.rpartition(".")
    return any(known.rpartition(".")[0] == field for known in live)


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Leaves by their dotted path, as JSON."""
    found: dict[str, str] = {}
    for key, inner in value.items():
        path = f"{prefix}.{key}" if prefix else key
        if isinstance(inner, Mapping):
            found |= _flat(inner, path)
        else:
            found[path] = json.dumps(inner)
    return found


def _hash(value: Mapping[str, Any]) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
