"""Start and stop one endpoint as a child process: for tests and whoever needs a scratch ClickHouse.

The stack itself runs the same command under its supervisor.
"""

import contextlib
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import psutil

from bilten_orchestration.errors import StoreUnavailable
from bilten_orchestration.local.clickhouse.config import EndpointConfig, write_config

CONFIG_NAME = "endpoint.json"
LOG_NAME = "endpoint.log"


def command(config_file: Path) -> list[str]:
    """The command line that runs an endpoint; the file carries everything, so no secret is in it."""
    return [sys.executable, "-m", "bilten_orchestration.local.clickhouse", "--config", str(config_file)]


@dataclass
class EndpointProcess:
    """A running endpoint. `url` is its HTTP address, `log_file` what it says."""

    config: EndpointConfig
    process: "subprocess.Popen[bytes]"
    log_file: Path

    @property
    def url(self) -> str:
        return f"http://{self.config.host}:{self.config.port}"

    def last_lines(self, count: int = 30) -> str:
        return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-count:])

    def listens(self) -> bool:
        """Whether this very process holds the port: somebody else may answer there."""
        with contextlib.suppress(psutil.Error):
            return any(
                link.status == psutil.CONN_LISTEN and link.laddr.port == self.config.port
                for link in psutil.Process(self.process.pid).net_connections(kind="tcp")
            )
        return False

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/ping", timeout=2) as answer:  # noqa: S310 - our own URL
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def stop(self, timeout_seconds: float = 30) -> int:
        """SIGTERM and wait; returns the exit code. Raises StoreUnavailable if it does not end."""
        self.process.terminate()
        try:
            return self.process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            raise StoreUnavailable(
                f"the ClickHouse endpoint (pid {self.process.pid}) did not end"
                f" within {timeout_seconds:g} s of SIGTERM",
                next=f"its last lines:\n{self.last_lines()}",
            ) from None

    def kill(self) -> None:
        """SIGKILL, as a crash would; the next start recovers by itself."""
        self.process.kill()
        self.process.wait()


def start(config: EndpointConfig, *, deadline_seconds: float = 60) -> EndpointProcess:
    """Write the configuration beside the data, start the process and wait until it answers.

    Raises StoreUnavailable with the log's last lines when it ends or stays silent.
    """
    config.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    config_file = config.data_dir / CONFIG_NAME
    write_config(config, config_file)
    log_file = config.data_dir / LOG_NAME
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            command(config_file), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=_root()
        )
    endpoint = EndpointProcess(config, process, log_file)
    deadline = time.monotonic() + deadline_seconds
    while process.poll() is None and time.monotonic() < deadline:
        if endpoint.listens() and endpoint.answers():
            return endpoint
        time.sleep(0.05)
    ended = process.poll()
    if ended is None:
        endpoint.kill()
    raise StoreUnavailable(
        "the ClickHouse endpoint did not start",
        expected=f"an answer at {endpoint.url}/ping within {deadline_seconds:g} s",
        found="silence" if ended is None else f"exit code {ended}",
        next=f"its last lines:\n{endpoint.last_lines()}",
    )


def _root() -> Path:
    return Path(__file__).resolve().parents[3]
