"""The errors that a user can fix. Each message is one sentence: what was given and what would be right."""

from collections.abc import Mapping
from typing import Any


class OfaError(Exception):
    """Base of every error that ofa-tf raises on purpose; the command line prints it and exits with status 2.

    Examples:
        >>> try:
        ...     ofa.open("new", space="no-such-space")
        ... except ofa.OfaError as error:
        ...     print(error)
        There is no space 'no-such-space': give one of ['edge', ..., 'tiny'] or a JSON file.
    """


class ArgumentError(OfaError, ValueError):
    """An argument, or an option, that cannot have the value it was given."""


class SpaceError(OfaError, ValueError):
    """A search space or an arch that breaks a rule of its space."""


class FormatError(OfaError, ValueError):
    """A file that is not what its format says: wrong schema, unknown or missing keys, wrong types."""


class DamagedError(FormatError):
    """A file that is cut short or altered."""


class DataError(OfaError):
    """Images or labels that cannot be used."""


class DownloadError(OfaError):
    """A file that could not be fetched, or is not the one that was requested."""


class WorkdirError(OfaError):
    """A workdir that belongs to something else, is in use, or lacks a needed step."""


class TableError(OfaError):
    """A latency table that is broken or lacks an entry."""


class DeviceError(OfaError):
    """A device that is unknown, absent or failed to measure."""


class AbsentError(DeviceError):
    """A device that is not at hand but whose table can be modelled instead."""


class InfeasibleError(OfaError):
    """Budgets that no subnet of the space can meet.

    Args:
        message: the message.
        details: the same as JSON values; filled by `search.budget.starts`.
    """

    def __init__(self, message: str, details: Mapping[str, Any] | None = None):
        super().__init__(message)
        self.details = dict(details or {})


class TrainingError(OfaError):
    """A training run that cannot go on, such as a loss that is not a number."""


class ExportError(OfaError):
    """A subnet that could not be turned into a valid file."""


class MissingDependencyError(OfaError):
    """An optional package that a feature needs and that is not installed."""
