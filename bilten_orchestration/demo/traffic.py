"""Living changes at a steady rate, through ordinary statements of the application's role.

Several workers, each with a connection of its own, take numbered turns; turn n is due n / rate seconds after
the start, so a slow one delays nobody else and the rate is kept as long as the server can. Lag is how late a
turn begins. Each turn is one transaction: a kill leaves whole changes or none.

A connection that breaks is made again as soon as the server lets us in; turns missed meanwhile are dropped,
not caught up in a burst. ClickHouse and Redis may go and come as well. A change that the database refuses by
a rule is a defect of this module: it is counted under its name, and the report is bad.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import psycopg

from bilten_orchestration.demo.actions import ACTIONS, PAGE_VIEW_WEIGHT, PURCHASE_WEIGHT
from bilten_orchestration.demo.browsing import Clicks, count_views
from bilten_orchestration.demo.buying import Offer, World, look_around, purchase
from bilten_orchestration.demo.outages import Outages
from bilten_orchestration.errors import Problem, Refused, StoreUnavailable, UsageError
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import clickhouse, postgres, redis
from bilten_orchestration.stores.postgres import Connection

if TYPE_CHECKING:
    from redis import Redis

APPLICATION_ROLE = "bilten_app"
LOOK_AGAIN_SECONDS = 30.0
LATE_SECONDS = 5.0
"""A turn later than this is dropped: the server was away or is too slow."""
TRIES = 5
_RETRIED = (
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
    psycopg.errors.LockNotAvailable,
)
_BROKEN = (psycopg.OperationalError, psycopg.InterfaceError)


@dataclass(frozen=True, slots=True)
class TrafficReport:
    """`done` and `nothing_to_do` per action; `dropped` turns were due while the server was away or too slow.

    `refused` counts changes that broke a rule, per rule: not empty means a defect. `clicks_lost` were not
    written, for ClickHouse was away too long or at the end; `counters_lost` are visits that Redis did not
    count.
    """

    seconds: float
    rate_per_second: float
    achieved_per_second: float
    done: dict[str, int]
    nothing_to_do: dict[str, int]
    refused: dict[str, int]
    retried: int
    dropped: int
    reconnects: int
    clicks_written: int
    clicks_rejected: int
    clicks_lost: int
    counters_lost: int
    greatest_lag_seconds: float

    @property
    def problems(self) -> tuple[Problem, ...]:
        refused = tuple(
            Problem(
                f"{count} changes were refused: {rule}",
                expected="none",
                found=str(count),
                next="correct demo/actions.py",
            )
            for rule, count in self.refused.items()
        )
        lost = Problem(
            "clicks were lost: ClickHouse did not take them",
            expected=f"{self.clicks_written + self.clicks_rejected + self.clicks_lost} written",
            found=f"{self.clicks_lost} lost",
            next="bilten status",
        )
        return (*refused, lost) if self.clicks_lost else refused


def run(
    settings: Settings,
    *,
    rate_per_second: float,
    seconds: float | None = None,
    seed: int = 7,
    workers: int | None = None,
    progress: Progress = silent,
    stop: threading.Event | None = None,
) -> TrafficReport:
    """Keep changes going for `seconds`, or until `stop` is set; then end the turns under way and report.

    Raises UsageError (rate), Refused (production, nothing on sale, no rights), StoreUnavailable at the start.
    """
    if not 0 < rate_per_second <= 10_000:
        raise UsageError(
            "the rate is out of bounds",
            expected="above 0, at most 10000 a second",
            found=f"{rate_per_second:g}",
            next="--rate 20",
        )
    if settings.environment == "production":
        raise Refused(
            "demo traffic does not go into production",
            expected="BILTEN_ENVIRONMENT local, test or staging",
            found="production",
        )
    traffic = _Traffic(settings, rate_per_second, seed, stop or threading.Event(), progress)
    return traffic.run(seconds, workers or min(12, max(2, round(rate_per_second / 20))))


def connect(settings: Settings) -> Connection:
    """As bilten_app: by its password, or as the owner with SET ROLE where only that is known.

    Raises StoreUnavailable, or Refused when the owner may not become bilten_app.
    """
    password = settings.postgres.app_password
    if password.get_secret_value():
        store = settings.postgres.model_copy(update={"user": APPLICATION_ROLE, "password": password})
        return postgres.connect(store, application_name="bilten demo traffic", autocommit=True)
    connection = postgres.connect(settings.postgres, application_name="bilten demo traffic", autocommit=True)
    try:
        connection.execute(f"set role {APPLICATION_ROLE}".encode())
    except psycopg.errors.InsufficientPrivilege:
        connection.close()
        raise Refused(
            f"{settings.postgres.user} may not become {APPLICATION_ROLE}",
            expected="BILTEN_POSTGRES__APP_PASSWORD, or membership of the role",
            found="neither",
            next=f"grant {APPLICATION_ROLE} to {settings.postgres.user}",
        ) from None
    return connection


@dataclass(slots=True)
class _Tally:
    """Counted under the lock by all workers."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    done: Counter[str] = field(default_factory=Counter)
    nothing: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    other: Counter[str] = field(default_factory=Counter)
    lag: float = 0.0
    greatest_lag: float = 0.0


