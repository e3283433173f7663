"""The verb `pretrain`."""

from dataclasses import dataclass

from apatite.cli.console import Outcome, bar
from apatite.cli.flags import TrainingFlags


@dataclass(frozen=True, kw_only=True)
class Pretrain(TrainingFlags):
    """Learn an encoder from prepared scans without labels.

    Example: apatite pretrain -d prepared -o runs/mae --recipe small epochs=80
    """

    def run(self) -> Outcome:
        """Train and write the run folder."""
        from apatite.cli.recipe import resolve
        from apatite.pretrain.recipes import RECIPES
        from apatite.pretrain.stage import pretrain

        config = resolve(RECIPES, self.recipe, self.config, self.settings)
        made = pretrain(config, self.data, self.out, resume=self.resumes, watch=bar)
        row = made.last_row
        values = {
            "package": str(made.package),
            "steps": made.steps,
            "cases": made.cases,
            "last": row,
            "seconds_per_step": made.seconds_per_step,
        }
        lines = [f"{made.steps} steps on {made.cases} cases"]
        if "reconstruction" in row:
            lines.append(
                f"reconstruction error {row['reconstruction']:.3f} "
                f"(patch mean {row['patch_mean']:.3f}, interpolation {row['interpolation']:.3f}); "
                f"effective rank {row['effective_rank']:.1f}"
            )
        if "probe_dice" in row:
            lines.append(f"frozen linear probe: Dice {row['probe_dice']:.3f}")
        return Outcome(values=values, lines=[*lines, f"encoder: {made.package}"], is_shown=made.is_first)
