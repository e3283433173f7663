"""The verb `pretrain`."""

from dataclasses import dataclass

from apatite.cli.console import Outcome, bar
from apatite.cli.flags import TrainingFlags


@dataclass(frozen=True, kw_only=True)
class Pretrain(TrainingFlags):
    """Learn an encoder, UNETR++ or both from prepared scans without labels.

    Example: apatite pretrain -d prepared -o runs/mae --recipe small epochs=80
    """

    def run(self) -> Outcome:
        """Train and write the run folder."""
        from apatite.cli.recipe import resolve
        from apatite.pretrain.branches import BRANCHES
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
            "warning": made.warning,
        }
        lines = [f"{made.steps} steps on {made.cases} cases"]
        lines += [
            f"{branch}reconstruction error {row[f'{branch}reconstruction']:.3f} "
            f"(patch mean {row[f'{branch}patch_mean']:.3f}, interpolation {row[f'{branch}interpolation']:.3f}); "
            f"effective rank {row[f'{branch}effective_rank']:.1f}"
            for branch in ("", *(f"{name}." for name in BRANCHES))
            if f"{branch}reconstruction" in row
        ]
        lines += [
            f"{branch}: places {row[f'{branch}_point_error_mm']:.0f} mm off on held-out scans, "
            f"the best guess {row['guess_point_error_mm']:.0f} mm"
            for branch in BRANCHES
            if f"{branch}_point_error_mm" in row
        ]
        if "feature_spread" in row and "reconstruction" not in row:
            lines.append(f"features: rank {row['effective_rank']:.1f}, crops apart by {row['feature_spread']:.2f}")
        if "probe_dice" in row:
            lines.append(f"frozen linear probe: Dice {row['probe_dice']:.3f}")
        lines.append(f"package: {made.package}")
        if made.warning is not None:
            lines.append(f"warning: {made.warning}; what to do: docs/explanation/self-distillation.md")
        return Outcome(values=values, lines=lines, is_shown=made.is_first)
