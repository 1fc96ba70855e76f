"""Recovery."""

from __future__ import annotations

from pydantic import Field

from bilten_orchestration.settings.section import Section


class RecoverySettings(Section):
    """Recovery of rows and of whole stores."""

    lock_wait_seconds: int = Field(
        10,
        ge=1,
        le=3_600,
        description="How long copying rows back waits for a row that somebody else is writing; then nothing"
        " is changed, and the command can be repeated.",
    )
