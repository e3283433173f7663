"""nnU-Net's trainer, but for a stated time: measured at the start, paced from epoch to epoch, saved by the clock.

Source: nnunetv2 2.8.1, `nnUNetTrainer`; what is not named here is its own: loss, optimiser, augmentation, sampling.
Differs: the length (`child_pace`); no mirroring unless asked for; no checkpoint of the best pseudo-Dice, which nnU-Net
does not predict with either; a checkpoint every ten minutes, or tenth of a shorter time, instead of every 50 epochs;
the picture of the progress is drawn once. What is measured at the start is training, and counts as such.
"""

import math
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

MEASURED_SHARE = 0.03
"""Part of the time in which the speed is measured."""
MEASURED_MOST = 10
SAVE_EVERY_S, SAVED_SHARE = 600.0, 0.1
"""Between checkpoints: seconds, or that part of the whole time where it is less."""

Say = Callable[..., None]
MakePace = Callable[[float, float], Any]


def make_trainer(base: type, make_pace: MakePace, settings: Mapping[str, Any], say: Say) -> type:  # noqa: C901 - hooks
    """The class of a trainer that keeps to a time.

    It bears the ordinary trainer's name: nnU-Net looks up a checkpoint's trainer by name, and what is trained is an
    ordinary network, so the finished folder is one that `nnUNetv2_predict` understands.
    """

    class nnUNetTrainer(base):  # noqa: N801 - see above
        def run_training(self) -> None:
            self.pace = make_pace(settings["budget_s"], _used_s(self.logger.get_checkpoint()))
            self.saved_at = time.monotonic()
            self.marks: dict[str, float] = {}
            draw, self.logger.plot_progress_png = self.logger.plot_progress_png, lambda _folder: None
            super().run_training()
            draw(self.output_folder)

        def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> tuple:  # noqa: N802
            rotation, is_flat, patch, axes = super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
            if not settings["mirror"]:
                axes = self.inference_allowed_mirroring_axes = None
            return rotation, is_flat, patch, axes

        def on_train_start(self) -> None:
            super().on_train_start()
            measured = measure(self, self.pace)
            self.num_epochs = self.pace.num_epochs = settings["num_epochs"] or self.pace.plan()
            self.lr_scheduler.max_steps = self.num_epochs
            if self.current_epoch == 0:
                say("schedule", num_epochs=self.num_epochs, measured=measured, seconds_per_iteration=self.pace.train_s)

        def on_epoch_start(self) -> None:
            super().on_epoch_start()
            self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = self.pace.iterations(self.current_epoch)
            self.marks = {"start": time.monotonic()}

        def on_train_epoch_end(self, train_outputs: list) -> None:
            super().on_train_epoch_end(train_outputs)
            self.marks["trained"] = time.monotonic()

        def on_validation_epoch_end(self, val_outputs: list) -> None:
            super().on_validation_epoch_end(val_outputs)
            self.marks["validated"] = time.monotonic()

        def on_epoch_end(self) -> None:
            super().on_epoch_end()
            say("epoch", **epoch_row(self))
            between_s = min(SAVE_EVERY_S, SAVED_SHARE * settings["budget_s"])
            if time.monotonic() - self.saved_at >= between_s and self.current_epoch < self.num_epochs:
                save_latest(self)
                self.saved_at = time.monotonic()
            start, trained, validated = (self.marks[name] for name in ("start", "trained", "validated"))
            self.pace.set_speed(
                (trained - start) / self.num_iterations_per_epoch,
                (validated - trained) / self.num_val_iterations_per_epoch,
                time.monotonic() - validated,
            )

        def save_checkpoint(self, filename: str) -> None:
            if not filename.endswith("checkpoint_best.pth"):
                super().save_checkpoint(f"{filename}.part")
                Path(f"{filename}.part").replace(filename)

    return nnUNetTrainer


def measure(trainer: Any, pace: Any) -> int:
    """Take the first iterations, note their speed but for the very first one, and say how many they were."""
    trainer.network.train()
    trainer.lr_scheduler.step(trainer.current_epoch)
    trainer.train_step(next(trainer.dataloader_train))
    began, count = time.monotonic(), 0
    while count == 0 or (count < MEASURED_MOST and time.monotonic() - began < MEASURED_SHARE * pace.budget_s):
        trainer.train_step(next(trainer.dataloader_train))
        count += 1
    train_s = (time.monotonic() - began) / count
    trainer.network.eval()
    began = time.monotonic()
    with import_module("torch").no_grad():
        trainer.validation_step(next(trainer.dataloader_val))
    pace.set_speed(train_s, time.monotonic() - began, 0.0)
    return count + 1


def save_latest(trainer: Any) -> None:
    """Save where the training can go on: after the epoch that was just ended."""
    # nnU-Net stores one more than the number of the epoch that is being ended, which here is ended already.
    trainer.current_epoch -= 1
    trainer.save_checkpoint(str(Path(trainer.output_folder) / "checkpoint_latest.pth"))
    trainer.current_epoch += 1


def epoch_row(trainer: Any) -> dict[str, Any]:
    """What the epoch that was just ended came to, in plain numbers; what is not finite is `None`."""
    loss, validation_loss, rate = (
        trainer.logger.get_value(key, step=-1) for key in ("train_losses", "val_losses", "lrs")
    )
    dice = [float(value) for value in trainer.logger.get_value("dice_per_class_or_region", step=-1)]
    known = [value for value in dice if math.isfinite(value)]
    return {
        "epoch": trainer.current_epoch - 1,
        "iterations": trainer.num_iterations_per_epoch,
        "loss": _finite(loss),
        "validation_loss": _finite(validation_loss),
        "pseudo_dice": [_finite(value) for value in dice],
        "mean_pseudo_dice": sum(known) / len(known) if known else None,
        "learning_rate": _finite(rate),
        "elapsed_s": trainer.pace.used_s,
    }


def _finite(value: Any) -> float | None:
    return float(value) if math.isfinite(float(value)) else None


def _used_s(logging: Mapping[str, Any]) -> float:
    """Seconds of the epochs that were finished before an interruption; 0 in a new training."""
    begun, ended = logging["epoch_start_timestamps"], logging["epoch_end_timestamps"]
    return sum(float(end) - float(start) for start, end in zip(begun, ended, strict=False))
