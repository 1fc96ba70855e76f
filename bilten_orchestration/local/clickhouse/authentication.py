"""Who is asking. A verified password is remembered as a keyed digest, so that scrypt runs once a login."""

import asyncio
import hashlib
import hmac
import logging
import os

from bilten_orchestration.local.clickhouse import protocol
from bilten_orchestration.local.clickhouse.config import EndpointConfig, User, hash_password, verify_password
from bilten_orchestration.local.clickhouse.engine import EngineError

log = logging.getLogger(__name__)


class Authentication:
    """Checks a name and a password against the configuration."""

    def __init__(self, config: EndpointConfig) -> None:
        self._users = dict(config.users)
        self._key = os.urandom(32)
        self._verified: dict[str, bytes] = {}
        # An unknown name costs as much time as a wrong password.
        self._nobody = hash_password("")
        # Guessing must not take all cores from the engine.
        self._guesses = asyncio.Semaphore(1)

    async def check(self, name: str, password: str, client: str) -> User:
        """The user; EngineError 194 without any password, 516 for a wrong name or password."""
        user = self._users.get(name)
        digest = hmac.digest(
            self._key, f"{name}\0{password}".encode(errors="surrogateescape"), hashlib.sha256
        )
        if user is not None and hmac.compare_digest(self._verified.get(name, b""), digest):
            return user
        hashed = user.password_hash if user is not None else self._nobody
        async with self._guesses:
            right = await asyncio.to_thread(verify_password, password, hashed)
        if user is None or not right:
            log.warning("login failed user=%r client=%s", name[:64], client)
            code = protocol.AUTHENTICATION_FAILED if password else protocol.REQUIRED_PASSWORD
            suffix = "AUTHENTICATION_FAILED" if password else "REQUIRED_PASSWORD"
            raise EngineError(
                code,
                f"{name[:64]}: Authentication failed: password is incorrect, or there is no user"
                " with such name."
                f" ({suffix})",
            )
        self._verified[name] = digest
        return user