class _Traffic:
    def __init__(
        self, settings: Settings, rate: float, seed: int, stop: threading.Event, progress: Progress
    ) -> None:
        self._settings, self._rate, self._seed = settings, rate, seed
        self._stop, self._progress = stop, progress
        self._turns = itertools.count()
        self._tally = _Tally()
        self._clicks = Clicks()
        self._postgres_outages = Outages("PostgreSQL", "reconnecting", progress)
        self._clickhouse_outages = Outages("ClickHouse", "clicks are kept", progress)
        self._redis_outages = Outages("Redis", "its counters are lost", progress)
        self._clickhouse = clickhouse.connect(settings.clickhouse)
        self._redis = redis.connect(settings.redis)
        self._failure: BaseException | None = None
        with connect(settings) as connection:
            world = look_around(connection, random.Random(seed))  # noqa: S311
        if not world.offers or not world.people:
            raise Refused(
                "there is nothing to sell",
                expected="published events with tickets on sale, and active users",
                found=f"{len(world.offers)} ticket types on sale, {len(world.people)} users",
                next="bilten demo load",
            )

    def run(self, seconds: float | None, workers: int) -> TrafficReport:
        self._started = time.monotonic()
        deadline = None if seconds is None else self._started + seconds
        threads = [
            threading.Thread(target=self._work, args=(number,), name=f"traffic {number}", daemon=True)
            for number in range(workers)
        ]
        threads.append(threading.Thread(target=self._deliver, name="traffic clicks", daemon=True))
        self._progress(f"{workers} connections as {APPLICATION_ROLE}, {self._rate:g} changes a second")
        for thread in threads:
            thread.start()
        try:
            while not self._stop.is_set():
                left = 1.0 if deadline is None else min(1.0, deadline - time.monotonic())
                if left <= 0 or self._stop.wait(left):
                    break
                self._tell()
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()
            elapsed = time.monotonic() - self._started
            for _ in range(2):  # the second time for what is delivered again
                self._flush()
            self._clickhouse.close()
            self._redis.close()
        if self._failure is not None:
            raise self._failure
        return self._report(elapsed)

    def _report(self, elapsed: float) -> TrafficReport:
        tally = self._tally
        turns = tally.done.total() + tally.nothing.total()
        return TrafficReport(
            seconds=round(elapsed, 3),
            rate_per_second=self._rate,
            achieved_per_second=round(turns / elapsed, 3),
            done=dict(sorted(tally.done.items())),
            nothing_to_do=dict(sorted(tally.nothing.items())),
            refused=dict(sorted(tally.refused.items())),
            retried=tally.other["retried"],
            dropped=tally.other["dropped"],
            reconnects=tally.other["reconnects"],
            clicks_written=tally.other["clicks written"],
            clicks_rejected=tally.other["clicks rejected"],
            clicks_lost=self._clicks.made - tally.other["clicks written"] - tally.other["clicks rejected"],
            counters_lost=tally.other["counters lost"],
            greatest_lag_seconds=round(tally.greatest_lag, 3),
        )

    def _tell(self) -> None:
        elapsed = time.monotonic() - self._started
        with self._tally.lock:
            turns = self._tally.done.total() + self._tally.nothing.total()
            lag, self._tally.lag = self._tally.lag, 0.0
        self._progress(
            f"{elapsed:5.0f} s  {turns / elapsed:6.1f}/s of {self._rate:g}  lag {lag * 1000:4.0f} ms"
            f"  {turns} changes,"
            f" {self._tally.done['purchase']} purchases, {self._tally.other['clicks written']} clicks"
        )

    def _flush(self) -> None:
        from clickhouse_connect.driver.exceptions import ClickHouseError

        try:
            report = self._clicks.send(self._clickhouse)
        except (ClickHouseError, OSError) as error:
            self._clickhouse_outages.begin(error)
            return
        if report is not None:
            self._clickhouse_outages.end()
            with self._tally.lock:
                self._tally.other["clicks written"] += report.rows_written
                self._tally.other["clicks rejected"] += report.rows_rejected

    def _deliver(self) -> None:
        """Clicks, once a second, in a thread of their own: a slow ClickHouse must not slow the report."""
        try:
            while not self._stop.wait(1.0):
                self._flush()
        except BaseException as error:  # noqa: BLE001 (raised again by run)
            self._failure = self._failure or error
            self._stop.set()

    def _work(self, number: int) -> None:
        try:
            self._take_turns(random.Random(self._seed * 1_000 + number))  # noqa: S311
        except BaseException as error:  # noqa: BLE001 (raised again by run)
            self._failure = self._failure or error
            self._stop.set()

    def _take_turns(self, rng: random.Random) -> None:
        connection = connect(self._settings)
        world, looked = look_around(connection, rng), time.monotonic()
        names = ["purchase", "page_view", *ACTIONS]
        weights = [
            PURCHASE_WEIGHT,
            PAGE_VIEW_WEIGHT,
            *(weight for weight, _ in ACTIONS.values()),
        ]
        try:
            while not self._stop.is_set():
                due = self._started + next(self._turns) / self._rate
                if self._stop.wait(max(due - time.monotonic(), 0)):
                    return
                lag = time.monotonic() - due
                self._note_lag(lag)
                if lag > LATE_SECONDS:
                    self._count("dropped")
                    continue
                name = rng.choices(names, weights)[0]
                try:
                    if time.monotonic() - looked > LOOK_AGAIN_SECONDS:
                        world, looked = look_around(connection, rng), time.monotonic()
                    self._turn(connection, rng, world, name)
                except _BROKEN:
                    connection.close()
                    renewed = self._reconnect()
                    if renewed is None:
                        return
                    connection = renewed
        finally:
            connection.close()

    def _turn(self, connection: Connection, rng: random.Random, world: World, name: str) -> None:
        if name == "page_view":
            self._look(rng, world, buying=None)
            self._note(name, True)
            return
        if name == "purchase":
            if not world.offers:
                self._note(name, False)
                return
            offer, buyer = rng.choice(world.offers), rng.choice(world.people)
            self._look(rng, world, buying=(offer, buyer))

            def change() -> bool:
                bought = purchase(connection, rng, offer, buyer)
                if not bought and offer in world.offers:  # sold out, until somebody looks again
                    world.offers.remove(offer)
                return bought
        else:
            action = ACTIONS[name][1]

            def change() -> bool:
                return action(connection, rng, world)

        for attempt in range(TRIES):
            try:
                with connection.transaction():
                    done = change()
                self._note(name, done)
            except _RETRIED as error:
                self._count("retried")
                if attempt == TRIES - 1:
                    self._refuse(f"{name}: {type(error).__name__} {TRIES} times")
            except _BROKEN:
                raise
            except psycopg.Error as error:
                self._refuse(f"{name}: {str(error).splitlines()[0][:160]}")
                return
            else:
                return

    def _look(self, rng: random.Random, world: World, buying: tuple[Offer, UUID] | None) -> None:
        if buying is None and not world.offers:
            return
        offer, user = buying or (
            rng.choice(world.offers),
            rng.choice(world.people) if rng.random() < 0.3 else None,
        )
        rows = self._clicks.visit(rng, offer, uuid4(), user, checkout=buying is not None)
        self._count_views(self._redis, offer, user, rows)

    def _count_views(self, client: Redis, offer: Offer, user: UUID | None, rows: int) -> None:
        from redis.exceptions import RedisError

        try:
            count_views(client, offer, user, rows)
        except RedisError as error:
            self._redis_outages.begin(error)
            self._count("counters lost")
        else:
            self._redis_outages.end()

    def _reconnect(self) -> Connection | None:
        self._postgres_outages.begin()
        pause = 0.1
        while not self._stop.wait(pause):
            pause = min(pause * 1.5, 2.0)
            try:
                connection = connect(self._settings)
            except StoreUnavailable:
                continue
            self._count("reconnects")
            self._postgres_outages.end()
            return connection
        return None

    def _note(self, name: str, done: bool) -> None:
        with self._tally.lock:
            (self._tally.done if done else self._tally.nothing)[name] += 1

    def _note_lag(self, lag: float) -> None:
        with self._tally.lock:
            self._tally.lag = max(self._tally.lag, lag)
            self._tally.greatest_lag = max(self._tally.greatest_lag, lag)

    def _count(self, name: str) -> None:
        with self._tally.lock:
            self._tally.other[name] += 1

    def _refuse(self, rule: str) -> None:
        with self._tally.lock:
            self._tally.refused[rule] += 1
            first = self._tally.refused[rule] == 1
        if first:
            self._progress(f"refused: {rule}")
