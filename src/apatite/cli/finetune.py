"""The verb `finetune`."""

from dataclasses import dataclass
from pathlib import Path

from apatite.cli.console import Outcome, bar
from apatite.cli.flags import TrainingFlags


@dataclass(frozen=True, kw_only=True)
class Finetune(TrainingFlags):
    """Learn to segment from few labels; from scratch without --init-from.

    Example: apatite finetune -d prepared -o runs/tuned --init-from runs/mae --recipe small
    """

    init_from: Path | None = None
    """Pre-training run folder, or its model package."""

    def run(self) -> Outcome:
        """Train and write the run folder."""
        from apatite.cli.recipe import resolve
        from apatite.segment.finetune import finetune
        from apatite.segment.recipes import RECIPES

        config = resolve(RECIPES, self.recipe, self.config, self.settings)
        made = finetune(
            config,
            self.data,
            self.out,
            init_from=self.init_from,
            resume=self.resumes,
            watch=bar,
        )
        lines = []
        if made.coverage is not None:
            lines += [
                *made.coverage.lines(most=8),
                f"{made.coverage.ratio:.1%} of the parameters that were to be filled were loaded",
            ]
        is_judged = made.best_score != float("-inf")
        judged = f"soft Dice on development {made.best_score:.3f}" if is_judged else "no development cases to judge by"
        lines += [f"{made.cases} labelled cases; {judged}", f"model: {made.package}"]
        values = {
            "package": str(made.package),
            "cases": made.cases,
            "coverage": None if made.coverage is None else made.coverage.ratio,
            "best_score": made.best_score if is_judged else None,
            "last": made.last_row,
            "seconds_per_step": made.seconds_per_step,
        }
        return Outcome(values=values, lines=lines, is_shown=made.is_first)
