"""Bulk requests: sent until every operation is answered for good, in whatever parts the server takes them.

An operation carries its version, so it may be sent any number of times: what is there already, or is newer,
answers 409 and stays. So a request whose answer was lost is simply sent again.

What an answer means, operation by operation:

 1  2xx, and 404 of a delete: done
 2  409: the index holds this version or a newer one: done
 3  429, 5xx: no room now, or a shard that moves: again, after a pause (pace.py)
 4  a block (full disk, index made read-only): again, as long as patience lasts; then StoreFull
 5  404 of an index action: the index is gone; nothing is made in its place, for requests go to its own
    alias and must find one
 6  any other 4xx: this document will never be taken: a dead letter, with the reason
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bilten_orchestration.errors import Mismatch, StoreFull, StoreUnavailable
from bilten_orchestration.search import documents
from bilten_orchestration.search.pace import Pace

if TYPE_CHECKING:
    from opensearchpy import OpenSearch

_ANSWER = (
    "errors,items.*._id,items.*.status,items.*.error.type,items.*.error.reason,items.*.error.caused_by.reason"
)
_REASON_LENGTH = 500
_TOO_LARGE = 413

Operation = tuple[bytes, ...]


def write_alias(index: str) -> str:
    """What an index is written through; it goes with the index, and a write that misses it makes none."""
    return f"{index}-write"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A document that the server refused for what it is."""

    document_id: str
    status: int
    reason: str


@dataclass(slots=True)
class Sent:
    """What became of operations. `superseded`: this version or a newer one was there; `took`: see `watch`."""

    operations: int = 0
    bytes: int = 0
    superseded: int = 0
    dead: list[DeadLetter] = field(default_factory=list)
    took: list[str] = field(default_factory=list)

    def add(self, other: Sent) -> None:
        self.operations += other.operations
        self.bytes += other.bytes
        self.superseded += other.superseded
        self.dead += other.dead
        self.took += other.took


@dataclass(slots=True)
class Sender:
    """Sends to one index. `check` raises when the sender may no longer write (a lost lease).

    `watch`: documents whose being taken is told in Sent.took, those that were dead letters before.
    """

    client: OpenSearch
    index: str
    pace: Pace
    check: Callable[[], None] = lambda: None
    watch: Collection[str] = ()

    def send(self, body: bytes) -> Sent:
        """Every operation of the body. Raises StoreUnavailable, StoreFull, Mismatch (no such index)."""
        total = Sent(bytes=len(body))
        waiting: list[bytes | Sequence[Operation]] = [body]
        while waiting:
            part = waiting.pop()
            text = part if isinstance(part, bytes) else b"".join(line + b"\n" for op in part for line in op)
            self.check()
            with self.pace.slot():
                status, answer = self._post(text)
            if status == 200:
                again, blocked = self._judge(part, answer, total)
                if not again:
                    self.pace.accepted()
                    continue
                if len(again) < len(answer["items"]):
                    self.pace.accepted()
                self._pause(blocked)
                waiting.append(again)
                continue
            rows = list(documents.operations(part)) if isinstance(part, bytes) else list(part)
            if status == _TOO_LARGE and len(rows) == 1:
                total.operations += 1
                total.dead.append(DeadLetter(_id(rows[0]), status, "larger than the server takes at all"))
                continue
            if status != _TOO_LARGE:
                self._pause(answer)
            half = len(rows) // 2
            # where nothing answers, halves help nobody
            waiting += [rows[half:], rows[:half]] if half and status in (429, _TOO_LARGE) else [rows]
        return total

    def _post(self, body: bytes) -> tuple[int, Any]:
        """Status and answer; 0 where there was none, with what happened."""
        from opensearchpy import exceptions

        try:
            answer = self.client.transport.perform_request(
                "POST",
                f"/{write_alias(self.index)}/_bulk",
                params={"require_alias": "true", "filter_path": _ANSWER},
                body=body,
                headers={"content-type": "application/x-ndjson"},
            )
        except (exceptions.ConnectionError, exceptions.ConnectionTimeout) as error:
            return 0, f"{type(error).__name__}: {error.info}"
        except exceptions.TransportError as error:
            status = error.status_code if isinstance(error.status_code, int) else 0
            if status in (429, _TOO_LARGE) or status >= 500:
                return status, f"{status}: {error.error}"
            raise
        return 200, answer

    def _judge(
        self, part: bytes | Sequence[Operation], answer: Any, total: Sent
    ) -> tuple[list[Operation], str]:
        """Operations to be sent again, and what blocks them."""
        items: list[dict[str, Any]] = [next(iter(item.items()))[1] for item in answer["items"]]
        if not answer["errors"]:
            total.operations += len(items)
            if self.watch:
                total.took += [item["_id"] for item in items if item["_id"] in self.watch]
            return [], ""
        rows = list(documents.operations(part)) if isinstance(part, bytes) else list(part)
        if len(rows) != len(items):
            raise Mismatch(
                "a bulk request was answered in part",
                expected=f"{len(rows)} answers",
                found=str(len(items)),
                next="the same again: what was taken stays",
            )
        again: list[Operation] = []
        blocked = ""
        for row, item in zip(rows, items, strict=True):
            status, error = int(item["status"]), item.get("error") or {}
            kind, reason = str(error.get("type", "")), str(error.get("reason", ""))
            if status == 429 or status >= 500 or kind == "cluster_block_exception":
                blocked = f"{status}: {reason}"
                again.append(row)
                continue
            total.operations += 1
            if status < 300 or (status == 404 and not error):
                if item["_id"] in self.watch:
                    total.took.append(item["_id"])
            elif status == 409:
                total.superseded += 1
                if item["_id"] in self.watch:
                    total.took.append(item["_id"])
            elif status == 404:
                raise Mismatch(
                    f"{self.index} is gone",
                    expected="the index that is written to, with its write alias",
                    found=reason[:_REASON_LENGTH],
                    next="bilten search status; bilten search reindex makes another one",
                )
            else:
                cause = (error.get("caused_by") or {}).get("reason")
                text = f"{kind}: {reason}" + (f": {cause}" if cause else "")
                total.dead.append(DeadLetter(item["_id"], status, text[:_REASON_LENGTH]))
        return again, blocked

    def _pause(self, found: str) -> None:
        if self.pace.refused():
            return
        waited = f"for {self.pace.patience_seconds:g} s"
        if "block" in found:
            raise StoreFull(
                f"OpenSearch takes no write for {self.index}",
                expected=f"the block gone {waited}",
                found=found[:_REASON_LENGTH],
                next="make room on its disk, and lift the block where it does not go by itself (index.blocks."
                "read_only_allow_delete: null); then the same again, which goes on where it was",
            )
        raise StoreUnavailable(
            f"OpenSearch takes no write for {self.index}",
            expected=f"an answer, or room, {waited}",
            found=found[:_REASON_LENGTH],
            next="bilten status; then the same again, which goes on where it was",
        )


def _id(operation: Operation) -> str:
    action: dict[str, dict[str, str]] = json.loads(operation[0])
    return next(iter(action.values()))["_id"]
