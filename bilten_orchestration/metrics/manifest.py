"""dbt's manifest: parsed once per state of the project, read by whoever needs the graph.

`prepare` runs `dbt parse` (no store needed) when the project's files or dbt itself have changed;
`bilten up` and every build call it. Loading definitions only ever reads what is there. Each state
lies in its own folder, named by its fingerprint and renamed into place whole, so that two that
prepare at once, or a kill in between, leave either a whole manifest or none.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bilten_orchestration.errors import Refused, TerminalError
from bilten_orchestration.metrics import dbt_call
from bilten_orchestration.metrics.days import Reach
from bilten_orchestration.progress import Progress, silent
from bilten_orchestration.settings import Settings

DAILY, WHOLE = "daily", "whole"
SWAP = "day_swap"
BUILD_SUFFIX = "__build"
KEPT = 3
MANIFEST = "manifest.json"
PARSED = "partial_parse.msgpack"
_SUFFIXES = (".sql", ".yml", ".yaml", ".csv", ".md")
_NOT_SOURCES = ("target", "logs", "dbt_packages", "__pycache__")


@dataclass(frozen=True, slots=True)
class Mart:
    """A mart that is swapped by day. `gates` are names of the tests that judge its build."""

    name: str
    unique_id: str
    build_id: str
    gates: tuple[str, ...]
    reach: Reach

    @property
    def table(self) -> str:
        return f"marts.{self.name}"


def fingerprint(project: Path = dbt_call.PROJECT) -> str:
    """Changes with every source file of the project, with dbt, and with what is kept of a parse."""
    digest = hashlib.sha256(f"{version('dbt-core')} {version('dbt-clickhouse')} {PARSED}".encode())
    for directory, folders, files in os.walk(project):
        folders[:] = sorted(folder for folder in folders if folder not in _NOT_SOURCES)
        for file in sorted(files):
            if file.endswith(_SUFFIXES):
                path = Path(directory, file)
                digest.update(f"\0{path.relative_to(project)}\0".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def directory(settings: Settings) -> Path:
    return settings.home / "dbt" / "manifest"


def prepare(settings: Settings, *, progress: Progress = silent) -> Path:
    """The manifest of the project as it is now, parsed if need be. Needs no store.

    Raises TerminalError with dbt's words when the project does not parse.
    """
    state = fingerprint()
    place = directory(settings) / state
    if not place.exists():
        progress("dbt: parsing the project")
        call = dbt_call.call(settings, f"parse-{state}-{os.getpid()}", "parse")
        code = dbt_call.run(call, progress)
        made = [call.target / name for name in (MANIFEST, PARSED)]
        if code != 0 or not all(path.exists() for path in made):
            raise TerminalError(
                "dbt could not parse the project",
                expected=" and ".join(path.name for path in made),
                found=f"exit code {code}",
                next=f"read {call.target / 'dbt.log'}",
            )
        scratch = directory(settings) / f".{state}-{os.getpid()}"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        for path in made:
            shutil.copy(path, scratch / path.name)
        try:
            scratch.rename(place)
        except OSError:  # somebody else was faster, with the same content
            shutil.rmtree(scratch)
        shutil.rmtree(call.target, ignore_errors=True)
        for old in _prepared(settings)[KEPT:]:
            shutil.rmtree(old.parent, ignore_errors=True)
    os.utime(place)
    return place / MANIFEST


def parsed(settings: Settings) -> Path | None:
    """The project as it is now, parsed, for a dbt that shall not parse it again; None before `prepare`."""
    path = directory(settings) / fingerprint() / PARSED
    return path if path.exists() else None


def find(settings: Settings) -> tuple[Path, bool]:
    """The manifest to load definitions from, and whether it belongs to the project as it is now.

    Never runs dbt. Raises Refused when none was ever prepared.
    """
    current = directory(settings) / fingerprint() / MANIFEST
    if current.exists():
        return current, True
    if prepared := _prepared(settings):
        return prepared[0], False
    raise Refused(
        "dbt's manifest has not been prepared",
        expected=str(current),
        found="nothing",
        next="bilten up prepares it",
    )


def _prepared(settings: Settings) -> list[Path]:
    """Newest first."""
    found = directory(settings).glob("[0-9a-f]*/manifest.json")
    return sorted(found, key=lambda path: path.parent.stat().st_mtime, reverse=True)


@lru_cache(maxsize=2)
def read(path: Path) -> Mapping[str, Any]:
    """The manifest as dbt wrote it (cached: 5 MB of JSON). Not to be changed by the reader."""
    content: Mapping[str, Any] = json.loads(path.read_bytes())
    return content


def marts(manifest: Mapping[str, Any]) -> tuple[Mart, ...]:
    """The marts that are swapped by day, by name.

    Raises TerminalError when the graph breaks the recipe: a mart without a build, or a build that
    nothing judges.
    """
    nodes: Mapping[str, Any] = manifest["nodes"]
    builds = {
        node["name"].removesuffix(BUILD_SUFFIX): unique_id
        for unique_id, node in nodes.items()
        if node["resource_type"] == "model" and node["name"].endswith(BUILD_SUFFIX)
    }
    found = []
    for unique_id, node in sorted(nodes.items()):
        if node["resource_type"] != "model" or node["config"].get("materialized") != SWAP:
            continue
        name = node["name"]
        gates = gates_of(nodes, name)
        if not gates or name not in builds:
            raise TerminalError(
                f"the mart {name} has no gate, so nothing could be swapped",
                expected=f"a model {name}{BUILD_SUFFIX} with tests of meta gate: true",
                found="none" if name in builds else f"no {name}{BUILD_SUFFIX}",
                next="see docs/metrics.md, how a mart is added",
            )
        found.append(Mart(name, unique_id, builds[name], gates, _reach(node, nodes[builds[name]])))
    return tuple(found)


def daily_marts(settings: Settings, progress: Progress = silent) -> tuple[Mart, ...]:
    """`marts` of the project as it is now, prepared if need be."""
    return marts(read(prepare(settings, progress=progress)))


def reach(found: Iterable[Mart]) -> Reach:
    """How far a changed day reaches into any of these marts."""
    widest = Reach()
    for mart in found:
        widest = widest.widest(mart.reach)
    return widest


def gates_of(nodes: Mapping[str, Any], mart: str) -> tuple[str, ...]:
    """Names of the tests that judge this mart; the same rule as the project's macro mart_of_gate."""
    return tuple(
        sorted(
            node["name"]
            for node in nodes.values()
            if node["resource_type"] == "test" and (meta := _meta(node)).get("gate")
            if mart == (meta.get("mart") or _last_part(node.get("attached_node")).removesuffix(BUILD_SUFFIX))
        )
    )


def _meta(node: Mapping[str, Any]) -> Mapping[str, Any]:
    return node["config"].get("meta") or {}


def _last_part(unique_id: str | None) -> str:
    return (unique_id or "").rpartition(".")[2]


def _reach(*nodes: Mapping[str, Any]) -> Reach:
    widest = Reach()
    for node in nodes:
        declared = _meta(node).get("dirty_expands") or {}
        widest = widest.widest(Reach(int(declared.get("back", 0)), int(declared.get("ahead", 0))))
    return widest
