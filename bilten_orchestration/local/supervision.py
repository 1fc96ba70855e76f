"""The embedded programs under supervisord: one supervisord per state directory, on a unix socket.

What is to run is written as one JSON file per program (launch.py reads it) and a configuration
that only names them. A changed program is restarted, an unchanged one is left alone: the
configuration carries a digest of the description and of the files that the program reads, and
supervisord compares.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import shlex
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from bilten_orchestration.errors import Mismatch, StoreUnavailable
from bilten_orchestration.local import processes
from bilten_orchestration.local.layout import Layout
from bilten_orchestration.local.privileges import server_file
from bilten_orchestration.local.programs import Program

START_SECONDS = 30
_KEEP = re.compile(r"PATH|HOME|USER|LOGNAME|LANG|LC_.*|TZ|TMPDIR|SSL_.*|REQUESTS_CA_BUNDLE|.*_proxy|.*_PROXY")


@dataclass(frozen=True, slots=True)
class State:
    """What supervisord knows of a program. `since` is a Unix time, `pid` 0 when it does not run."""

    name: str
    state: str
    pid: int
    since: int
    description: str

    @property
    def running(self) -> bool:
        return self.state in ("RUNNING", "STARTING")

    @property
    def ended(self) -> bool:
        """Stopped, or given up: nobody starts it again."""
        return self.state in ("FATAL", "STOPPED", "UNKNOWN")


class Supervisor:
    """The supervisord of one layout."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def answers(self) -> bool:
        """Whether it runs, and is the one of this state directory."""
        try:
            pid = int(self._call("getPID"))
        except (OSError, http.client.HTTPException, xmlrpc.client.Error):
            return False
        return any(
            process.pid == pid for process in processes.supervisors(self.layout.supervisor_configuration)
        )

    def apply(self, programs: Sequence[Program]) -> None:
        """Make exactly these programs known; those that changed are stopped, none is started here."""
        for program in programs:
            server_file(self._description(program.name), self._describe(program), None)
        server_file(self.layout.supervisor_configuration, self._configuration(programs), None)
        names = {program.name for program in programs}
        for file in self.layout.programs.glob("*.json"):
            if file.stem not in names:
                file.unlink()
        if not self.answers():
            self.end_orphans()
            self._start()
            return
        ((added, changed, removed),) = self._call("reloadConfig")
        for name in (*changed, *removed):
            self._call("stopProcessGroup", name)
            self._call("removeProcessGroup", name)
        for name in (*added, *changed):
            self._call("addProcessGroup", name)

    def start(self, program: str) -> None:
        """Start a program unless it runs or is starting."""
        if self.states()[program].running:
            return
        try:
            self._call("startProcess", program, False)
        except xmlrpc.client.Fault as fault:
            if "ALREADY_STARTED" not in fault.faultString:
                raise StoreUnavailable(
                    f"{program} cannot be started",
                    expected="started",
                    found=fault.faultString,
                    next=f"bilten logs {program}",
                ) from None

    def stop(self, program: str) -> None:
        """Stop a program and wait; nothing where it does not run."""
        state = self.states().get(program)
        if state is not None and state.running:
            self._call("stopProcess", program, True)

    def states(self) -> dict[str, State]:
        """What supervisord knows, by name; nothing when it does not run."""
        try:
            infos = self._call("getAllProcessInfo")
        except OSError:
            return {}
        return {
            info["name"]: State(
                info["name"], info["statename"], info["pid"], info["start"], info["description"]
            )
            for info in infos
        }

    def last_lines(self, program: str, size_bytes: int = 4000) -> list[str]:
        """The end of a program's log."""
        try:
            text = self.layout.log(program).read_bytes()[-size_bytes:]
        except FileNotFoundError:
            return []
        return text.decode(errors="replace").splitlines()

    def shut_down(self) -> list[str]:
        """End all programs in an orderly way, then supervisord. Returns the names of what ran."""
        ran = sorted(name for name, state in self.states().items() if state.running)
        daemons = list(processes.supervisors(self.layout.supervisor_configuration))
        if self.answers():
            self._call("shutdown")
            left = processes.wait_gone(daemons, seconds=90)
            if left:
                processes.end(left, seconds=5)
        elif daemons:  # runs but does not answer
            processes.end(daemons, seconds=10)
        self.end_orphans()
        self.layout.supervisor_socket.unlink(missing_ok=True)
        return ran

    def end_orphans(self) -> None:
        """Programs whose supervisord was killed live on; they would hold ports and data directories.
        So do runs that the code server had started."""
        processes.end(processes.supervisors(self.layout.supervisor_configuration), seconds=10)
        processes.end(processes.of_stack(self.layout.home), seconds=20)

    def _start(self) -> None:
        configuration = self.layout.supervisor_configuration
        self.layout.supervisor_socket.unlink(missing_ok=True)
        result = subprocess.run(
            [sys.executable, "-m", "supervisor.supervisord", "-c", str(configuration)],
            env={name: value for name, value in os.environ.items() if _KEEP.fullmatch(name)},
            cwd=self.layout.home,
            capture_output=True,
            text=True,
            check=False,
        )
        deadline = time.monotonic() + START_SECONDS
        while result.returncode == 0 and not self.answers():
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        else:
            if result.returncode == 0:
                return
        raise Mismatch(
            "supervisord did not start",
            expected=f"an answer on its socket within {START_SECONDS} s",
            found=(result.stderr or result.stdout).strip()[-400:] or "none",
            next=f"{self.layout.log('supervisord')}",
        )

    def _call(self, method: str, *arguments: Any) -> Any:
        from supervisor.xmlrpc import SupervisorTransport

        transport = SupervisorTransport(None, None, f"unix://{self.layout.supervisor_socket}")
        with xmlrpc.client.ServerProxy("http://127.0.0.1", transport=cast(Any, transport)) as server:
            return getattr(server.supervisor, method)(*arguments)

    def _description(self, name: str) -> Path:
        return self.layout.programs / f"{name}.json"

    def _describe(self, program: Program) -> str:
        user = self.layout.user if program.as_server_user else None
        return json.dumps(
            {
                "argv": program.argv,
                "directory": str(program.directory),
                "user": {"uid": user.uid, "gid": user.gid} if user else None,
                "environment": base_environment(self.layout.home)
                | dict(program.environment)
                | {processes.HOME_VARIABLE: str(self.layout.home), processes.PROGRAM_VARIABLE: program.name},
            },
            indent=1,
            sort_keys=True,
        )

    def _configuration(self, programs: Sequence[Program]) -> str:
        layout = self.layout
        sections: dict[str, Mapping[str, object]] = {
            "unix_http_server": {"file": layout.supervisor_socket, "chmod": "0700"},
            "supervisord": {
                "logfile": layout.log("supervisord"),
                "logfile_maxbytes": "5MB",
                "logfile_backups": 1,
                "pidfile": layout.home / "supervisord.pid",
                "childlogdir": layout.logs,
                "identifier": "bilten",
                "umask": "077",
                **({"user": "root"} if os.geteuid() == 0 else {}),
            },
            "rpcinterface:supervisor": {
                "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
            },
        }
        for program in programs:
            description = self._description(program.name)
            digest = hashlib.sha256(
                b"".join(file.read_bytes() for file in (description, *program.files))
            ).hexdigest()[:16]
            launcher = Path(__file__).with_name("launch.py")
            sections[f"program:{program.name}"] = {
                "command": shlex.join([sys.executable, "-I", "-S", str(launcher), str(description)]),
                "environment": f'DESCRIPTION="{digest}"',
                "autostart": "false",
                "autorestart": "true",
                "startsecs": program.start_seconds,
                "startretries": 3,
                "stopsignal": program.stop_signal,
                "stopwaitsecs": program.stop_seconds,
                "killasgroup": "true",
                "priority": program.start_order,
                "redirect_stderr": "true",
                "stdout_logfile": layout.log(program.name),
                "stdout_logfile_maxbytes": "10MB",
                "stdout_logfile_backups": 2,
            }
        return "\n".join(
            f"[{section}]\n"
            + "".join(f"{key}={str(value).replace('%', '%%')}\n" for key, value in items.items())
            for section, items in sections.items()
        )


def base_environment(home: Path) -> dict[str, str]:
    """What every program gets, the same from whatever shell `up` is called: another PATH or certificate
    file would restart everything."""
    return {"LANG": "C.UTF-8", "TZ": "UTC", "PATH": os.defpath, "HOME": str(home)}
