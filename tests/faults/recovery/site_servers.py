"""What `recover site` starts: servers of the test stack on the directories that it has filled."""

from __future__ import annotations

import tempfile
from pathlib import Path
from uuid import uuid4

from bilten_orchestration.backups.clickhouse import disks
from bilten_orchestration.backups.repository import keys
from bilten_orchestration.local import postgres as embedded
from bilten_orchestration.local import privileges
from bilten_orchestration.recovery import site
from bilten_orchestration.recovery.site_plan import data_directory
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import postgres
from tests import stack
from tests.conftest import Servers
from tests.processes import living
from tests.waiting import until


def _accepts(server: stack.PostgresServer) -> str:
    with postgres.connect(server.superuser, autocommit=True) as connection:
        connection.execute("select 1")
    return "ready"


def starter(servers: Servers, running: list[stack.Server], ring: keys.KeyRing) -> site.Start:
    """The servers of the test stack on the directories that were filled. ClickHouse runs on and keeps what a
    call that was killed left in it; a PostgreSQL that died with that call is started again."""

    def start(settings: Settings) -> Settings:
        server = next((each for each in running if isinstance(each, stack.PostgresServer)), None)
        if server is None:
            server = _postgres_on(servers, data_directory(settings) / "postgres")
            running.append(server)
        engine = next((each for each in running if isinstance(each, stack.ClickHouseServer)), None)
        if engine is None:
            engine = stack.start_clickhouse(
                servers.base,
                f"clickhouse-{uuid4()}",
                disks=disks.configuration(settings.object_store, ring),
            )
            running.append(engine)
        return settings.model_copy(update={"postgres": server.settings(), "clickhouse": engine.settings})

    return start


def _postgres_on(servers: Servers, data: Path) -> stack.PostgresServer:
    user = privileges.server_user()
    # also in a child that is killed, whose numbers are told again here
    place = Path(tempfile.mkdtemp(prefix="site-", dir=servers.base))
    place.chmod(0o755)
    until(
        lambda: not living(lambda process: Path(process.cwd()) == data.resolve()),
        "the server of a call that was killed to be gone",
    )
    cluster = embedded.Cluster(
        data=data,
        socket_directory=place / "socket",
        port=stack.ports.any_free(),
        bin=embedded.binaries(servers.base, user),
        user=user,
    )
    embedded.initialise(cluster)
    server = stack.PostgresServer(
        program=embedded.program(cluster),
        ready=lambda: _accepts(server),
        log=place / "log",
        user=user,
        cluster=cluster,
    )
    server.start()
    return server
