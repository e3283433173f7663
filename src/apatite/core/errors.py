"""Every error a user can cause.

ApatiteError                                                                exit 1
├── ConfigError    a setting is wrong; nothing has been read yet            exit 2
├── DataError      a case is wrong; the message names the case              exit 3
├── ModelError     weights or a model package do not fit, or were altered   exit 3
├── TrainingError  a run cannot go on (a loss that is not finite, ...)      exit 1
├── BusyError      another process holds the folder; wait and rerun         exit 75
├── StoppedError   a signal stopped a run; it is committed, resume it       exit 75
└── StorageError   the disk is full, read-only or gone; mend it and rerun   exit 75

Further exit codes of the command: 0 all is well, 8 part of a batch failed, 130 and 143 a signal ended a verb that
has nothing to resume.
"""

from typing import ClassVar

EXIT_OK = 0
EXIT_INTERNAL = 1
EXIT_USAGE = 2
EXIT_DATA = 3
EXIT_PARTIAL = 8
EXIT_RESUMABLE = 75


class ApatiteError(Exception):
    """What went wrong, where, and what to do next.

    Args:
        what: One sentence, with the offending value.
        where: The case, file, step or key it concerns.
        fix: What the user can do next.
        code: A short stable name such as `GRID_MISMATCH`, for tables and scripts.
    """

    exit_code: ClassVar[int] = EXIT_INTERNAL

    def __init__(self, what: str, *, where: str = "", fix: str = "", code: str = "") -> None:
        super().__init__(what)
        self.what, self.where, self.fix, self.code = what, where, fix, code

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        step = f" -> {self.fix}" if self.fix else ""
        code = f" [{self.code}]" if self.code else ""
        return f"{place}{self.what}{code}{step}"

    def to_dict(self) -> dict[str, str | int]:
        """The same as plain values, for `--json`."""
        return {
            "error": type(self).__name__,
            "what": self.what,
            "where": self.where,
            "fix": self.fix,
            "code": self.code,
            "exit_code": self.exit_code,
        }


class ConfigError(ApatiteError):
    """A setting is wrong; nothing has been read yet."""

    exit_code = EXIT_USAGE


class DataError(ApatiteError):
    """A case or a data set is wrong; the message names the case."""

    exit_code = EXIT_DATA


class ModelError(ApatiteError):
    """Weights or a model package do not fit, or were altered."""

    exit_code = EXIT_DATA


class TrainingError(ApatiteError):
    """A run cannot go on."""

    exit_code = EXIT_INTERNAL


class BusyError(ApatiteError):
    """Another process holds the folder."""

    exit_code = EXIT_RESUMABLE


class StoppedError(ApatiteError):
    """A signal stopped a run between two steps; its state is on disk."""

    exit_code = EXIT_RESUMABLE


class StorageError(ApatiteError):
    """The disk is full, read-only or gone."""

    exit_code = EXIT_RESUMABLE
