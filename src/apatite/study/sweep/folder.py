"""The folder of a sweep; several grids may share one, and with it the rows that they have in common.

data.json         which prepared folder is whose labels, and its digest
lease.json        while a sweep is at work
rows/             records of finished rows (`record.py`)
runs/<row>/       run folders
plans/<row>.json  what a row was started with
clocks/<row>.jsonl, failures/<row>.json, logs/<row>.txt
precision/        how networks of each kind compute, measured once
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apatite.core.errors import DataError
from apatite.study.sweep.record import json_path


@dataclass(frozen=True, kw_only=True)
class SweepFolder:
    """The paths in the folder of a sweep.

    Attributes:
        path: The folder.
    """

    path: Path

    @property
    def data(self) -> Path:
        """Which data it works on."""
        return self.path / "data.json"

    def grid(self, name: str) -> Path:
        """A grid with all defaults."""
        return self.path / "grids" / f"{name}.yaml"

    def run(self, row: str) -> Path:
        """The run folder of a row."""
        return self.path / "runs" / row

    def plan(self, row: str) -> Path:
        """What a row was started with."""
        return self.path / "plans" / f"{row}.json"

    def clock(self, row: str) -> Path:
        """Seconds by step."""
        return self.path / "clocks" / f"{row}.jsonl"

    def failure(self, row: str) -> Path:
        """Why a row failed."""
        return self.path / "failures" / f"{row}.json"

    def log(self, row: str) -> Path:
        """What the process of a row said on stderr."""
        return self.path / "logs" / f"{row}.txt"

    def precision(self, key: str) -> Path:
        """How networks of one kind compute."""
        return self.path / "precision" / f"{key}.yaml"

    def is_done(self, row: str) -> bool:
        """Whether a row left its record."""
        return json_path(self.path, row).exists()


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is no such file.

    Raises:
        DataError: it cannot be read.
    """
    if not path.exists():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError("cannot be read", where=str(path), fix="remove it, then run the sweep again") from error
    return values if isinstance(values, dict) else {}
