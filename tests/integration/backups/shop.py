"""A server of its own with some MiB of rows, and a repository."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bilten_orchestration.backups.postgres.restore import restore
from bilten_orchestration.backups.postgres.targets import Target
from bilten_orchestration.backups.repository import catalogue
from bilten_orchestration.backups.repository.opened import Opened
from bilten_orchestration.settings import Settings
from bilten_orchestration.stores import object_store, postgres
from tests import stack

SLICE = 4 << 20
DIGEST = "select count(*), coalesce(sum(hashtextextended(t::text, 0)), 0) from kept t"


@dataclass
class Shop:
    """What the tests ask of both."""

    server: stack.PostgresServer
    settings: Settings
    base: Path

    def digest(self) -> tuple[object, ...]:
        with postgres.connect(self.settings.postgres) as connection:
            row = connection.execute(DIGEST).fetchone()
        assert row is not None
        return tuple(row)

    def listed(self) -> list[str]:
        with Opened.of(self.settings) as opened:
            found = catalogue.read(opened.repository, opened.ring)
        assert found.problems == ()
        return [backup.manifest.id for backup in found.backups]

    def damage(self, how: str, name: str, other: str) -> None:
        """One object of the repository is flipped, cut, removed, or exchanged for the other one."""
        with Opened.of(self.settings) as opened:
            body, foreign = (b"".join(opened.repository.read(each)) for each in (name, other))
        half = len(body) // 2
        new = {
            "flipped": body[:half] + bytes([body[half] ^ 1]) + body[half + 1 :],
            "cut": body[:half],
            "removed": None,
            "exchanged": foreign,
        }[how]
        client = object_store.connect(self.settings.object_store)
        bucket = self.settings.object_store.bucket_backups
        if new is None:
            client.delete_object(Bucket=bucket, Key=name)
        else:
            client.put_object(Bucket=bucket, Key=name, Body=new)
        client.close()

    def restored(self, backup_id: str) -> Path:
        target = self.base / "restored"
        restore(self.settings, Target("backup", backup_id), target)
        return target


@contextmanager
def writing(shop: Shop) -> Iterator[None]:
    """Somebody commits all the time."""
    done = threading.Event()

    def write() -> None:
        with postgres.connect(shop.settings.postgres, autocommit=True) as connection:
            while not done.is_set():
                connection.execute(
                    "insert into moving (words) select repeat('x', 500) from generate_series(1, 50)"
                )

    thread = threading.Thread(target=write)
    thread.start()
    yield
    done.set()
    thread.join()
