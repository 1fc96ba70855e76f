"""Whether a server does its work, asked by a real request.

Each check returns a few words about what it found, or raises StoreUnavailable. Nothing is cached.
"""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime

from bilten_orchestration.errors import StoreUnavailable
from bilten_orchestration.local import addresses
from bilten_orchestration.settings import Settings

Check = Callable[[Settings], str]
REQUEST_SECONDS = 10
DAEMON_SILENCE_SECONDS = 120
FIRST_POLL_SECONDS, LONGEST_POLL_SECONDS = 0.02, 0.5


def postgres(settings: Settings) -> str:
    from bilten_orchestration.stores.postgres import connect

    with connect(settings.postgres, application_name="bilten status") as connection:
        row = connection.execute(
            "select current_setting('server_version'), count(*) from pg_stat_activity"
            " where backend_type = 'client backend'"
        ).fetchone()
    if row is None:
        raise StoreUnavailable(
            "PostgreSQL answered a query without a row", expected="its version", found="nothing"
        )
    return f"{row[0]}, {row[1]} sessions"


def clickhouse(settings: Settings) -> str:
    from bilten_orchestration.stores.clickhouse import connect

    client = connect(settings.clickhouse)
    try:
        return str(client.command("select version()"))
    finally:
        client.close()


def redis(settings: Settings) -> str:
    from bilten_orchestration.stores.redis import connect

    client = connect(settings.redis)
    try:
        version = client.info("server")["redis_version"]
        return f"{version}, {client.dbsize()} keys"
    finally:
        client.close()


def object_store(settings: Settings) -> str:
    from botocore.exceptions import BotoCoreError, ClientError

    from bilten_orchestration.stores.object_store import connect

    store = settings.object_store
    client = connect(store)
    try:
        for bucket in store.buckets_here:
            client.head_bucket(Bucket=bucket)
    except (BotoCoreError, ClientError) as error:
        raise StoreUnavailable(
            f"the object store at {store.endpoint_url} does not give the bucket {bucket}",
            expected="an answer to HeadBucket",
            found=str(error),
            next="bilten up makes the embedded ones; on your own store make it and let these keys use it",
        ) from None
    finally:
        client.close()
    return f"{len(store.buckets_here)} buckets"


def opensearch(settings: Settings) -> str:
    from bilten_orchestration.stores.opensearch import connect, translated

    client = connect(settings.opensearch)
    try:
        with translated(settings.opensearch):
            found = client.cluster.health()
    finally:
        client.close()
    if found["status"] == "red":
        raise StoreUnavailable(
            "OpenSearch has shards that are not there",
            expected="yellow or green",
            found=f"{found['status']}, {found['unassigned_shards']} unassigned shards",
            next="bilten logs opensearch",
        )
    return f"{found['status']}, {found['active_primary_shards']} shards"


def code_server(settings: Settings, port: int) -> str:
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service="DagsterApi"), timeout=REQUEST_SECONDS
            )
        except grpc.RpcError as error:
            raise StoreUnavailable(
                "Dagster's code server does not answer",
                expected="SERVING",
                found=str(error.code()) if isinstance(error, grpc.Call) else type(error).__name__,
                next="bilten logs dagster-code",
            ) from None
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        raise StoreUnavailable(
            "Dagster's code server is not ready", expected="SERVING", found=str(answer.status)
        )
    return "serving"


def webserver(settings: Settings) -> str:
    url = f"{addresses.webserver(settings).url}/server_info"
    try:
        with urllib.request.urlopen(url, timeout=REQUEST_SECONDS) as answer:  # noqa: S310
            answer.read()
    except (OSError, urllib.error.HTTPError) as error:
        raise StoreUnavailable(
            "Dagster's webserver does not answer",
            expected=f"200 from {url}",
            found=str(error),
            next="bilten logs dagster-webserver",
        ) from None
    return "answering"


def daemon(settings: Settings) -> str:
    """By its heartbeats in Dagster's storage: a daemon that runs but hangs stops writing them."""
    from bilten_orchestration.stores.postgres import connect

    with connect(settings.postgres, "dagster", application_name="bilten status") as connection:
        known = connection.execute("select to_regclass('daemon_heartbeats')").fetchone()
        row = (
            connection.execute("select max(timestamp), count(*) from daemon_heartbeats").fetchone()
            if known is not None and known[0] is not None
            else None
        )
    if row is None or row[0] is None:
        raise StoreUnavailable(
            "Dagster's daemon has not started yet",
            expected="a heartbeat",
            found="none",
            next="bilten logs dagster-daemon",
        )
    beat: datetime = row[0]
    age = (datetime.now(UTC) - (beat if beat.tzinfo else beat.replace(tzinfo=UTC))).total_seconds()
    if age > DAEMON_SILENCE_SECONDS:
        raise StoreUnavailable(
            "Dagster's daemon is silent",
            expected=f"a heartbeat within {DAEMON_SILENCE_SECONDS} s",
            found=f"the last one {age:.0f} s ago",
            next="bilten logs dagster-daemon",
        )
    return f"heartbeat {age:.0f} s ago"


def wait(check: Callable[[], str], *, seconds: float, alive: Callable[[], bool] = lambda: True) -> str:
    """Ask until the check passes; raises its last error after `seconds`, at once when the process is gone."""
    deadline = time.monotonic() + seconds
    pause = FIRST_POLL_SECONDS
    while True:
        try:
            return check()
        except StoreUnavailable:
            if time.monotonic() >= deadline or not alive():
                raise
        time.sleep(pause)
        pause = min(pause * 2, LONGEST_POLL_SECONDS)
