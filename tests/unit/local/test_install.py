"""The installer: pip's configuration by uv's names, the lock itself, no credentials in what is printed."""

from __future__ import annotations

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from bilten_orchestration.local import install
from bilten_orchestration.settings import CHECKOUT

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
    assert "3.11, 3.12 or 3.13" in capsys.readouterr().err
