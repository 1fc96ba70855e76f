"""dbt, as a child that dies with the process that started it.

A killed build must not leave a dbt behind that goes on swapping after its locks are gone. So this is
what is started instead of the `dbt` script: it asks the kernel for SIGKILL at the death of its parent
(prctl, Linux; elsewhere a watching thread does the same within a second), then becomes dbt.

Variables end dbt's own partial parsing (each change of --vars parses all files anew, some seconds of every
build), so the child is given the project as parsed beforehand (metrics/manifest.py) and puts in the one thing
that parsing takes from variables: the id of the run in the names of build tables.

Nothing of the platform is imported here: the child holds dbt and its adapter, no more.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """`parent` is the pid of who started us; when it is gone already, leave at once."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:  # it died before the request was made
        os.kill(os.getpid(), signal.SIGKILL)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGKILL)


def parsed_for(content: bytes, arguments: Sequence[str]) -> Any:
    """dbt's manifest from what a parse left (partial_parse.msgpack), for a call with these arguments.

    The names of build tables follow the macro generate_alias_name: <model>_<build_id>.
    """
    from dbt.contracts.graph.manifest import Manifest

    given = json.loads(arguments[arguments.index("--vars") + 1]) if "--vars" in arguments else {}
    manifest: Any = Manifest.from_msgpack(content)
    # dbt writes it into the target directory at every start: half a second, and nobody reads it there
    manifest.write = lambda _path: None
    for node in manifest.nodes.values():
        if "build_id" in given and node.resource_type == "model" and node.name.endswith("__build"):
            alias = f"{node.name}_{given['build_id']}"
            if node.relation_name:
                node.relation_name = node.relation_name.replace(node.alias, alias)
            node.alias = node.config.alias = alias
    manifest.build_parent_and_child_maps()
    manifest.build_group_map()
    manifest.build_flat_graph()
    return manifest


def main() -> None:
    """Arguments: the parent's pid, the parsed project or nothing, then dbt's own."""
    die_with_parent(int(sys.argv[1]))
    parsed = sys.argv[2]
    del sys.argv[1:3]
    sys.argv[0] = "dbt"
    from dbt.cli.main import cli

    if not parsed:
        cli()
    with open(parsed, "rb") as file:
        content = file.read()
    cli(obj={"manifest": parsed_for(content, sys.argv)})


if __name__ == "__main__":
    main()
