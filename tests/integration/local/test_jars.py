"""The jars of the embedded OpenSearch, asked of a Maven repository that does not have what it should."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bilten_orchestration.errors import Mismatch, Refused, StoreUnavailable
from bilten_orchestration.local import ports
from bilten_orchestration.local.opensearch import jars
from bilten_orchestration.progress import silent


class Repository(http.server.BaseHTTPRequestHandler):
    """Answers `status` to everything, with the same few bytes."""

    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"jar")

    def do_HEAD(self) -> None:
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing: pytest's output is for people."""


@pytest.fixture
def repository() -> Iterator[str]:
    with http.server.ThreadingHTTPServer((ports.LOOPBACK, 0), Repository) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{ports.LOOPBACK}:{server.server_port}/maven2"
        server.shutdown()


def test_a_repository_that_does_not_answer_is_named_without_its_password(tmp_path: Path) -> None:
    nobody = f"{ports.LOOPBACK}:{ports.any_free()}/maven2"
    with pytest.raises(jars.NotFetched) as caught:
        jars.installation(tmp_path, f"http://me:secret@{nobody}/", silent)
    assert caught.value.address == f"http://***@{nobody}"
    assert "secret" not in str(caught.value)
    assert "Connection refused" in caught.value.problems[0].found


def test_a_jar_that_is_not_there_is_named(
    tmp_path: Path, repository: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Repository, "status", 404)
    with pytest.raises(jars.NotFetched, match=r"^\S+:\S+:\S+ cannot be fetched") as caught:
        jars.installation(tmp_path, repository.replace("//", "//me:secret@"), silent)
    assert caught.value.address == repository.replace("//", "//***@")
    assert "secret" not in str(caught.value)


def test_other_bytes_are_not_taken_for_an_absence(tmp_path: Path, repository: str) -> None:
    with pytest.raises(Mismatch, match="is not the jar that was locked"):
        jars.installation(tmp_path, repository, silent)
    assert [path for path in tmp_path.iterdir() if path.suffix != ".part"] == []


def test_a_disk_that_takes_no_jar_is_not_taken_for_an_absence(tmp_path: Path, repository: str) -> None:
    with pytest.raises(StoreUnavailable, match="does not answer"):  # makes the directory
        jars.installation(tmp_path, f"http://{ports.LOOPBACK}:{ports.any_free()}", silent)
    (growing,) = tmp_path.iterdir()
    (growing / "fetched").touch()  # where a directory should be
    with pytest.raises(Refused, match="cannot be written"):
        jars.installation(tmp_path, repository, silent)
