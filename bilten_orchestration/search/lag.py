"""How far the serving index is behind PostgreSQL: one answer for checks, alerts and the health API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bilten_orchestration.ingestion import lag
from bilten_orchestration.search import marks
from bilten_orchestration.search.definition import ALIAS

if TYPE_CHECKING:
    from bilten_orchestration.stores.postgres import Connection

WARN_SECONDS: Final = 15 * 60
FAIL_SECONDS: Final = 3600

_SERVING = """
    select s.index_name, (select count(*) from system.search_dead_letters d
                          where d.index_name = s.index_name and d.resolved_at is null)
    from system.search_state s where s.alias = %s and s.index_name is not null
"""


@dataclass(frozen=True, slots=True)
class SearchLag:
    """Of `index`, None while none serves. `dead_letters` are documents that it refused and still lacks."""

    index: str | None
    dead_letters: int
    followed: lag.Lag

    @property
    def seconds(self) -> float | None:
        return self.followed.seconds


def read(connection: Connection) -> SearchLag:
    row = connection.execute(_SERVING, (ALIAS,)).fetchone()
    if row is None:
        return SearchLag(None, 0, lag.Lag("search", 0, None, None, None))
    index, dead_letters = row
    return SearchLag(str(index), int(dead_letters), lag.read(connection, marks.consumer(index)))
