"""Makes .venv with the locked dependencies: `make` runs this, with any Python, before there is anything.

Standard library only, and readable by older Pythons, so that they get a message and no traceback.

What a kill leaves: a .venv without its stamp. The next run finishes it, or makes it anew where its
interpreter does not start. The stamp names what was installed (lock files, Python) and is written
last; a second run compares it and is done. Packages come from wherever pip or uv is configured to get
them (what one of the two was told, the other one is told as well); every file is checked against the
hash in the lock.
"""

from __future__ import annotations

import ast
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import NoReturn

FIRST, BEYOND = (3, 11), (3, 14)
CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
VENV = os.path.join(CHECKOUT, ".venv")
VENV_PYTHON = os.path.join(VENV, "bin", "python")
LOCKS = {"base": "requirements.lock", "lint": "requirements-lint.lock"}


def main(extras: list[str]) -> None:
    if not FIRST <= sys.version_info[:2] < BEYOND:
        fail(
            f"Python {sys.version_info[0]}.{sys.version_info[1]} cannot be used",
            "expected: 3.11, 3.12 or 3.13",
            "next: make PYTHON=/path/to/python3.12 up",
        )
    # One installer per checkout: `make up` and `make test` may be started side by side.
    os.makedirs(os.path.join(CHECKOUT, ".bilten"), exist_ok=True)
    with open(os.path.join(CHECKOUT, ".bilten", "install.lock"), "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in ("base", *extras):
            install(name)


def install(name: str) -> None:
    lock = os.path.join(CHECKOUT, LOCKS[name])
    stamp = os.path.join(VENV, ".installed-" + name)
    wanted = fingerprint(lock)
    if read(stamp) == wanted and os.path.exists(VENV_PYTHON):
        return
    started = time.monotonic()
    if os.path.exists(stamp):
        os.unlink(stamp)
    if name == "base":
        make_venv()
    say(f"installing {LOCKS[name]}")
    # compiled here, by all cores, as pip does it too: otherwise the first start of each program does, or,
    # with PYTHONDONTWRITEBYTECODE, every start
    with_uv = bootstrap_uv() and run_uv(
        "install", "--compile-bytecode", "--require-hashes", "--requirement", lock
    )
    if not with_uv:
        say("installing with pip")
        # the lock is complete; resolving it again, older pips refuse extras for want of a hash
        pip("install", "--no-deps", "--require-hashes", "--requirement", lock)
    if name == "base":
        editable = ("install", "--no-deps", "--no-build-isolation", "--editable", CHECKOUT)
        if not (with_uv and run_uv(*editable)):
            pip(*editable)
    with open(stamp + ".new", "w") as file:
        file.write(wanted)
    os.replace(stamp + ".new", stamp)
    say(f"installed in {time.monotonic() - started:.0f} s")


def make_venv() -> None:
    if (
        os.path.exists(VENV_PYTHON)
        and version_of(VENV_PYTHON) == f"{sys.version_info[0]}.{sys.version_info[1]}"
    ):
        return
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        fail(
            f"this Python ({sys.executable}) cannot make virtual environments",
            "expected: the modules venv and ensurepip",
            "next: on Debian and Ubuntu apt install python3-venv; elsewhere make PYTHON=/another/python up",
        )
    say("making .venv with Python " + sys.version.split()[0])
    if os.path.lexists(VENV):
        shutil.rmtree(VENV)
    result = subprocess.run([sys.executable, "-m", "venv", VENV], capture_output=True, text=True)
    if result.returncode:
        fail("python -m venv failed", (result.stderr or result.stdout).strip()[-500:])


def bootstrap_uv() -> bool:
    """uv installs in parallel, which is several times faster; it is in the lock, so pip checks its hash."""
    lock = os.path.join(CHECKOUT, LOCKS["base"])
    found = re.search(r"^uv==\S+.*?(?=^\S)", read(lock) + "\nend", re.MULTILINE | re.DOTALL)
    if found is None:
        return False
    part = os.path.join(VENV, "uv.lock")
    with open(part, "w") as file:
        file.write(found.group(0))
    return pip("install", "--require-hashes", "--no-deps", "--requirement", part, check=False)


def run_uv(*arguments: str) -> bool:
    """Whether uv did it. It does not read pip's configuration, so it gets that by environment (which,
    unlike arguments, other users of the machine cannot see: addresses may hold passwords)."""
    result = subprocess.run(
        [VENV_PYTHON, "-m", "uv", "pip", arguments[0], "--python", VENV_PYTHON, "--quiet", *arguments[1:]],
        env=dict(os.environ, **uv_environment(pip_configuration())),
        stderr=subprocess.PIPE,
        text=True,
    )
    if result.returncode:
        say("uv could not: " + without_credentials(result.stderr.strip()[-800:]))
    return result.returncode == 0


def uv_environment(configured: Mapping[str, str]) -> dict[str, str]:
    """pip's options, by uv's names. An option that the caller gave to uv itself stays."""
    names = {
        "index-url": "UV_DEFAULT_INDEX",
        "extra-index-url": "UV_INDEX",
        "find-links": "UV_FIND_LINKS",
        "no-index": "UV_NO_INDEX",
        "cert": "SSL_CERT_FILE",
        "trusted-host": "UV_INSECURE_HOST",
        "proxy": "ALL_PROXY",
        "timeout": "UV_HTTP_TIMEOUT",
    }
    given = {names[key]: value for key, value in configured.items() if key in names}
    if "UV_FIND_LINKS" in given:
        given["UV_FIND_LINKS"] = ",".join(given["UV_FIND_LINKS"].split())
    result = {"UV_NO_CONFIG": "1", "UV_LINK_MODE": "copy"}
    # pip takes a package from whichever index has it; the hashes say that it is the right one
    result["UV_INDEX_STRATEGY"] = os.environ.get("UV_INDEX_STRATEGY", "unsafe-best-match")
    older = {"UV_DEFAULT_INDEX": "UV_INDEX_URL", "UV_INDEX": "UV_EXTRA_INDEX_URL"}
    result.update(
        {
            name: value
            for name, value in given.items()
            if name not in os.environ and older.get(name, name) not in os.environ
        }
    )
    return result


def pip_environment(configured: Mapping[str, str]) -> dict[str, str]:
    """uv's indexes, by pip's names, where pip itself was told nothing of the kind."""
    result = {}
    for key, name, names in (
        ("index-url", "PIP_INDEX_URL", ("UV_DEFAULT_INDEX", "UV_INDEX_URL")),
        ("extra-index-url", "PIP_EXTRA_INDEX_URL", ("UV_INDEX", "UV_EXTRA_INDEX_URL")),
    ):
        found = next((os.environ[uv] for uv in names if os.environ.get(uv)), None)
        if found is not None and key not in configured:
            # uv allows a name before the address: internal=https://...
            result[name] = " ".join(re.sub(r"^[\w.-]+=(?=\w+://)", "", each) for each in found.split())
    return result


def pip_configuration() -> dict[str, str]:
    """pip's settings from its files and its environment, the latter winning: {"index-url": ..., ...}."""
    result = subprocess.run(
        [VENV_PYTHON, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    )
    levels: dict[str, dict[str, str]] = {}
    for line in result.stdout.splitlines():
        found = re.match(r"(:env:|\w+)\.([\w-]+)=(.*)", line)
        if found and found.group(1) in ("global", "install", ":env:"):
            try:
                value = ast.literal_eval(found.group(3))
            except (SyntaxError, ValueError):
                value = found.group(3)
            levels.setdefault(found.group(1), {})[found.group(2)] = str(value)
    merged: dict[str, str] = {}
    for level in ("global", "install", ":env:"):
        merged.update(levels.get(level, {}))
    if "default-timeout" in merged:
        merged.setdefault("timeout", merged["default-timeout"])
    return merged


def pip(*arguments: str, check: bool = True) -> bool:
    command = [VENV_PYTHON, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    environment = dict(os.environ, **pip_environment(pip_configuration()))
    result = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True)
    if result.returncode and check:
        fail(
            "the dependencies could not be installed",
            without_credentials(result.stderr.strip()[-1500:]),
            "next: see that pip reaches a package index (pip config list), then the same again",
        )
    return result.returncode == 0


def fingerprint(lock: str) -> str:
    digest = hashlib.sha256()
    for part in (read(lock), read(os.path.join(CHECKOUT, "pyproject.toml")), sys.version, CHECKOUT):
        digest.update(part.encode())
    return digest.hexdigest()


def version_of(python: str) -> str:
    result = subprocess.run(
        [python, "-c", "import pip, sys; print('%d.%d' % sys.version_info[:2])"],
        capture_output=True,
        text=True,
    )
    return result.stdout.strip()


def without_credentials(text: str) -> str:
    return re.sub(r"//[^/@\s]+@", "//***@", text)


def read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except FileNotFoundError:
        return ""


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def fail(*lines: str) -> NoReturn:
    say("error: " + "\n  ".join(lines))
    raise SystemExit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
