"""Keys wrapped by KMS, against a server in this process that speaks the two calls of AWS's protocol.

That AWS's own KMS answers like this is not proven here (docs/backups.md).
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from bilten_orchestration.backups.repository import keys
from bilten_orchestration.backups.repository.encryption import Cipher
from bilten_orchestration.backups.repository.kms import Kms
from bilten_orchestration.errors import AccessRefused, Mismatch, Refused, StoreUnavailable
from bilten_orchestration.local import ports
from bilten_orchestration.settings import BackupSettings

ARN = "arn:aws:kms:eu-central-1:123456789012:key/one"


@dataclass
class FakeKms:
    url: str
    answer: tuple[int, str] | None = None
    calls: list[str] = field(default_factory=list)
    blobs: dict[bytes, tuple[bytes, dict[str, str]]] = field(default_factory=dict)

    def serve(self, call: str, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.calls.append(call)
        if self.answer is not None:
            status, code = self.answer
            return status, {"__type": code, "message": code}
        if call == "Encrypt":
            blob = f"blob {len(self.blobs)}".encode()
            self.blobs[blob] = base64.b64decode(asked["Plaintext"]), asked["EncryptionContext"]
            return 200, {"KeyId": ARN, "CiphertextBlob": base64.b64encode(blob).decode()}
        plain, context = self.blobs.get(base64.b64decode(asked["CiphertextBlob"]), (b"", {}))
        if asked["KeyId"] != ARN or asked["EncryptionContext"] != context:
            return 400, {"__type": "InvalidCiphertextException"}
        return 200, {"KeyId": ARN, "Plaintext": base64.b64encode(plain).decode()}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKms]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "for-kms-alone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "for-kms-alone")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, answer = found.serve(self.headers["X-Amz-Target"].partition(".")[2], asked)
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer((ports.LOOPBACK, 0), Handler)
    found = FakeKms(f"http://{ports.LOOPBACK}:{server.server_address[1]}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield found
    server.shutdown()
    server.server_close()


@pytest.fixture
def kms(fake: FakeKms) -> Kms:
    return Kms(BackupSettings(kms_key_id=ARN, kms_endpoint_url=fake.url))


def test_a_wrapped_key_lies_nowhere_and_works(tmp_path: Path, fake: FakeKms, kms: Kms) -> None:
    path = tmp_path / "keys.json"
    ring = keys.ensure(path, kms)
    assert ring.wrapped == {ring.current}
    assert ring.key(ring.current).hex() not in path.read_text()
    assert json.loads(path.read_text())["keys"][ring.current]["kms_key_id"] == ARN
    assert keys.read(path, kms) == ring
    before = len(fake.calls)
    message = Cipher(ring).encrypt_bytes(b"words", {"object": "one"})
    assert Cipher(ring).decrypt_bytes(message, {"object": "one"}) == b"words"
    assert len(fake.calls) == before, "objects are none of KMS's business"


def test_rotation_leaves_the_old_entries_as_they_are(tmp_path: Path, kms: Kms) -> None:
    path = tmp_path / "keys.json"
    plain = keys.ensure(path)
    entry = json.loads(path.read_text())["keys"][plain.current]
    first = keys.rotate(path, kms)
    wrapped = json.loads(path.read_text())["keys"][first.current]
    second = keys.rotate(path, kms)
    document = json.loads(path.read_text())["keys"]
    assert document[plain.current] == entry
    assert document[first.current] == wrapped
    assert second.wrapped == {first.current, second.current}
    assert set(second.keys) == {plain.current, first.current, second.current}
    off = Kms(BackupSettings(kms_endpoint_url=kms._settings.kms_endpoint_url))
    assert keys.rotate(path, off).wrapped == second.wrapped, "unset, new keys are plain and old ones read"


def test_an_entry_under_another_id_does_not_unwrap(tmp_path: Path, kms: Kms) -> None:
    path = tmp_path / "keys.json"
    first = keys.ensure(path, kms).current
    second = keys.rotate(path, kms).current
    document = json.loads(path.read_text())
    document["keys"][first] = document["keys"][second]
    path.write_text(json.dumps(document))
    with pytest.raises(Mismatch, match="does not decrypt"):
        keys.read(path, kms)
    document["keys"][first] = {"kms_key_id": ARN, "wrapped": "no base64!"}
    path.write_text(json.dumps(document))
    with pytest.raises(Mismatch, match="was altered"):
        keys.read(path, kms)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((400, "AccessDeniedException"), AccessRefused),
        ((400, "NotFoundException"), Mismatch),
        ((400, "KMSInvalidStateException"), Mismatch),
        ((400, "ThrottlingException"), StoreUnavailable),
        pytest.param((503, "Whatever"), StoreUnavailable, marks=pytest.mark.faults),
    ],
)
def test_what_kms_says_has_its_kind_of_error(
    tmp_path: Path,
    fake: FakeKms,
    kms: Kms,
    answer: tuple[int, str],
    error: type[Exception],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda seconds: None)  # between attempts
    path = tmp_path / "keys.json"
    keys.ensure(path, kms)
    before = path.read_text()
    fake.answer = answer
    with pytest.raises(error, match=fake.url):
        keys.read(path, kms)
    with pytest.raises(error):
        keys.rotate(path, kms)
    assert path.read_text() == before


def test_kms_away_and_no_kms_at_all(tmp_path: Path, kms: Kms) -> None:
    path = tmp_path / "keys.json"
    keys.ensure(path, kms)
    away = f"http://{ports.LOOPBACK}:{ports.any_free()}"
    with pytest.raises(StoreUnavailable, match="does not answer"):
        keys.read(path, Kms(BackupSettings(kms_endpoint_url=away)))
    with pytest.raises(Refused, match="wrapped by KMS"):
        keys.read(path)


def test_a_plain_file_asks_nobody(tmp_path: Path, fake: FakeKms) -> None:
    path = tmp_path / "keys.json"
    keys.ensure(path)
    keys.read(path, Kms(BackupSettings(kms_endpoint_url=fake.url)))
    assert fake.calls == []
