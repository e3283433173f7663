"""The verb `prepare`: from a manifest to arrays that training reads at memory speed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import FlagCreatePairsOff, Positional, arg

from apatite.cli.console import Outcome, bar
from apatite.cli.flags import CommonFlags, InputPath, OutputPath
from apatite.core.errors import EXIT_OK, EXIT_PARTIAL

MOST_LINES = 20
"""So many failures are shown; all of them are in rows.csv."""


@dataclass(frozen=True, kw_only=True)
class Prepare(CommonFlags):
    """Cut the region of every case, or resample whole volumes, and store them for training.

    A run that was stopped or killed is gone on with by the same command.

    Example: apatite prepare -i study/manifest.csv -o study/prepared --recipe region-small
    """

    input: InputPath
    """The manifest, from `apatite index` or `apatite phantom`."""
    out: OutputPath
    """The prepared folder to make."""
    recipe: Literal["region-small", "region-paper", "volume", "synapse", "btcv", "acdc", "msd_lung", "msd_brats"] = (
        "region-small"
    )
    """What to make of each case."""
    workers: int = 1
    """Processes; the result does not depend on it. 0 works in this one, without limits of time and memory."""
    template: Annotated[tuple[Path, ...], arg(aliases=("-t",))] = ()
    """Head-CT templates in MNI space (.nii.gz), to find the region with in heads whose manifest does not state it."""
    localise: FlagCreatePairsOff[bool] = False
    """Find the region with the package's own procedural head, where no --template is given."""
    decisions: Path | None = None
    """The reviewers' file; cases that it rejects are left out."""
    case_minutes: float = 5.0
    """Wall time that one case may take."""
    case_gib: float = 6.0
    """Memory that the process for one case may take."""
    set: Positional[tuple[str, ...]] = ()
    """Changes to the recipe, such as spacing_mm=[2,2,2]."""

    def run(self) -> Outcome:
        """Prepare every case that has a split."""
        from apatite.core.config import override
        from apatite.data.prepare import RECIPES, prepare
        from apatite.io.manifest import read_manifest

        config = override(RECIPES[self.recipe](), self.set)
        manifest = read_manifest(self.input)
        result = prepare(manifest, self.out, config, self.workers, bar, self._given())
        values = {
            "prepared": str(result.folder),
            "counts": result.counts,
            "failures": result.failures,
            "rejected": result.num_rejected,
        }
        lines = [f"  {split:<12} {count:>6}" for split, count in result.counts.items()]
        lines += [
            f"left out {bad['case_id']}: {bad['what']} ({bad['code']}) -> {bad['fix']}"
            for bad in result.failures[:MOST_LINES]
        ]
        if len(result.failures) > MOST_LINES:
            lines.append(f"... and {len(result.failures) - MOST_LINES} more, all of them in {result.folder}/rows.csv")
        if result.num_rejected:
            lines.append(f"rejected by a reviewer: {result.num_rejected}")
        lines.append(f"wrote {result.folder}; next: apatite pretrain -d {result.folder} -o RUN")
        return Outcome(values=values, lines=lines, exit_code=EXIT_PARTIAL if result.failures else EXIT_OK)

    def _given(self) -> Any:
        from apatite.batch.worker import CaseLimits
        from apatite.ct.decisions import read_decisions
        from apatite.data.prepare import PrepareWith

        limits = CaseLimits(
            wall_s=60 * self.case_minutes,
            memory_bytes=int(self.case_gib * 2**30),
            debug_folder=self.out.with_name(f"{self.out.name}.debug") if self.debug else None,
        )
        decisions = read_decisions(self.decisions) if self.decisions else ()
        return PrepareWith(templates=self._templates(), decisions=decisions, limits=limits)

    def _templates(self) -> tuple[Any, ...]:
        if not self.template and not self.localise:
            return ()
        from apatite.segment.templates import templates_of

        return templates_of(self.template)
