"""The stages of a run of nnU-Net, each done once: what is finished has a mark, and is not done again.

raw/ preprocessed/          nnU-Net's folders
x1/results/                 a training of the stated minutes: nnU-Net's own folder of results
x1/curve.jsonl              its rows, one per epoch, written while it trains
x1/predictions/<split>/     what it says of the development and test cases
x1/*.log, plan.log          what nnU-Net printed
stages/                     the marks, with seconds and memory
"""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apatite.core.commit import append_line, commit_json, commit_text
from apatite.core.cores import num_cores
from apatite.core.errors import TrainingError
from apatite.core.stop import StopRequest
from apatite.core.watch import Watch
from apatite.io.store import Prepared
from apatite.study.nnunet.config import NnunetConfig
from apatite.study.nnunet.export import DATASET, DATASET_ID, export_dataset
from apatite.study.nnunet.process import FAILED, Child, Row

Facts = dict[str, Any]

IMAGES = {"development": "imagesTr", "test": "imagesTs"}


@dataclass(frozen=True, kw_only=True)
class Workplace:
    """Where a run happens.

    Attributes:
        folder: Of the run.
        python: The interpreter that has nnunetv2.
        config: Of the run.
        stop: Whether it was asked to stop.
        watch: Shows progress.
    """

    folder: Path
    python: Path
    config: NnunetConfig
    stop: StopRequest
    watch: Watch

    def once(self, stage: str, work: Callable[[], Facts]) -> Facts:
        """Do a stage, or read what it came to when it was done."""
        mark = self.folder / "stages" / f"{stage}.json"
        if not mark.exists():
            commit_json(mark, work())
        # Read back either way, so that both ways give the same.
        return json.loads(mark.read_text(encoding="utf-8"))

    def child(self, verb: str, settings: Facts, log: Path, results: Path | None = None) -> Child:
        """Start nnU-Net."""
        everywhere = {
            "raw": str(self.folder / "raw"),
            "preprocessed": str(self.folder / "preprocessed"),
            "results": str(results or self.folder / "results"),
            "device": self.config.device,
            "mirror": self.config.mirror,
            # Its planner takes this number for threads too, of which there cannot be none.
            "workers": self.config.workers if verb == "train" else num_cores(),
            "processes": num_cores(),
        }
        return Child(self.python, verb, everywhere | settings, log, self.stop)


def export(place: Workplace, prepared: Prepared) -> Facts:
    """Write the data set; see `nnunet.export`."""
    raw = place.folder / "raw"
    shutil.rmtree(raw, ignore_errors=True)
    made = export_dataset(prepared, place.config, raw, place.watch)
    return {"train": made.train, "development": made.development, "test": made.test, "about": made.about}


def plan(place: Workplace) -> Facts:
    """Let nnU-Net plan and preprocess."""
    shutil.rmtree(place.folder / "preprocessed", ignore_errors=True)
    child = place.child("plan", {"dataset": DATASET_ID} | place.config.plan_settings(), place.folder / "plan.log")
    with closing(child.rows()) as rows:
        found = list(place.watch(rows, "nnU-Net: planning"))
    return _last(found, "planned", place.folder / "plan.log") | _spent(child)


def train(place: Workplace, planned: Facts, multiple: int) -> Facts:
    """Train for a multiple of the stated minutes; an interrupted training goes on where it was saved."""
    folder = place.folder / f"x{multiple}"
    curve = Curve(folder / "curve.jsonl")
    budget_s = 60 * place.config.minutes * multiple
    model = Path(DATASET) / f"nnUNetTrainer__{planned['plans']}__{planned['configuration']}"
    settings = {
        "dataset_name": DATASET,
        "plans": planned["plans"],
        "configuration": planned["configuration"],
        "model": str(folder / "results" / model),
        "budget_s": budget_s,
        "num_epochs": curve.num_epochs,
        "seed": place.config.seed,
        "validate": place.config.validate,
    }
    child = place.child("train", settings, folder / "train.log", folder / "results")
    with closing(child.rows()) as rows:
        curve.begin(next(rows, {}))
        epochs = curve.follow(rows)
        for _ in place.watch(epochs, f"nnU-Net ×{multiple}: training", curve.num_left):
            pass
    trained = _last(curve.rows, "trained", folder / "train.log")
    return curve.facts() | trained | _spent(child) | {"budget_s": budget_s, "model": f"x{multiple}/results/{model}"}


