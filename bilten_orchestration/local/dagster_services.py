"""Dagster as part of the embedded stack: one code server, the webserver, the daemon.

The code server loads the definitions once for all; webserver and daemon use a workspace that points
at it. DAGSTER_HOME is in the state directory and its dagster.yaml names variables, never values:
DAGSTER_POSTGRES_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY come with the environment (`bilten
env` exports them for Dagster's own command line).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, urlencode

from bilten_orchestration.local import stack_env
from bilten_orchestration.local.fingerprint import fingerprint
from bilten_orchestration.local.layout import Layout
from bilten_orchestration.local.ports import LOOPBACK
from bilten_orchestration.local.privileges import server_file
from bilten_orchestration.local.programs import Program
from bilten_orchestration.settings import CHECKOUT, PREFIX, Settings
from bilten_orchestration.settings.loading import as_environment

MODULE = "bilten_orchestration.definitions"
LOCATION = "bilten"
CODE_SERVER, WEBSERVER, DAEMON = "dagster-code", "dagster-webserver", "dagster-daemon"
RUN_WORKER_CRASH_RETRIES = 2
# what steps print, by run: in the bucket and, until it is there, in DAGSTER_HOME
COMPUTE_LOGS = "compute-logs"
# a mirror named for one `up` is no news to a service
_OF_UP_ALONE = (f"{PREFIX}HOME", f"{PREFIX}OPENSEARCH__MAVEN_URL")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
NETWORK = frozenset(
    (
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE", "PGSSLROOTCERT"),
        *_PROXIES,
        *(name.upper() for name in _PROXIES),
    )
)
"""How outside stores are reached, by names that are not ours: certificates and proxies."""


def initialise(layout: Layout, settings: Settings) -> None:
    """Write dagster.yaml and the workspace (JSON, which is YAML as well)."""
    server_file(layout.dagster_home / "dagster.yaml", json.dumps(instance(layout, settings), indent=2), None)
    server_file(layout.dagster_home / "workspace.yaml", json.dumps(workspace(settings), indent=2), None)
    (layout.dagster_home / COMPUTE_LOGS).mkdir(mode=0o700, exist_ok=True)


def programs(
    layout: Layout, settings: Settings, *, outside: bool, caller: Mapping[str, str] | None = None
) -> tuple[Program, ...]:
    """The three services; `outside` and `caller` as `environment_of_services` takes them."""
    environment = environment_of(layout, settings) | environment_of_services(
        layout, settings, outside=outside, caller=caller
    )
    workspace_file = str(layout.dagster_home / "workspace.yaml")

    def service(
        name: str, port: int, order: int, *arguments: str, extra: Mapping[str, str] | None = None
    ) -> Program:
        return Program(
            name=name,
            argv=(sys.executable, "-m", *arguments),
            directory=layout.dagster_home,
            port=port,
            environment=environment | dict(extra or {}),
            files=(layout.dagster_home / "dagster.yaml", layout.dagster_home / "workspace.yaml"),
            stop_seconds=15,
            start_seconds=15,  # imports alone take seconds
            start_order=order,
        )

    return (
        service(
            CODE_SERVER,
            settings.dagster.code_server_port,
            20,
            "dagster",
            "api",
            "grpc",
            "--module-name",
            MODULE,
            "--host",
            LOOPBACK,
            "--port",
            str(settings.dagster.code_server_port),
            "--location-name",
            LOCATION,
            extra={"CODE_FINGERPRINT": fingerprint("bilten_orchestration", "dbt_project")},
        ),
        service(
            WEBSERVER,
            settings.dagster.port,
            30,
            "dagster_webserver",
            "--host",
            settings.dagster.host,
            "--port",
            str(settings.dagster.port),
            "--workspace",
            workspace_file,
            # its storages keep one connection each and open up to this many more while pages load
            "--db-pool-max-overflow",
            "10",
        ),
        service(DAEMON, 0, 30, "dagster._daemon", "run", "--workspace", workspace_file),
    )


def environment_of_services(
    layout: Layout, settings: Settings, *, outside: bool, caller: Mapping[str, str] | None = None
) -> dict[str, str]:
    """What our own Python services get. It follows from the settings, so that `up` from another shell
    restarts nothing; `outside`: some store has an address of its own, and what `caller` (default: our
    environment) says of the way there goes along."""
    # stack.env they read by themselves: a service does not start again because another one moved
    recorded = stack_env.read(layout.stack_env)
    given = {
        name: value
        for name, value in as_environment(settings).items()
        if name not in _OF_UP_ALONE and recorded.get(name) != value
    }
    network = (
        {name: value for name, value in (os.environ if caller is None else caller).items() if name in NETWORK}
        if outside
        else {}
    )
    return network | given | _python()


def environment_of(layout: Layout, settings: Settings) -> dict[str, str]:
    """What dagster.yaml refers to, and DAGSTER_HOME. Holds secrets."""
    store = settings.object_store
    return {
        "DAGSTER_HOME": str(layout.dagster_home),
        "DAGSTER_POSTGRES_URL": storage_url(settings),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "AWS_ACCESS_KEY_ID": store.access_key_id.get_secret_value(),
        "AWS_SECRET_ACCESS_KEY": store.secret_access_key.get_secret_value(),
        "AWS_DEFAULT_REGION": store.region,
        "AWS_EC2_METADATA_DISABLED": "true",
        # S3-compatible servers answer the newer default checksums with errors
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
    }


def storage_url(settings: Settings) -> str:
    """Where Dagster keeps runs and events, as SQLAlchemy reads it. Holds the password.

    The driver is named: without a name SQLAlchemy 2.1 takes psycopg 3, which sends NOTIFY with a
    bound parameter, and every run event fails with a syntax error.
    """
    postgres = settings.postgres
    user = quote(postgres.dagster_user, safe="")
    password = quote(postgres.dagster_password.get_secret_value(), safe="")
    query = {
        "sslmode": postgres.sslmode,
        "connect_timeout": postgres.connect_timeout_seconds,
        "application_name": "dagster",
    }
    host = postgres.host or LOOPBACK
    if host.startswith("/"):
        query["host"], host = host, ""
    elif ":" in host:
        host = f"[{host}]"
    database = quote(postgres.dagster_database, safe="")
    return f"postgresql+psycopg2://{user}:{password}@{host}:{postgres.port}/{database}?{urlencode(query)}"


def instance(layout: Layout, settings: Settings) -> dict[str, object]:
    """dagster.yaml."""
    store, days = settings.object_store, settings.dagster.keep_runs_days
    return {
        "storage": {"postgres": {"postgres_url": {"env": "DAGSTER_POSTGRES_URL"}}},
        "compute_logs": {
            "module": "dagster_aws.s3.compute_log_manager",
            "class": "S3ComputeLogManager",
            "config": {
                "bucket": store.bucket_dagster,
                "prefix": COMPUTE_LOGS,
                "endpoint_url": store.endpoint_url,
                "region": store.region,
                "use_ssl": (store.endpoint_url or "").startswith("https://"),
                "local_dir": str(layout.dagster_home / COMPUTE_LOGS),
                "upload_interval": 30,  # seconds: the logs of a run are readable while it runs
                "skip_empty_files": True,
            },
        },
        "run_coordinator": {"module": "dagster.core.run_coordinator", "class": "QueuedRunCoordinator"},
        "concurrency": {
            "runs": {"max_concurrent_runs": settings.dagster.max_concurrent_runs},
            # a pool names what must not overlap, so it has one slot unless somebody says otherwise
            "pools": {"default_limit": 1, "granularity": "op"},
        },
        "run_monitoring": {
            "enabled": True,
            "poll_interval_seconds": 30,
            "start_timeout_seconds": 180,
            "cancel_timeout_seconds": 180,
            "max_runtime_seconds": settings.dagster.max_run_seconds,
            # a killed run would hold its pool slots for ever
            "free_slots_after_run_end_seconds": 60,
        },
        # Only a worker that crashed is tried again here. A step that failed has said
        # (face.py) whether it wants another try.
        "run_retries": {
            "enabled": True,
            "max_retries": RUN_WORKER_CRASH_RETRIES,
            "retry_on_asset_or_op_failure": False,
        },
        "schedules": {"use_threads": True, "num_workers": 4},
        "sensors": {"use_threads": True, "num_workers": 4},
        "retention": {
            # as long as the runs that they started (observability/runs); of ticks that did nothing there are
            # thousands a day
            "schedule": {"purge_after_days": days},
            "sensor": {
                "purge_after_days": {"skipped": 2, **dict.fromkeys(("failure", "started", "success"), days)}
            },
        },
        "telemetry": {"enabled": False},
        "nux": {"enabled": False},
    }


def workspace(settings: Settings) -> dict[str, object]:
    return {
        "load_from": [
            {
                "grpc_server": {
                    "host": LOOPBACK,
                    "port": settings.dagster.code_server_port,
                    "location_name": LOCATION,
                }
            }
        ]
    }


def _python() -> dict[str, str]:
    return {
        "PYTHONPATH": str(CHECKOUT),
        "PYTHONUNBUFFERED": "1",
        "PATH": f"{Path(sys.executable).parent}:{os.defpath}",
    }
