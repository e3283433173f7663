"""One folder is one run: the same names in every run, whatever made it.

config.yaml     every setting, defaults spelled out
manifest.json   versions, machine, seed, digests: what would be needed to do it again
metrics.jsonl   one row of numbers per line
looks.jsonl     one line per look at a held-out split
resumes.jsonl   one line per time the run went on after a stop: where, and whether exactly
lease.json      while a process holds the folder: which one
checkpoints/    last, best
model/          the model package
"""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from apatite.core.commit import append_line, commit_json
from apatite.core.errors import DataError

PACKAGES = ("apatite", "numpy", "scipy", "torch", "nibabel", "zarr", "numba", "safetensors", "gudhi", "cripser")
"""What is recorded of the environment; read from the installed metadata, nothing is imported."""


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """The folder of one run, and the paths in it.

    Attributes:
        path: The folder.
    """

    path: Path

    @classmethod
    def create(cls, path: Path, about: Mapping[str, Any] | None = None) -> "RunFolder":
        """Make a new run folder with its manifest, so that a disk that cannot be written to is found at once.

        Args:
            path: The folder; made when missing.
            about: Plain values that join `environment()` in manifest.json: verb, seed, digests.

        Raises:
            DataError: a run lies there already; nothing is ever overwritten.
            StorageError: it cannot be written to.
        """
        run = cls(path=path)
        run.refuse_used()
        commit_json(run.manifest, environment() | dict(about or {}))
        return run

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """Open an existing run folder.

        Raises:
            DataError: no run lies there.
        """
        run = cls(path=path)
        if not run.config.exists():
            raise DataError("holds no run", where=str(path), fix="give the folder that an earlier verb wrote with -o")
        return run

    def refuse_used(self) -> None:
        """Refuse a folder in which something lies that a run would write.

        Raises:
            DataError: a run lies there already, or a model.
        """
        # A manifest alone is a run that was killed before it began; nothing is lost by beginning it again.
        if self.config.exists() or self.model.exists():
            raise DataError(
                "holds a run already", where=str(self.path), fix="name a new folder, or go on with --resume"
            )

    def read_about(self) -> dict[str, Any]:
        """The content of manifest.json.

        Raises:
            DataError: it is missing or damaged.
        """
        try:
            about = json.loads(self.manifest.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(
                "cannot be read", where=str(self.manifest), fix="start the run anew in another folder"
            ) from error
        return about if isinstance(about, dict) else {}

    @property
    def config(self) -> Path:
        """Every setting of the run."""
        return self.path / "config.yaml"

    @property
    def manifest(self) -> Path:
        """What made the run."""
        return self.path / "manifest.json"

    @property
    def metrics(self) -> Path:
        """The journal of numbers."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """The folder of `last` and `best`."""
        return self.path / "checkpoints"

    @property
    def last(self) -> Path:
        """The newest training state."""
        return self.checkpoints / "last"

    @property
    def best(self) -> Path:
        """The training state with the best figure on development."""
        return self.checkpoints / "best"

    @property
    def model(self) -> Path:
        """The model package."""
        return self.path / "model"

    @property
    def looks(self) -> Path:
        """The journal of looks at held-out splits."""
        return self.path / "looks.jsonl"

    @property
    def resumes(self) -> Path:
        """The journal of resumed runs."""
        return self.path / "resumes.jsonl"

    def log_look(self, split: str, verb: str, detail: str = "") -> int:
        """Note that a held-out split was looked at.

        Args:
            split: For example `test`.
            verb: Which verb looked.
            detail: For example the model's digest and the threshold.

        Returns:
            How many looks at this split the run has seen, this one included.
        """
        row = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "split": split, "verb": verb, "detail": detail}
        append_line(self.looks, json.dumps(row))
        return sum(look["split"] == split for look in self.read_looks())

    def read_looks(self) -> tuple[dict[str, str], ...]:
        """All looks so far; a torn last line, left by a killed process, is skipped."""
        if not self.looks.exists():
            return ()
        lines = self.looks.read_text(encoding="utf-8").splitlines()
        return tuple(row for row in map(_parsed, lines) if row is not None)


def environment(packages: Sequence[str] = PACKAGES) -> dict[str, Any]:
    """Versions, platform, processor, threads and code revision, for `manifest.json`.

    Args:
        packages: Whose versions to record; `None` stands for those that are not installed.
    """
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in packages},
        "platform": platform.platform(),
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "byte_order": sys.byteorder,
        "git": _git_revision(),
    }


def _parsed(line: str) -> dict[str, str] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    """The revision of the code, where it runs from a checkout."""
    folder = Path(__file__).parent
    try:
        asked = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        found = subprocess.run(asked, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None
