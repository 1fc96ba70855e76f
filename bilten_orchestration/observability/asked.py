"""What the watchdog of this machine answers to a question about health."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from bilten_orchestration.errors import AccessRefused, StoreUnavailable
from bilten_orchestration.local import addresses
from bilten_orchestration.settings import Settings

_SECONDS = 10


def asked(settings: Settings) -> dict[str, Any]:
    """/health with the token, as documents.Health has it. Raises StoreUnavailable, AccessRefused."""
    url = f"{addresses.watchdog_here(settings)}/health"
    token = settings.serve.token.get_secret_value()
    request = urllib.request.Request(  # noqa: S310 - our own process
        url, headers={"Authorization": f"Bearer {token}"} if token else {}
    )
    try:
        try:
            with urllib.request.urlopen(request, timeout=_SECONDS) as answer:  # noqa: S310
                document = json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code == 401:
                raise AccessRefused(
                    f"the watchdog at {url} does not accept the token",
                    expected="the BILTEN_SERVE__TOKEN that it was started with",
                    found="401",
                    next="set BILTEN_SERVE__TOKEN; with the embedded stack unset it, bilten up knows it",
                ) from None
            if error.code != 503:
                raise
            document = json.load(error)  # it is an answer: something is wrong
    except (OSError, ValueError) as error:
        raise StoreUnavailable(
            f"the watchdog does not answer at {url}",
            expected="its document about health",
            found=f"{type(error).__name__}: {error}",
            next="bilten up starts it; bilten logs watchdog",
        ) from None
    return dict(document)
