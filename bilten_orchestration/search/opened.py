"""The two stores of one command of search, opened, with their errors as ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import driver_errors, opensearch, postgres
from bilten_orchestration.stores.postgres import Connection

if TYPE_CHECKING:
    from opensearchpy import OpenSearch

# of one answer: a bulk request into a merging index, a page of documents, a change of the cluster's state
ANSWER_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Opened:
    """`connection` in autocommit, of the etl role: for state and locks."""

    connection: Connection
    client: OpenSearch


@contextmanager
def opened(settings: Settings, doing: str, *, loads: bool = False) -> Iterator[Opened]:
    """`doing` completes 'OpenSearch went away during ...'. `loads`: bodies are sent as they are.

    Compressing takes as long as all the rest of a load, and the network between stores is not that slow.
    """
    with ExitStack() as stack:
        stack.enter_context(driver_errors.translated(doing))
        stack.enter_context(opensearch.translated(settings.opensearch, doing))
        client = opensearch.connect(settings.opensearch, timeout_seconds=ANSWER_SECONDS, compressed=not loads)
        stack.callback(client.close)
        connection = stack.enter_context(
            postgres.connect(settings.postgres, "etl", application_name="bilten search", autocommit=True)
        )
        yield Opened(connection, client)
