"""Run nnU-Net on a prepared folder: export, plan, train for a stated time, predict, calibrate like any other model.

A run that was interrupted goes on with the same call; further multiples of the time may be asked for later.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apatite.batch.lease import hold
from apatite.core.commit import commit_json
from apatite.core.config import dump, read_yaml, write_yaml
from apatite.core.errors import ConfigError
from apatite.core.stop import stop_on_signal
from apatite.core.watch import Watch, unwatched
from apatite.io.run_folder import RunFolder
from apatite.io.store import Prepared
from apatite.report.html import Table
from apatite.study.nnunet.config import NnunetConfig
from apatite.study.nnunet.export import ABOUT
from apatite.study.nnunet.judging import judge_length
from apatite.study.nnunet.lengths import Length, is_flat, lengths_table, verdict
from apatite.study.nnunet.process import ask
from apatite.study.nnunet.results import CALIBRATION, FORMAT, INDEX
from apatite.study.nnunet.stages import Facts, Workplace, export, plan, predict, train

SPLITS = ("development", "test")


@dataclass(frozen=True, kw_only=True)
class NnunetRun:
    """A finished run.

    Attributes:
        folder: What `evaluate -m` is given: the longest training. Each length lies in `x1`, `x2`, … below it.
        lengths: What each came to on development.
        stages: What each stage took, by its name.
        notes: What was not done, and why.
    """

    folder: Path
    lengths: tuple[Length, ...]
    stages: dict[str, Facts]
    notes: tuple[str, ...]

    @property
    def table(self) -> Table:
        """The lengths, with a verdict on whether more time would help."""
        return lengths_table(self.lengths)

    @property
    def verdict(self) -> str:
        """Whether more time would help."""
        return verdict(self.lengths)


def run_nnunet(  # noqa: PLR0913 - where, how, and with which nnU-Net
    config: NnunetConfig,
    prepared: Prepared,
    out: Path,
    watch: Watch = unwatched,
    *,
    python: Path | None = None,
    multiples: Sequence[int] = (1,),
    is_calibrated: bool = True,
) -> NnunetRun:
    """Run nnU-Net.

    Args:
        config: How.
        prepared: Its original scans and labels must still be where they were.
        out: The run's folder; finished stages that lie there are kept.
        watch: Shows progress.
        python: An interpreter that has nnunetv2; this one when `None`.
        multiples: Trainings of so many times the stated minutes, ascending; the longer ones are left out once Dice is
            flat.
        is_calibrated: Choose thresholds on development.

    Raises:
        ConfigError: nnunetv2 is not installed there (`NNUNET_MISSING`), or the folder holds another run.
        DataError: no case to learn from or to develop on (`EMPTY_SPLIT`).
        TrainingError: nnU-Net failed; its log is named (`NNUNET_FAILED`).
        StoppedError: a signal asked to stop; the same call goes on (`STOPPED`).
        BusyError: another process holds the folder (`LEASE_HELD`).
    """
    if not multiples or list(multiples) != sorted(set(multiples)) or multiples[0] < 1:
        raise ConfigError(f"multiples {list(multiples)}", fix="give whole numbers from 1 on, ascending, each once")
    python = Path(sys.executable) if python is None else python
    with stop_on_signal() as stop:
        versions = ask(python, stop)
        with hold(out, "nnunet"):
            _begin(out, config, prepared, {"nnunet": versions, "interpreter": str(python)})
            place = Workplace(folder=out, python=python, config=config, stop=stop, watch=watch)
            return _all_stages(place, prepared, multiples, is_calibrated=is_calibrated)


def _all_stages(place: Workplace, prepared: Prepared, multiples: Sequence[int], *, is_calibrated: bool) -> NnunetRun:
    stages: dict[str, Facts] = {}
    exported = place.once("export", lambda: export(place, prepared))
    planned = stages["plan"] = place.once("plan", lambda: plan(place))
    lengths: list[Length] = []
    notes: list[str] = []
    for multiple in multiples:
        if is_flat(lengths):
            notes.append(f"×{multiple} was not trained: {verdict(lengths)}")
            continue
        name = f"x{multiple}"
        trained = stages[f"{name}-train"] = place.once(f"{name}-train", lambda m=multiple: train(place, planned, m))
        for split in SPLITS:
            if cases := exported[split]:
                stages[f"{name}-predict-{split}"] = place.once(
                    f"{name}-predict-{split}",
                    lambda m=multiple, s=split, c=cases, t=trained: predict(place, t["model"], m, s, c),
                )
        _write_index(place.folder / name, "", exported, multiple)
        judged = place.once(
            f"{name}-judge" if is_calibrated else f"{name}-judge-uncalibrated",
            lambda n=name: judge_length(place.folder / n, prepared, place.watch, is_calibrated=is_calibrated),
        )
        notes += [f"×{multiple}: {note}" for note in judged["notes"]]
        _write_index(place.folder, f"{name}/", exported, multiple)
        lengths.append(_length(multiple, trained, judged))
        commit_json(
            place.folder / "lengths.json", {"lengths": [row.to_dict() for row in lengths], "verdict": verdict(lengths)}
        )
    return NnunetRun(folder=place.folder, lengths=tuple(lengths), stages=stages, notes=tuple(notes))


def _length(multiple: int, trained: Facts, judged: Facts) -> Length:
    return Length(
        multiple=multiple,
        minutes=trained["elapsed_s"] / 60,
        epochs=trained["epochs"],
        iterations=trained["iterations"],
        pseudo_dice=trained["pseudo_dice"],
        dice=judged["dice"],
        dice_calibrated=judged["dice_calibrated"],
    )


def _begin(out: Path, config: NnunetConfig, prepared: Prepared, about: dict[str, Any]) -> None:
    """Make the folder, or see that it is of the same run."""
    run, data = RunFolder(path=out), prepared.about["manifest_sha256"]
    if not run.config.exists():
        RunFolder.create(out, {"verb": "nnunet", "manifest_sha256": data, "prepared": str(prepared.folder), **about})
        write_yaml(run.config, config)
        return
    stored = read_yaml(run.config)
    wanted = dump(config)
    differing = [key for key in {**stored, **wanted} if stored.get(key) != wanted.get(key)]
    if differing or run.read_about().get("manifest_sha256") != data:
        raise ConfigError(
            f"holds a run with other {', '.join(differing) or 'data'}",
            where=str(out),
            fix="name a new folder with -o, or give the same settings",
        )


def _write_index(folder: Path, below: str, exported: Facts, multiple: int) -> None:
    """Say where the predictions lie, for whoever opens the folder."""
    index = {
        "format": FORMAT,
        "multiple": multiple,
        "predictions": [f"{below}predictions/{split}" for split in SPLITS if exported[split]],
        "calibration": f"{below}{CALIBRATION}",
        ABOUT: exported["about"],
    }
    commit_json(folder / INDEX, index)
