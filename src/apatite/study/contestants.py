"""What can be compared, whatever made it: anything that predicts cases, with a name and perhaps a calibration.

A model package, the run folder that holds one, and predictions that lie on disk all become a `Contestant`; from here on
nothing knows the difference, so that every contestant gets the same cases, the same gate and the same calibration.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from apatite.calibrate.calibration import Calibration, calibration_of
from apatite.core.errors import ConfigError
from apatite.io.store import Prepared
from apatite.segment.predict import open_predictor
from apatite.study.cases import CasePredictor
from apatite.study.label_maps import LabelMaps, is_label_maps
from apatite.study.nnunet.results import NnunetPredictions, is_nnunet, read_results


@dataclass(frozen=True, kw_only=True, eq=False)
class Contestant:
    """Somebody who predicts.

    Attributes:
        name: In the tables.
        folder: Where it was opened.
        predictor: Gives the probability of a case.
        calibration: Its own, or none.
        label_names: Label value to name.
        digest: Names these very weights or predictions.
        held_out: What it never saw, and must not be calibrated on either.
    """

    name: str
    folder: Path
    predictor: CasePredictor
    calibration: Calibration | None
    label_names: Mapping[int, str]
    digest: str
    held_out: tuple[str, ...] = ()

    def refuse_other_labels(self, prepared: Prepared) -> None:
        """It can only be judged on the labels that it knows.

        Raises:
            ConfigError: they are not those of the data.
        """
        if dict(self.label_names) != dict(prepared.manifest.label_names):
            raise ConfigError(
                f"its labels {dict(self.label_names)} are not those of the data, {dict(prepared.manifest.label_names)}",
                where=str(self.folder),
                fix="use data with the same labels",
            )


Open = Callable[[Path, str], Contestant]
"""From a folder and a name to a contestant."""


def open_model(folder: Path, name: str) -> Contestant:
    """A model package, or the fine-tuning run that holds one."""
    predictor = open_predictor(folder)
    card = predictor.card
    return Contestant(
        name=name,
        folder=folder,
        predictor=predictor,
        calibration=calibration_of(card.calibration, card.burden, card.domains["calibration"]),
        label_names=card.label_names,
        digest=predictor.digest,
        held_out=tuple(card.held_out),
    )


def open_nnunet(folder: Path, name: str) -> Contestant:
    """A finished run of nnU-Net, or a folder of nnU-Net's own with its predictions (`study.nnunet.results`)."""
    results = read_results(folder)
    return Contestant(
        name=name,
        folder=folder,
        predictor=NnunetPredictions(results),
        calibration=results.calibration,
        label_names=results.label_names,
        digest=results.digest(),
    )


def open_label_maps(folder: Path, name: str) -> Contestant:
    """A folder of label maps; what their values mean is known once they are put on some data (`LabelMaps.on`)."""
    maps = LabelMaps(folder=folder)
    return Contestant(name=name, folder=folder, predictor=maps, calibration=None, label_names={}, digest=maps.digest())


OPENERS: Final[list[tuple[Callable[[Path], bool], Open]]] = [
    (is_nnunet, open_nnunet),
    (is_label_maps, open_label_maps),
]
"""Kinds of folders besides model packages: how one is recognised, and how it is opened."""


def open_contestant(folder: Path, name: str) -> Contestant:
    """Open whatever a folder holds; a model package where it is nothing else.

    Raises:
        ModelError, DataError: it cannot be opened.
    """
    for is_one, opened in OPENERS:
        if is_one(folder):
            return opened(folder, name)
    return open_model(folder, name)


def contestant_names(folders: Sequence[Path]) -> list[str]:
    """A short name for each folder: its last part, or its parent's where that says no more than `model`.

    Raises:
        ConfigError: two have the same name.
    """
    names = [path.resolve().parent.name if path.resolve().name == "model" else path.resolve().name for path in folders]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two models are called {name!r}", fix="give each once, in folders of different names")
    return names
