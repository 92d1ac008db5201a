"""Errors a user can act on: what was found, what was expected, and on a line of its own what to do."""

from __future__ import annotations


class CinesynthError(Exception):
    """Base of every error that the command line prints without a traceback."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


class InputError(CinesynthError):
    """A request that cannot be met as it stands."""

    exit_code = 2


class ConfigError(CinesynthError):
    """A setting that is unknown or out of range; the message carries the path of its key."""

    exit_code = 2


class DataError(CinesynthError):
    """A dataset, study or image that is missing, damaged or contradicts itself."""

    exit_code = 3


class WeightsError(CinesynthError):
    """A weights folder that is incomplete, altered or of mixed parents."""

    exit_code = 4


class OutputError(CinesynthError):
    """A result that could not be written; nothing half-written stays behind."""

    exit_code = 5


class ExternalError(CinesynthError):
    """A program of others that failed."""

    exit_code = 6
