"""A Redis with keys, a repository for it, and what stands between the two and breaks."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from redis import Redis

from bilten_orchestration.backups.redis.restore import RestoreReport, restore
from bilten_orchestration.backups.repository import catalogue
from bilten_orchestration.backups.repository.manifest import Manifest
from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.local import ports
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import object_store, redis
from tests import stack
from tests.processes import living

SLICE = 1 << 20
KEPT = 4_000


@dataclass
class Cache:
    """A server with some MiB of keys, and a repository."""

    server: stack.Server
    settings: Settings
    base: Path

    @contextlib.contextmanager
    def client(self, database: int = 0) -> Iterator[Redis]:
        client = redis.connect(self.settings.redis.model_copy(update={"database": database}))
        yield client
        client.close()

    def listed(self) -> list[str]:
        with Opened.of(self.settings) as opened:
            found = catalogue.read(opened.repository, opened.ring)
        assert found.problems == ()
        return [backup.manifest.id for backup in found.backups]

    def manifest(self, backup_id: str) -> Manifest:
        with Opened.of(self.settings) as opened:
            return catalogue.read(opened.repository, opened.ring).find(backup_id).manifest

    def changed(self, **sections: dict[str, object]) -> Settings:
        return self.settings.model_copy(
            update={
                name: getattr(self.settings, name).model_copy(update=values)
                for name, values in sections.items()
            }
        )

    def damage(self, backup_id: str, how: str) -> str:
        """Damage the second object of a backup; its name."""
        with Opened.of(self.settings) as opened:
            manifest = catalogue.read(opened.repository, opened.ring).find(backup_id).manifest
            names = [each.name for each in manifest.objects]
            body = b"".join(opened.repository.read(names[1]))
            other = b"".join(opened.repository.read(names[2]))
        client = object_store.connect(self.settings.object_store)
        bucket, half = self.settings.object_store.bucket_backups, len(body) // 2
        if how == "removed":
            client.delete_object(Bucket=bucket, Key=names[1])
        else:
            new = {
                "flipped": body[:half] + bytes([body[half] ^ 1]) + body[half + 1 :],
                "cut": body[:half],
                "exchanged": other,
            }[how]
            client.put_object(Bucket=bucket, Key=names[1], Body=new)
        client.close()
        return names[1]

    def restored(self, backup_id: str, *, start: bool = False) -> RestoreReport:
        return restore(self.settings, backup_id, self.base / "restored", start=start)

    def servers_of_ours(self) -> list[psutil.Process]:
        """redis-servers that work below this test's directory, the one it began with aside."""
        return living(lambda process: process.cwd().startswith(f"{self.base}/restored"))


def fill(client: Redis, count: int) -> None:
    with client.pipeline(transaction=False) as pipeline:
        for number in range(count):
            pipeline.set(f"kept:{number}", os.urandom(800))
        pipeline.execute()


@contextlib.contextmanager
def proxy(settings: Settings, change: Callable[[bytes, int], bytes | None]) -> Iterator[Settings]:
    """Settings that lead through a wire which changes what the server sends: `change` gets each piece and how
    many bytes of this connection were before it; None cuts the connection."""
    host, port = settings.redis.host or "", settings.redis.port
    listener = socket.create_server((ports.LOOPBACK, 0))
    open_sockets: list[socket.socket] = [listener]

    def pump(source: socket.socket, sink: socket.socket, what: Callable[[bytes, int], bytes | None]) -> None:
        at = 0
        with contextlib.suppress(OSError):
            while piece := source.recv(1 << 16):
                passed = what(piece, at)
                if passed is None:
                    break
                at += len(piece)
                sink.sendall(passed)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                try:
                    far = socket.create_connection((host, port))
                except OSError:
                    near.close()
                    continue
                open_sockets.extend((near, far))
                for source, sink, what in ((near, far, lambda piece, at: piece), (far, near, change)):
                    threading.Thread(target=pump, args=(source, sink, what), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    address = {"host": ports.LOOPBACK, "port": listener.getsockname()[1]}
    yield settings.model_copy(update={"redis": settings.redis.model_copy(update=address)})
    for each in open_sockets:
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()
