"""Whether each store answers, asked by a real request on a new connection.

One that hangs is away: the board knows since when the question is open, and does not wait for an answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from bilten_orchestration.errors import BiltenError, Problem
from bilten_orchestration.local import addresses, health
from bilten_orchestration.observability.finding import Finding, Reading
from bilten_orchestration.observability.sources import bounded
from bilten_orchestration.settings import Settings

PREFIX = "store/"
#: No store: without it the platform serves all the same.
WEBSERVER = "dagster-webserver"


@dataclass(frozen=True, slots=True)
class StoreAnswers:
    """`check` says in a few words what it found, or raises."""

    store: str
    address: str
    check: Callable[[Settings], str]
    settings: Settings
    needs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{PREFIX}{self.store}"

    @property
    def interval_seconds(self) -> float:
        return self.settings.serve.probe_interval_seconds

    def read(self) -> Reading:
        try:
            return Reading(detail=self.check(self.settings))
        except BiltenError as error:
            return self._down(error.problems[0], None)
        except Exception as error:  # noqa: BLE001 whatever a driver raises: it is no answer
            found = f"{type(error).__name__}: {error}".splitlines()[0][:300]
            return self._down(
                Problem(
                    f"{self.store} at {self.address} does not answer",
                    expected="an answer",
                    found=found,
                    next=f"bilten status; bilten logs {self.store}",
                ),
                None,
            )

    def overdue(self, began_at: datetime, now: datetime) -> Reading | None:
        waited = (now - began_at).total_seconds()
        if waited <= self.settings.serve.probe_seconds:
            return None
        return self._down(
            Problem(
                f"{self.store} at {self.address} does not answer",
                expected=f"an answer within {self.settings.serve.probe_seconds} s",
                found="it takes the question and says nothing",
                next=f"bilten status; bilten logs {self.store}",
            ),
            began_at,
        )

    def _down(self, problem: Problem, since: datetime | None) -> Reading:
        return Reading(
            (
                Finding(
                    f"{PREFIX}{self.store}",
                    "store-down",
                    "warning" if self.store == WEBSERVER else "critical",
                    problem,
                    since=since,
                ),
            ),
            detail=problem.what,
        )


def sources(settings: Settings) -> list[StoreAnswers]:
    """Every store that is wanted, embedded or not, and Dagster's webserver and code server."""
    quick = _quick(settings)
    places = addresses.of_stores(settings)
    checks: dict[str, Callable[[Settings], str]] = {
        "postgres": _postgres,
        "clickhouse": health.clickhouse,
        "redis": health.redis,
        "object-store": health.object_store,
        **({"opensearch": health.opensearch} if settings.opensearch.enabled else {}),
    }
    found = [
        StoreAnswers(name, places.get(name, "no address"), check, quick) for name, check in checks.items()
    ]
    found.append(StoreAnswers(WEBSERVER, addresses.webserver(settings).url, health.webserver, quick))
    return found


def _postgres(settings: Settings) -> str:
    seconds = 10 * settings.serve.probe_seconds  # told as away before; this ends the thread's waiting
    with bounded.connected(settings, "the question whether it answers", seconds=seconds) as connection:
        row = connection.execute(
            "select current_setting('server_version'), count(*), current_setting('max_connections')"
            " from pg_stat_activity where backend_type = 'client backend'"
        ).fetchone()
    assert row is not None  # noqa: S101
    return f"{row[0]}, {row[1]} of {row[2]} connections"


def _quick(settings: Settings) -> Settings:
    """The same stores, given up soon: what is asked here is asked again in a few seconds."""
    seconds = settings.serve.probe_seconds
    limits = {"connect_timeout_seconds": max(seconds, 2)}  # libpq takes 1 for 2
    return settings.model_copy(
        update={
            "postgres": settings.postgres.model_copy(update=limits),
            "clickhouse": settings.clickhouse.model_copy(
                update={**limits, "query_timeout_seconds": max(seconds, 2)}
            ),
            "object_store": settings.object_store.model_copy(update={"patience_seconds": 0}),
        }
    )
