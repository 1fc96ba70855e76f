"""Keys of the key file, wrapped by a key of AWS KMS: the file alone then reads no backup.

A key is wrapped once, when it is made, and unwrapped once, when the ring is read; no object is ever sent to
KMS. The id of the key is its encryption context, so that an entry put under another id does not unwrap, and
CloudTrail names it. Credentials are AWS's own chain (environment, profile, role), not the object store's.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from bilten_orchestration.errors import AccessRefused, Mismatch, StoreUnavailable
from bilten_orchestration.settings import BackupSettings

_CONTEXT = "bilten-backup-key"
_REFUSED = {
    "AccessDeniedException",
    "UnrecognizedClientException",
    "InvalidSignatureException",
    "ExpiredTokenException",
    "MissingAuthenticationTokenException",
}
_PASSING = {
    "ThrottlingException",
    "KMSInternalException",
    "DependencyTimeoutException",
    "LimitExceededException",
}


class Kms:
    """`wraps` says whether new keys are to be wrapped. Nothing is sent until a key is."""

    def __init__(self, settings: BackupSettings) -> None:
        self._settings = settings

    @property
    def wraps(self) -> bool:
        return self._settings.kms_key_id is not None

    def wrap(self, key_id: str, key: bytes) -> dict[str, str]:
        """The entry of the key file. Raises AccessRefused, Mismatch (no such KMS key), StoreUnavailable."""
        answer = self._call(
            "encrypt", KeyId=self._settings.kms_key_id, Plaintext=key, EncryptionContext={_CONTEXT: key_id}
        )
        return {"kms_key_id": answer["KeyId"], "wrapped": base64.b64encode(answer["CiphertextBlob"]).decode()}

    def unwrap(self, key_id: str, entry: Mapping[str, str]) -> bytes:
        """The key of an entry. Raises as `wrap`; Mismatch too for an entry that was altered."""
        try:
            name, blob = entry["kms_key_id"], base64.b64decode(entry["wrapped"], validate=True)
        except (KeyError, TypeError, binascii.Error, ValueError):
            raise Mismatch(
                f"the entry of the key {key_id} was altered",
                expected="kms_key_id and wrapped (base64)",
                found="something else",
                next="put the copy of the key file that you keep elsewhere in its place",
            ) from None
        answer = self._call("decrypt", KeyId=name, CiphertextBlob=blob, EncryptionContext={_CONTEXT: key_id})
        key: bytes = answer["Plaintext"]
        return key

    def _call(self, name: str, **arguments: Any) -> Mapping[str, Any]:
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        where = self._settings.kms_endpoint_url or f"AWS KMS in {self._settings.kms_region}"
        client = self._client()
        try:
            answer: Mapping[str, Any] = getattr(client, name)(**arguments)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in _REFUSED:
                raise AccessRefused(
                    f"{where} does not {name} with {arguments['KeyId']}",
                    expected=f"credentials that may kms:{name.title()} with this key",
                    found=code,
                    next="correct AWS's credentials of this process, or the policy of the key",
                ) from None
            if code in _PASSING or error.response["ResponseMetadata"]["HTTPStatusCode"] >= 500:
                raise StoreUnavailable(
                    f"{where} does not {name} now", expected="an answer", found=code, next="try again"
                ) from None
            raise Mismatch(
                f"{where} does not {name} with {arguments['KeyId']}",
                expected="the KMS key that the keys were wrapped by, enabled, and the entry as written",
                found=code,
                next="see the state of that key in KMS; BILTEN_BACKUPS__KMS_REGION says where",
            ) from None
        except NoCredentialsError:
            raise AccessRefused(
                f"there are no credentials for {where}",
                expected="AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or a role",
                found="none",
                next="give this process AWS credentials",
            ) from None
        except BotoCoreError as error:
            raise StoreUnavailable(
                f"{where} does not answer",
                expected="an answer",
                found=type(error).__name__,
                next="correct BILTEN_BACKUPS__KMS_REGION or __KMS_ENDPOINT_URL, or try again",
            ) from None
        finally:
            client.close()
        return answer

    def _client(self) -> Any:
        import boto3
        from botocore.config import Config

        return boto3.client(
            "kms",
            region_name=self._settings.kms_region,
            endpoint_url=self._settings.kms_endpoint_url,
            config=Config(
                connect_timeout=10, read_timeout=30, retries={"mode": "standard", "max_attempts": 4}
            ),
        )
