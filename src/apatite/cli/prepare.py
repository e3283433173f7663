"""The verb `prepare`: from a manifest to arrays that training reads at memory speed."""

from dataclasses import dataclass
from typing import Literal

from tyro.conf import Positional

from apatite.cli.console import Outcome, bar
from apatite.cli.flags import CommonFlags, InputPath, OutputPath
from apatite.core.errors import EXIT_OK, EXIT_PARTIAL


@dataclass(frozen=True, kw_only=True)
class Prepare(CommonFlags):
    """Cut the region of every case, or resample whole volumes, and store them for training.

    Example: apatite prepare -i study/manifest.csv -o study/prepared --recipe region-small
    """

    input: InputPath
    """The manifest, from `apatite index` or `apatite phantom`."""
    out: OutputPath
    """The prepared folder to make."""
    recipe: Literal["region-small", "region-paper", "volume"] = "region-small"
    """What to make of each case."""
    workers: int = 1
    """Processes; the result does not depend on it."""
    set: Positional[tuple[str, ...]] = ()
    """Changes to the recipe, such as spacing_mm=[2,2,2]."""

    def run(self) -> Outcome:
        """Prepare every case that has a split."""
        from apatite.core.config import override
        from apatite.data.prepare import RECIPES, prepare
        from apatite.io.manifest import read_manifest

        config = override(RECIPES[self.recipe](), self.set)
        result = prepare(read_manifest(self.input), self.out, config, self.workers, bar)
        values = {"prepared": str(result.folder), "counts": result.counts, "failures": result.failures}
        lines = [f"  {split:<12} {count:>6}" for split, count in result.counts.items()]
        lines += [
            f"left out {bad['case_id']}: {bad['what']} ({bad['code']}) -> {bad['fix']}" for bad in result.failures
        ]
        lines.append(f"wrote {result.folder}; next: apatite pretrain -d {result.folder} -o RUN")
        return Outcome(values=values, lines=lines, exit_code=EXIT_PARTIAL if result.failures else EXIT_OK)
