"""The alias moves from one index to another, in one action of OpenSearch.

What a kill leaves behind. The numbers are those in the code.

 1  the alias has not moved: the index before serves, the new one is as it was, and the next build goes on
    with it
 2  the action is one change of the cluster's state: all of it or nothing. It names the index that the alias
    is taken from and requires it to be there: who comes late (a builder that lost its lease, and does not
    know) finds the alias elsewhere and changes nothing
 3  the alias has moved, PostgreSQL does not know: the next command of search writes it down (state.settle).
    The batch of changes before it takes the index that serves from the alias, not from PostgreSQL
 4  whole

No query fails: before and after, the alias is on one index that is whole, and the one before stays open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bilten_orchestration.errors import Mismatch
from bilten_orchestration.search import definition, state
from bilten_orchestration.search.lease import Lease
from bilten_orchestration.search.state import Reason
from bilten_orchestration.stores.postgres import Connection

if TYPE_CHECKING:
    from opensearchpy import OpenSearch


def swap(
    connection: Connection,
    client: OpenSearch,
    lease: Lease,
    *,
    before: str | None,
    after: str,
    reason: Reason,
    run_id: str,
) -> None:
    """Raises Mismatch when the alias is not on `before` any more, LockHeld when the lease was lost."""
    from opensearchpy import exceptions

    alias = definition.ALIAS
    actions: list[dict[str, Any]] = [{"add": {"index": after, "alias": alias}}]
    if before is not None:
        actions.insert(0, {"remove": {"index": before, "alias": alias, "must_exist": True}})
    lease.renew()
    if (found := state.serving(client)) != before:
        raise _moved(before, found)
    try:
        client.indices.update_aliases(body={"actions": actions})  # 1, 2
    except exceptions.NotFoundError:
        raise _moved(before, state.serving(client)) from None
    state.record_swap(connection, before, after, reason, run_id)  # 3
    # 4


def _moved(before: str | None, found: str | None) -> Mismatch:
    return Mismatch(
        f"{definition.ALIAS} was moved by somebody else",
        expected=before or "no index yet",
        found=found or "no index",
        next="bilten search status; then the same again",
    )