def predict(place: Workplace, model: str, multiple: int, split: str, cases: list[str]) -> Facts:
    """Predict the cases of one split; those that are there already are kept."""
    folder = place.folder / f"x{multiple}"
    settings = {
        "model": str(place.folder / model),
        "images": str(place.folder / "raw" / DATASET / IMAGES[split]),
        "out": str(folder / "predictions" / split),
        "cases": cases,
    }
    child = place.child("predict", settings, folder / f"predict-{split}.log", folder / "results")
    with closing(child.rows()) as rows:
        for _ in place.watch(rows, f"nnU-Net ×{multiple}: predicting {split}", len(cases)):
            pass
    return {"cases": len(cases)} | _spent(child)


class Curve:
    """The rows of one training, on disk while it goes on.

    Args:
        path: The journal; what is there already is read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rows: list[Row] = _parsed(path)

    @property
    def num_epochs(self) -> int | None:
        """Of the training; `None` before its speed is known."""
        return next((row["num_epochs"] for row in self.rows if row["event"] == "schedule"), None)

    @property
    def epochs(self) -> list[Row]:
        """The rows of the epochs."""
        return [row for row in self.rows if row["event"] == "epoch"]

    @property
    def num_left(self) -> int:
        """Epochs that are still to be done."""
        return (self.num_epochs or 0) - len(self.epochs)

    def begin(self, row: Row) -> None:
        """Begin anew, or go on behind the last epoch that was saved.

        Raises:
            TrainingError: the training said nothing (`NNUNET_FAILED`).
        """
        if row.get("event") == "schedule":
            self.rows = [row]
        elif row.get("event") == "resumed":
            self.rows = [old for old in self.rows if old["event"] == "schedule"] + self.epochs[: row["epoch"]]
        else:
            raise _silent(self._path.with_name("train.log"))
        commit_text(self._path, "".join(json.dumps(old) + "\n" for old in self.rows))

    def follow(self, rows: Iterator[Row]) -> Iterator[Row]:
        """Write every row down, and hand on those of epochs."""
        for row in rows:
            self.rows.append(row)
            append_line(self._path, json.dumps(row))
            if row["event"] == "epoch":
                yield {key: value for key, value in row.items() if value is not None}

    def facts(self) -> Facts:
        """How long it was, and where it ended."""
        epochs, schedule = self.epochs, self.rows[0]
        iterations = schedule["measured"] + sum(row["iterations"] for row in epochs)
        elapsed_s = epochs[-1]["elapsed_s"]
        return {
            "epochs": len(epochs),
            "iterations": iterations,
            "elapsed_s": elapsed_s,
            "seconds_per_iteration": schedule["seconds_per_iteration"],
            "pseudo_dice": epochs[-1]["mean_pseudo_dice"],
        }


def _parsed(path: Path) -> list[Row]:
    """The rows of a journal; a torn last line, left by a killed process, is skipped."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return [row for row in rows if isinstance(row, dict) and "event" in row]


def _last(rows: list[Row], event: str, log: Path) -> Facts:
    """The last row, which has to be of one kind."""
    if not rows or rows[-1]["event"] != event:
        raise _silent(log)
    return {key: value for key, value in rows[-1].items() if key != "event"}


def _silent(log: Path) -> TrainingError:
    return TrainingError("nnU-Net ended without a result", where=str(log), fix="read that log", code=FAILED)


def _spent(child: Child) -> Facts:
    return {"wall_s": child.wall_s, "peak_bytes": child.peak_bytes}
