"""The installer: pip's configuration by uv's names, the lock itself, no credentials in what is printed; and
`make up` in a checkout whose packages are small, on a machine that has nothing."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from bilten_orchestration.local import install
from bilten_orchestration.settings import CHECKOUT
from tests import bare_machine
from tests.waiting import until

LOCKS = [CHECKOUT / name for name in install.LOCKS.values()]


def test_pip_configuration_becomes_uv_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_FIND_LINKS", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    found = install.uv_environment(
        {
            "index-url": "https://a/simple",
            "find-links": "/one /two",
            "cert": "/ca.pem",
            "disable-pip-version-check": "1",
        }
    )
    assert found["UV_DEFAULT_INDEX"] == "https://a/simple"
    assert found["UV_FIND_LINKS"] == "/one,/two"
    assert found["SSL_CERT_FILE"] == "/ca.pem"
    assert not any("VERSION_CHECK" in name for name in found)


def test_what_the_caller_gave_uv_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://mine/simple")
    assert "UV_DEFAULT_INDEX" not in install.uv_environment({"index-url": "https://a/simple"})


@pytest.mark.parametrize("name", ["UV_DEFAULT_INDEX", "UV_INDEX_URL"])
def test_an_index_that_uv_was_given_is_pips_too(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for each in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL"):
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setenv(name, "https://mine/simple")
    monkeypatch.setenv("UV_INDEX", "own=https://a/simple https://b/simple")
    assert install.pip_environment({}) == {
        "PIP_INDEX_URL": "https://mine/simple",
        "PIP_EXTRA_INDEX_URL": "https://a/simple https://b/simple",
    }
    pips = {"index-url": "https://pip/simple", "extra-index-url": "https://c/simple"}
    assert install.pip_environment(pips) == {}
    assert not {"UV_DEFAULT_INDEX", "UV_INDEX"} & set(install.uv_environment(pips))


def test_credentials_are_masked() -> None:
    text = install.without_credentials("error at https://me:secret@index.example/simple/x")
    assert text == "error at https://***@index.example/simple/x"


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_the_lock_names_no_index_and_hashes_everything(lock: object) -> None:
    text = CHECKOUT.joinpath(str(lock)).read_text()
    assert not re.search(r"://|^\s*--(index-url|extra-index-url|find-links)", text, re.MULTILINE)
    entries = re.findall(r"^(\S+)==\S+.*?(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)
    hashed = re.findall(r"^(\S+)==\S+[^\n]*\\\n    --hash=sha256:[0-9a-f]{64}", text, re.MULTILINE)
    assert entries == hashed != []


def test_the_base_lock_has_what_the_installer_starts_with() -> None:
    text = LOCKS[0].read_text()
    assert re.search(r"^uv==", text, re.MULTILINE)
    assert re.search(r"^setuptools==", text, re.MULTILINE)
    assert re.search(r"^dbt-core==1\.11\.", text, re.MULTILINE)


def test_the_lock_has_everything_that_the_project_names() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    locked = dict(re.findall(r"^([a-z0-9.-]+)==([^\s;]+)", LOCKS[0].read_text(), re.MULTILINE))
    for text in (*project["dependencies"], *project["optional-dependencies"]["test"]):
        requirement = Requirement(text)
        version = locked.get(canonicalize_name(requirement.name))
        assert version is not None, f"{text} is not in the lock: make lock"
        assert requirement.specifier.contains(version), f"{text}, and the lock has {version}: make lock"


def test_an_older_python_gets_a_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(install.sys, "version_info", (3, 9, 1))
    with pytest.raises(SystemExit):
        install.main([])
    told = capsys.readouterr().err
    assert "Python 3.9 cannot be used" in told
    assert "3.11, 3.12 or 3.13" in told
    assert "make PYTHON=" in told


# What the small project builds itself with. It stops half way as long as the file `hold` is there.
BACKEND = """
import pathlib, time, zipfile

def build_editable(directory, config_settings=None, metadata_directory=None):
    if pathlib.Path("hold").exists():
        pathlib.Path("held").touch()
        time.sleep(600)
    name = "small-1-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(directory, name), "w") as wheel:
        wheel.writestr("small-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: small\\nVersion: 1\\n")
        wheel.writestr("small-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nTag: py3-none-any\\n")
        wheel.writestr("small-1.dist-info/RECORD", "")
    return name
"""


class Checkout:
    """Makefile and installer as they are; of packages there is one, whose program is called bilten."""

    def __init__(self, base: Path) -> None:
        self.root = base / "checkout"
        self.wheels = base / "wheels"
        self.wheels.mkdir()
        place = self.root / "bilten_orchestration" / "local"
        place.mkdir(parents=True)
        shutil.copy(install.__file__, place)
        shutil.copy(CHECKOUT / "Makefile", self.root)
        (self.root / "pyproject.toml").write_text(
            '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        )
        (self.root / "backend.py").write_text(BACKEND)
        self.path = bare_machine.path(base / "bare")
        self.lock("1.0")

    def lock(self, version: str) -> None:
        """What there is to install from now on."""
        wheel, about = self.wheels / f"thing-{version}-py3-none-any.whl", f"thing-{version}.dist-info"
        files = {
            "thing.py": f"import sys\ndef main(): print({version!r}, *sys.argv[1:])\n",
            f"{about}/METADATA": f"Metadata-Version: 2.1\nName: thing\nVersion: {version}\n",
            f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{about}/entry_points.txt": "[console_scripts]\nbilten = thing:main\n",
        }
        with zipfile.ZipFile(wheel, "w") as file:
            for name, text in files.items():
                file.writestr(name, text)
            file.writestr(f"{about}/RECORD", "".join(f"{name},,\n" for name in files))
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        (self.root / "requirements.lock").write_text(f"thing=={version} --hash=sha256:{digest}\n")

    def make(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [f"{self.path}/make", *arguments],
            cwd=self.root,
            env={
                "PATH": self.path,
                "HOME": str(self.root),
                "PIP_CONFIG_FILE": os.devnull,
                "PIP_NO_INDEX": "1",
                "PIP_FIND_LINKS": str(self.wheels),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def up(self) -> tuple[str, list[str]]:
        """What bilten said, and what the installer told before."""
        process = self.make("up", "ARGS=--no-demo")
        said, told = process.communicate(timeout=300)
        assert process.returncode == 0, said + told
        return said.strip(), [line for line in told.splitlines() if not line.startswith("installed in ")]


def test_make_up_installs_what_is_missing_and_nothing_twice(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    pip = "installing with pip"  # uv is in no lock here
    (checkout.root / "hold").touch()
    killed = checkout.make("up")
    until(lambda: (checkout.root / "held").exists() or killed.poll() is not None, "half of the work", 300)
    os.killpg(killed.pid, signal.SIGKILL)
    _, told = killed.communicate()
    making, *rest = told.splitlines()
    assert making.startswith("making .venv with Python 3.")
    assert rest == ["installing requirements.lock", pip]
    (checkout.root / "hold").unlink()
    # it is finished, in the .venv that is there
    assert checkout.up() == ("1.0 up --no-demo", ["installing requirements.lock", pip])
    assert checkout.up() == ("1.0 up --no-demo", [])
    checkout.lock("2.0")
    assert checkout.up() == ("2.0 up --no-demo", ["installing requirements.lock", pip])
    # and one whose Python has gone is made anew
    (checkout.root / ".venv" / "bin" / "python").unlink()
    assert checkout.up() == ("2.0 up --no-demo", [making, "installing requirements.lock", pip])
