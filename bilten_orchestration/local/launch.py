"""What supervisord starts: read one program's description, become its user, become the program.

Run as a script with the path of a JSON file that only the owner can read. So supervisord's own
configuration holds no secret and needs no quoting, and no Python runs as another user: the
privileges go between the fork and the exec. Standard library only; it starts in milliseconds.
"""

import json
import os
import sys


def main(path: str) -> None:
    with open(path) as file:
        program = json.load(file)
    os.umask(0o077)
    os.chdir(program["directory"])
    if program["user"] is not None:
        os.setgroups([])
        os.setgid(program["user"]["gid"])
        os.setuid(program["user"]["uid"])
    os.execve(program["argv"][0], program["argv"], program["environment"])  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1])
