"""`bilten env`: what other programs need in order to connect, by the names that they know."""

from __future__ import annotations

import os
from typing import Literal
from urllib.parse import quote

from bilten_orchestration.errors import UsageError
from bilten_orchestration.local import addresses, dagster_services
from bilten_orchestration.local.layout import layout
from bilten_orchestration.settings import OpenSearchSettings, Settings
from bilten_orchestration.settings.loading import home_directory

Role = Literal["owner", "etl", "readonly"]


def exports(settings: Settings, role: Role) -> dict[str, str]:
    """Variables by name, secrets included.

    `readonly` reads PostgreSQL as bilten_readonly and ClickHouse as the analyst, and is given nothing else:
    the other stores have no account that only reads.
    """
    postgres, clickhouse, redis, store = (
        settings.postgres,
        settings.clickhouse,
        settings.redis,
        settings.object_store,
    )
    if postgres.host is None or clickhouse.host is None or redis.host is None or store.endpoint_url is None:
        raise UsageError(
            "not every store has an address yet", expected="addresses", found="an unset one", next="bilten up"
        )
    user, password = {
        "owner": (postgres.user, postgres.password),
        "etl": (postgres.etl_user, postgres.etl_password),
        "readonly": ("bilten_readonly", postgres.readonly_password),
    }[role]
    reader = role == "readonly"
    clickhouse_url = _url(
        "https" if clickhouse.secure else "http",
        clickhouse.analyst_user if reader else clickhouse.user,
        (clickhouse.analyst_password if reader else clickhouse.password).get_secret_value(),
        f"{clickhouse.host}:{clickhouse.port}",
    )
    places = layout(home_directory())
    reading = {
        "PGHOST": postgres.host,
        "PGPORT": str(postgres.port),
        "PGDATABASE": postgres.database,
        "PGUSER": user,
        "PGPASSWORD": password.get_secret_value(),
        "CLICKHOUSE_URL": clickhouse_url,
        "DAGSTER_URL": addresses.ui(settings),
    }
    if reader:
        return reading
    return {
        **reading,
        "REDIS_URL": _url(
            "rediss" if redis.tls else "redis",
            "",
            redis.password.get_secret_value(),
            f"{redis.host}:{redis.port}/{redis.database}",
        ),
        "AWS_ENDPOINT_URL": store.endpoint_url,
        **_search(settings.opensearch),
        **dagster_services.environment_of(places, settings),
        # dbt from dbt_project/; no HOST, which would say that ClickHouse is not the embedded one
        "BILTEN_CLICKHOUSE__PORT": str(clickhouse.port),
        "DBT_ENV_SECRET_CLICKHOUSE_PASSWORD": clickhouse.password.get_secret_value(),
        **({"BILTEN_HOME": os.environ["BILTEN_HOME"]} if "BILTEN_HOME" in os.environ else {}),
    }


def _search(opensearch: OpenSearchSettings) -> dict[str, str]:
    if not opensearch.enabled or opensearch.url is None:
        return {}
    scheme, _, rest = opensearch.url.rstrip("/").partition("://")
    return {"OPENSEARCH_URL": _url(scheme, opensearch.user, opensearch.password.get_secret_value(), rest)}


def _url(scheme: str, user: str, password: str, rest: str) -> str:
    account = f"{quote(user, safe='')}:{quote(password, safe='')}@" if user or password else ""
    return f"{scheme}://{account}{rest}"
