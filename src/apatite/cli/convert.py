"""The verb `convert`: weights that another program trained become a package."""

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from apatite.cli.console import Outcome
from apatite.cli.flags import CommonFlags, OutputPath


@dataclass(frozen=True, kw_only=True)
class Convert(CommonFlags):
    """Make a package of Swin weights that another program trained, without running anything of their file.

    Example: apatite convert model_swinvit.pt -o packages/monai --layout monai-swin-ssl
    """

    file: Positional[Path]
    """What torch.save wrote (.pt, .pth, .ckpt), or safetensors; its content decides, not its name."""
    out: OutputPath
    """The package to make; must not exist."""
    layout: str
    """Whose file it is: a name of `apatite list layouts`."""
    window_hu: tuple[float, float] | None = None
    """Ends of the HU window that was scaled to 0 ... 1 for the network; the layout's own where it has one."""
    spacing_mm: tuple[float, float, float] | None = None
    """Spacing along i, j, k of the images it was trained on; the layout's own where it has one."""
    licence: str = "NOASSERTION"
    """SPDX name of the weights' licence; it stays their owner's."""

    def run(self) -> Outcome:
        """Read, check, convert, write."""
        from apatite.segment.convert import KEPT_LICENCE, convert

        made = convert(
            self.file,
            self.out,
            self.layout,
            window_hu=self.window_hu,
            spacing_mm=self.spacing_mm,
            licence=self.licence,
        )
        coverage = made.coverage
        values = {
            "package": str(made.package),
            "sha256": made.sha256,
            "coverage": coverage.ratio,
            "tensors": {row.target: row.source for row in coverage.rows},
            "dropped": made.dropped,
            "unknown": list(coverage.unused),
            "doubt": made.layout.doubt,
        }
        lines = [
            *coverage.lines(most=8),
            f"{coverage.ratio:.1%} of the encoder's parameters were found",
            *(f"left out: {name} ({why})" for name, why in _first(made.dropped).items()),
            *(f"unknown, left out: {name}" for name in coverage.unused),
            f"not checked: {made.layout.doubt}",
            KEPT_LICENCE,
            f"package: {made.package}",
        ]
        return Outcome(values=values, lines=lines)


def _first(dropped: dict[str, str]) -> dict[str, str]:
    """One name for each reason, with how many more there are."""
    names: dict[str, list[str]] = {}
    for name, why in dropped.items():
        names.setdefault(why, []).append(name)
    return {found[0] + (f" and {len(found) - 1} more" if found[1:] else ""): why for why, found in names.items()}
