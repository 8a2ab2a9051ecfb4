"""What can go wrong before and around a run; each class owns its exit code."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PrunegridError(Exception):
    """One line for the user: the cause first, then what was expected."""

    exit_code = 1


class UsageError(PrunegridError):
    """A command line that can't be taken."""

    exit_code = 2


class GridError(UsageError):
    """A grid file that can't be taken, with its place."""

    def __init__(self, message: str, *, file: str, line: int | None) -> None:
        self.file = file
        self.line = line
        super().__init__(f"{file}:{line}: {message}" if line else f"{file}: {message}")


class StoreError(PrunegridError):
    """A store that is not ours, can't be read or written, or is held by another driver."""


class NotOursError(UsageError, StoreError):
    """A place that the user named is no store, or no folder of ours, and is left as it is."""


class TornError(StoreError):
    """A file of the store that is missing, torn or not ours: made anew, not waited for."""


def nearest(name: object, choices: Iterable[str]) -> str:
    """`; did you mean 'x'?` or nothing."""
    found = difflib.get_close_matches(str(name), list(choices), n=1, cutoff=0.6)
    return f"; did you mean {found[0]!r}?" if found else ""


def expected(choices: Iterable[str], got: object) -> str:
    """`expected one of a, b, got 'c'; did you mean 'b'?`"""
    names = list(choices)
    return f"expected one of {', '.join(names)}, got {got!r}{nearest(got, names)}"
