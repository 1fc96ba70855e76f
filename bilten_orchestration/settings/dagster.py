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
