"""What goes wrong, as exceptions."""

from __future__ import annotations


class TomboloError(Exception):
    """A program of Tombolo failed, or what it needs or wrote is not as expected.

    `message` is what the program said on stderr; `status` its exit status (negative: the
    signal that killed it; None: no program had a part in it).
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


class BadInput(TomboloError):
    """Status 1: bad input, or a plan that cannot be; the message says what to change."""


class WrongUsage(TomboloError):
    """Status 2: the program does not take these options together, or not these values."""


class RunFailed(TomboloError):
    """Status 3: a run could not finish."""


class ProgramNotFound(TomboloError):
    """A program of Tombolo is not installed, or not where TOMBOLO_BIN says."""


class ProgramWarning(UserWarning):
    """What a program that succeeded said on stderr."""


def failure(message: str, status: int) -> TomboloError:
    kinds: dict[int, type[TomboloError]] = {1: BadInput, 2: WrongUsage, 3: RunFailed}
    return kinds.get(status, TomboloError)(message, status)
