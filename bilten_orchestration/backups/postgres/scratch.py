"""An empty PostgreSQL of our own, on a private socket, for a dump to be restored into.

The cluster is the embedded one's, with a superuser whom the socket lets in; private.py starts and stops it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import SecretStr

from bilten_orchestration.backups.postgres import private, programs
from bilten_orchestration.errors import Refused
from bilten_orchestration.local import postgres as embedded
from bilten_orchestration.local.privileges import reachable, server_user
from bilten_orchestration.progress import Progress
from bilten_orchestration.settings import PostgresSettings, Settings

_NEEDED = ("initdb", "postgres", "pg_ctl")


@contextmanager
def empty(settings: Settings, directory: Path, major: int, progress: Progress) -> Iterator[PostgresSettings]:
    """A server of that major version or a later one; the settings are its superuser's. `directory` is new,
    and the servers' user can walk to it.

    Raises Refused where there are no programs of a server, Mismatch when it does not start.
    """
    user = server_user()
    found = programs.directory(settings.postgres, major, or_newer=True)
    if settings.postgres.pg_bin is None:
        found = embedded.binaries(settings.home, user)
    missing = [name for name in _NEEDED if not (found / name).is_file()]
    if missing or not reachable(found, user):
        raise Refused(
            "a dump is proven by a server of our own, and there are no programs of one",
            expected=f"{', '.join(_NEEDED)} in {found}, where whoever runs the server can reach them",
            found=f"no {', '.join(missing)}"
            if missing
            else f"{found}, which {user and user.name} cannot reach",
            next="install PostgreSQL's server beside its clients, or unset BILTEN_POSTGRES__PG_BIN",
        )
    progress("making a server of our own")
    embedded.initialise(
        embedded.Cluster(
            data=directory,
            socket_directory=directory.with_name(f"{directory.name}.socket"),
            port=private.PORT,
            bin=found,
            user=user,
            durable=False,
        )
    )
    server = settings.postgres.model_copy(
        update={
            "port": private.PORT,
            "user": embedded.SUPERUSER,
            "password": SecretStr(""),
            "database": "postgres",
        }
    )
    running = private.start(directory, found, server, user, progress)
    try:
        yield server.model_copy(update={"host": str(running.socket)})
    finally:
        private.stop(directory)
