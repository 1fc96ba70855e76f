"""What one embedded ClickHouse endpoint needs to know, typed and bounded, read from a JSON file.

The file holds password hashes, never passwords, and must not be readable by others.
"""

import base64
import hashlib
import hmac
import json
import os
import stat
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from bilten_orchestration.errors import UsageError

GIB = 1024**3

Profile = Literal["etl", "analyst"]
UserName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,63}$")]
PasswordHash = Annotated[
    str, StringConstraints(pattern=r"^scrypt\$\d+\$\d+\$\d+\$[A-Za-z0-9+/=]+\$[A-Za-z0-9+/=]+$")
]

# RFC 7914 parameters: 16 MiB and about 40 ms a guess. A verified password is remembered in memory as a
# keyed digest, so that a request does not pay for it again.
_SCRYPT_N, _SCRYPT_R, _SCRYPT_P = 2**14, 8, 1


class ConfigError(UsageError):
    """The endpoint's configuration cannot be used; the message says what, where and what is accepted."""


def hash_password(password: str) -> str:
    """Salted scrypt hash in the form `scrypt$n$r$p$salt$key` (base64) that the config file holds."""
    salt = os.urandom(16)
    key = hashlib.scrypt(password.encode(), salt=salt, n=_SCRYPT_N, r=_SCRYPT_R, p=_SCRYPT_P)
    return "$".join(
        ["scrypt", str(_SCRYPT_N), str(_SCRYPT_R), str(_SCRYPT_P)]
        + [base64.b64encode(part).decode() for part in (salt, key)]
    )


def verify_password(password: str, hashed: str) -> bool:
    """Whether the password belongs to the hash; in constant time."""
    _, n, r, p, salt, key = hashed.split("$")
    given = password.encode(errors="surrogateescape")  # a URL may carry any bytes
    found = hashlib.scrypt(given, salt=base64.b64decode(salt), n=int(n), r=int(r), p=int(p))
    return hmac.compare_digest(found, base64.b64decode(key))


class User(BaseModel):
    """One login. `etl` may do everything, `analyst` may read what access.py lists and nothing else."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    password_hash: PasswordHash = Field(repr=False, description="Made by hash_password().")
    profile: Profile


class EndpointConfig(BaseModel):
    """Settings of one endpoint process. Sizes in bytes, times in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data_dir: Path = Field(description="The engine's directory; one process at a time (it is locked).")
    users: dict[UserName, User] = Field(min_length=1, description="Logins by name.")
    host: str = Field("127.0.0.1", description="Address to listen on. No TLS here: keep it on loopback.")
    port: int = Field(ge=1, le=65535, description="TCP port of the HTTP interface.")
    display_name: str = Field("bilten", description="What displayName() and the response header say.")

    max_server_memory_bytes: int = Field(
        GIB,
        ge=256 * 1024**2,
        description="Ceiling of the whole engine; a query above it fails with code 241.",
    )
    max_query_memory_bytes: int = Field(
        768 * 1024**2,
        ge=64 * 1024**2,
        description="Default max_memory_usage of one query; a client may set its own.",
    )
    background_threads: int = Field(2, ge=1, le=16, description="Threads for merges and mutations.")
    max_concurrent_queries: int = Field(32, ge=1, le=500, description="Queries that run at once.")
    max_waiting_queries: int = Field(
        128,
        ge=0,
        le=10_000,
        description="Queries that may wait for a place; one more is refused with code 202.",
    )
    max_wait_seconds: float = Field(60, gt=0, le=3600, description="How long a query waits before code 202.")
    max_sessions: int = Field(1000, ge=1, description="Open sessions (session_id); one more is refused.")
    default_session_timeout_seconds: int = Field(
        60, ge=1, description="Idle time after which a session ends."
    )
    max_session_timeout_seconds: int = Field(
        3600, ge=1, description="Largest session_timeout a client may ask."
    )
    query_log_days: int = Field(14, ge=1, le=3650, description="How long system.query_log keeps its rows.")
    shutdown_grace_seconds: float = Field(
        5, ge=0, le=600, description="After SIGTERM running queries get this long, then they are killed."
    )
    extra_engine_config: Path | None = Field(
        None,
        description="XML fragment (<clickhouse>...</clickhouse>) merged into the engine's"
        " configuration: disks, backups.",
    )


def load_config(path: Path) -> EndpointConfig:
    """Read and check the file; raises ConfigError naming every wrong field at once."""
    try:
        mode = path.stat().st_mode
        text = path.read_text()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    if stat.S_IMODE(mode) & 0o077:
        raise ConfigError(
            f"{path} is readable by others (mode {stat.S_IMODE(mode):04o}); expected 0600,"
            f" run: chmod 600 {path}"
        )
    try:
        config = EndpointConfig.model_validate(json.loads(text))
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path} is not JSON: {error}") from None
    except ValidationError as error:
        # include_input=False: what stands in the file may be a secret.
        wrong = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc']) or 'document'}: {problem['msg']}"
            for problem in error.errors(include_input=False, include_url=False)
        )
        raise ConfigError(f"{path}: {wrong}") from None
    if config.extra_engine_config is not None and not config.extra_engine_config.is_file():
        raise ConfigError(f"{path}: extra_engine_config: {config.extra_engine_config} does not exist")
    return config


def write_config(config: EndpointConfig, path: Path) -> None:
    """Write the file with mode 0600, atomically: a reader sees the old or the new one."""
    document = config.model_dump(mode="json")
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(document, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
