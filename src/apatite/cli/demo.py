"""The verb `demo`."""

from dataclasses import dataclass

from apatite.cli.console import Outcome, bar, terminal_table
from apatite.cli.flags import CommonFlags, OutputPath


@dataclass(frozen=True, kw_only=True)
class Demo(CommonFlags):
    """The whole road on simulated scans whose truth is known: about eight minutes on two cores, no data needed.

    Example: apatite demo -o demo
    """

    out: OutputPath
    """New or empty folder; report.html is the thing to look at."""
    patients: int = 240
    """Simulated patients; at least 150 for intervals that mean something."""
    labelled: int = 80
    """Labelled series for fine-tuning, one per patient."""
    seed: int = 0
    """Another seed, another cohort, other weights."""
    workers: int = 2
    """Processes that make phantoms."""

    def run(self) -> Outcome:
        """Make the cohort, train, calibrate, evaluate, write the page."""
        from dataclasses import replace

        from apatite.io.splits import SplitConfig
        from apatite.phantom.cohort import CohortConfig
        from apatite.study.demo import DemoConfig, run_demo
        from apatite.study.demo_page import write_demo_page
        from apatite.study.run import main_tables
        from apatite.study.write import summary_json

        base = DemoConfig()
        config = replace(
            base,
            cohort=CohortConfig(patients=self.patients, seed=self.seed),
            splits=SplitConfig(labelled=self.labelled),
            pretrain=replace(base.pretrain, seed=self.seed),
            finetune=replace(base.finetune, seed=self.seed),
            workers=self.workers,
        )
        made = run_demo(self.out, config, bar)
        page = write_demo_page(made, self.seed)
        total = sum(made.stages_s.values())
        values = {
            "report": str(page.report),
            "evaluation": str(page.evaluation),
            "stages_s": made.stages_s,
            "total_s": total,
            "summary": summary_json(made.evaluation, {}),
        }
        lines = [*map(terminal_table, main_tables(made.evaluation)), f"{total / 60:.1f} minutes; report: {page.report}"]
        return Outcome(values=values, lines=lines)
