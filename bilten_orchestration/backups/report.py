"""What taking a backup tells."""

from __future__ import annotations

from dataclasses import dataclass

from bilten_orchestration.backups.repository.manifest import Manifest


@dataclass(frozen=True, slots=True)
class BackupReport:
    """A backup that was taken. `ratio` is raw by stored bytes.

    `manifest.kind` may be full where an incremental was asked for: see its details.
    """

    manifest: Manifest
    seconds: float

    @property
    def ratio(self) -> float:
        return self.manifest.raw_bytes / max(self.manifest.stored_bytes, 1)

    @property
    def bytes_per_second(self) -> float:
        return self.manifest.raw_bytes / self.seconds
