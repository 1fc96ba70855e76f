"""Dagster's own services."""

from __future__ import annotations

from pydantic import Field

from bilten_orchestration.settings.section import Port, Section


class DagsterSettings(Section):
    """Webserver and daemon."""

    host: str = Field("127.0.0.1", description="Address the webserver binds to.")
    port: Port = Field(
        3000, description="Port of the UI; when taken, `up` names the holder and takes the next free one."
    )
    code_server_port: Port = Field(
        4000, description="Port of the server that loads the definitions, on this machine only."
    )
    url: str | None = Field(
        None, pattern=r"^https?://.+$", description="Where people reach the UI; unset: host and port."
    )
    max_concurrent_runs: int = Field(4, ge=1, le=100, description="Runs at once, over all pools.")
    max_run_seconds: int = Field(
        86_400,
        ge=600,
        le=30 * 86_400,
        description="A run that takes longer is taken for stuck, and ended; the tag dagster/max_runtime of a"
        " single run says otherwise.",
    )
    keep_runs_days: int = Field(
        35,
        ge=31,
        le=3650,
        description="A run that ended longer ago loses its events and logs, and its ticks theirs; what is"
        " still the newest of an asset or partition, or named by a backup, stays. Success rates take 30.",
    )
    prune_runs: int = Field(
        5000,
        ge=1,
        le=100_000,
        description="Runs that one clean-up removes at most; what is left over goes with the next.",
    )
