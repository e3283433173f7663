"""The verb `nnunet`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import FlagCreatePairsOff

from apatite.cli.console import Outcome, bar, terminal_table
from apatite.cli.flags import CommonFlags, OutputPath, PreparedPath
from apatite.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Nnunet(CommonFlags):
    """Train the real nnU-Net for a stated time on the same cases, and calibrate it like any other model.

    Then `apatite evaluate -m runs/nnunet -m models/calibrated -d prepared -o evaluation` compares them.

    Example: apatite nnunet -d prepared -o runs/nnunet --minutes 60 --python nnunet-env/bin/python
    """

    data: PreparedPath
    """Prepared folder; its original scans and labels must still be there."""
    out: OutputPath
    """Run folder; an interrupted run goes on with the same command."""
    minutes: float | None = None
    """Of training at ×1. Planning, preprocessing and prediction come on top."""
    python: Path | None = None
    """Python of an environment that holds nnunetv2; this one if left out."""
    multiples: tuple[int, ...] = (1,)
    """Trainings of so many times the minutes, each from the start; longer ones are left out once Dice is flat."""
    configuration: Literal["3d_fullres", "3d_lowres", "2d"] = "3d_fullres"
    """Of nnU-Net's plans."""
    patch: tuple[int, int, int] | None = None
    """Largest patch: voxels along depth, height, width."""
    batch: int | None = None
    """Samples per iteration; nnU-Net's own number if left out."""
    base_features: int | None = None
    """Channels of the first stage; nnU-Net's own number if left out."""
    stages: int | None = None
    """Most stages of the network; nnU-Net's own number if left out."""
    spacing_mm: tuple[float, float, float] | None = None
    """To resample to, along i, j, k; nnU-Net's own choice if left out."""
    one_channel: FlagCreatePairsOff[bool] = False
    """One channel of all HU instead of a second one of 0 to 300 HU."""
    mirror: FlagCreatePairsOff[bool] = False
    """Mirror in training and prediction, as nnU-Net does; wrong where labels have a side."""
    validate: FlagCreatePairsOff[bool] = False
    """Also do nnU-Net's own validation after training."""
    num_labelled: int | None = None
    """Learn from that many labelled cases."""
    draw: int = 0
    """Which ones; the same number and draw are the same cases as in finetune."""
    hold_out: tuple[str, ...] = ()
    """Cases never to learn from, for example vendor=GE."""
    seed: int = 0
    """Of the first weights; nnU-Net's augmentation has none."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where nnU-Net computes."""
    workers: int = 1
    """Processes that augment; 0 does it between the iterations."""
    finished: Path | None = None
    """A finished folder of nnU-Net's results, whoever made it: it is calibrated, and nothing is trained."""
    no_calibration: FlagCreatePairsOff[bool] = False
    """Leave the threshold at 0.5."""

    def run(self) -> Outcome:
        """Run nnU-Net, or take over what it left."""
        if (self.minutes is None) == (self.finished is None):
            raise ConfigError("it needs either a time or finished results", fix="give --minutes or --finished")
        return self._train(self.minutes) if self.minutes is not None else self._take_over()

    def _train(self, minutes: float) -> Outcome:
        from apatite.io.store import Prepared
        from apatite.study.nnunet.config import NnunetConfig
        from apatite.study.nnunet.run import run_nnunet

        config = NnunetConfig(
            minutes=minutes,
            configuration=self.configuration,
            patch=self.patch,
            batch=self.batch,
            base_features=self.base_features,
            stages=self.stages,
            spacing_mm=self.spacing_mm,
            windows=not self.one_channel,
            mirror=self.mirror,
            validate=self.validate,
            num_labelled=self.num_labelled,
            draw=self.draw,
            hold_out=self.hold_out,
            seed=self.seed,
            device=self.device,
            workers=self.workers,
        )
        made = run_nnunet(
            config,
            Prepared.open(self.data),
            self.out,
            bar,
            python=self.python,
            multiples=self.multiples,
            is_calibrated=not self.no_calibration,
        )
        values = {
            "run": str(made.folder),
            "lengths": [row.to_dict() for row in made.lengths],
            "verdict": made.verdict,
            "stages": made.stages,
            "notes": list(made.notes),
        }
        return Outcome(values=values, lines=[terminal_table(made.table), *made.notes, f"run: {made.folder}"])

    def _take_over(self) -> Outcome:
        from apatite.io.store import Prepared
        from apatite.study.nnunet.judging import adopt

        assert self.finished is not None
        found = adopt(self.finished, Prepared.open(self.data), self.out, bar, is_calibrated=not self.no_calibration)
        dice = {name: found[name] for name in ("dice", "dice_calibrated") if found[name] is not None}
        lines = [f"development {name.replace('_', ', ')}: {value:.3f}" for name, value in dice.items()]
        return Outcome(values={"run": str(self.out), **found}, lines=[*lines, *found["notes"], f"run: {self.out}"])
