"""What can go wrong, as one tree, and the form in which people are told.

    BiltenError                 exit 1
    |- UsageError               exit 2   the call itself is wrong; nothing was touched
    |  `- SettingsError                  a BILTEN_* variable is missing, unknown or out of bounds
    |- TransientError           exit 3   may succeed when tried again as it is
    |  |- StoreUnavailable               a store does not answer
    |  `- LockHeld                       somebody else is doing the same thing
    `- TerminalError            exit 1   trying again changes nothing
       |- Refused                        a precondition does not hold; nothing was touched
       |- AccessRefused                  a store answers, and does not accept user or password
       |- StoreFull                      a store answers, and has no room
       `- Mismatch                       evidence is missing or contradicts what was expected

Retry policies follow the types. Every error carries `problems`, all that were found and not only
the first; the CLI prints them, `--json` emits them, Dagster shows them in the failure.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import asdict, dataclass

#: Of an OSError: the disk is full, or the quota used up.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class Problem:
    """One fact for the person on call.

    `what` is the fact, `expected` and `found` the two values that differ, `next` the step that
    helps (a command wherever there is one). Never holds a secret.
    """

    what: str
    expected: str = ""
    found: str = ""
    next: str = ""

    def as_dict(self) -> dict[str, str]:
        return asdict(self)

    def __str__(self) -> str:
        parts = [self.what]
        if self.expected or self.found:
            parts.append(f"  expected: {self.expected}")
            parts.append(f"  found:    {self.found}")
        if self.next:
            parts.append(f"  next:     {self.next}")
        return "\n".join(parts)


class BiltenError(Exception):
    """The root; `problems` has at least one entry."""

    exit_code = 1

    def __init__(
        self,
        what: str | Problem | Sequence[Problem],
        *,
        expected: str = "",
        found: str = "",
        next: str = "",
    ) -> None:
        if isinstance(what, str):
            problems: tuple[Problem, ...] = (Problem(what, expected, found, next),)
        elif isinstance(what, Problem):
            problems = (what,)
        else:
            problems = tuple(what)
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


class UsageError(BiltenError):
    """The call is wrong; nothing was touched."""

    exit_code = 2


class SettingsError(UsageError):
    """One or more BILTEN_* variables are missing, unknown or out of bounds."""


class TransientError(BiltenError):
    """May succeed when tried again as it is."""

    exit_code = 3


class StoreUnavailable(TransientError):
    """A store does not answer."""


class LockHeld(TransientError):
    """Another runner holds the lock."""


class TerminalError(BiltenError):
    """Trying again changes nothing."""


class Refused(TerminalError):
    """A precondition does not hold; nothing was touched."""


class AccessRefused(TerminalError):
    """A store answers, and does not accept the user or the password."""


class StoreFull(TerminalError):
    """A store answers, and has no room: it will have some when somebody makes it."""


class Mismatch(TerminalError):
    """Evidence is missing, or contradicts what was expected."""
