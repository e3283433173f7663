"""The verb `annotate-rule`: from a reader's circles to a label map, by the paper's rule."""

from dataclasses import dataclass
from pathlib import Path

from apatite.cli.console import Outcome
from apatite.cli.flags import CommonFlags, InputPath, OutputPath
from apatite.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class AnnotateRule(CommonFlags):
    """Turn circles into a calcium label map: at least 130 HU inside them, without single voxels.

    Example: apatite annotate-rule -i scan.nii.gz --circles circles.json -o label.nii.gz
    """

    input: InputPath
    """The scan, NIfTI in HU or a DICOM folder."""
    circles: Path
    """What was circled: a label map on the same slices (.nii.gz), or polygons and circles (.json)."""
    out: OutputPath
    """The label map to write (.nii.gz), on the slices of the scan."""
    label: int = 1
    """Label value of circles in JSON that state none."""

    def run(self) -> Outcome:
        """Read, annotate, write, count."""
        from apatite.calcium.measure import volume_mm3
        from apatite.calcium.rule import annotate_circles
        from apatite.io.circles import read_circles
        from apatite.io.images import read_image
        from apatite.io.nifti import write_label

        if not self.out.name.endswith((".nii", ".nii.gz")):
            raise ConfigError(f"the label map {self.out.name!r} does not end in .nii.gz", fix="name it so with -o")
        if self.out.resolve() in (self.input.resolve(), self.circles.resolve()):
            raise ConfigError("the label map would replace the scan or the circles", fix="give another file with -o")
        scan = read_image(self.input)
        circles = read_circles(self.circles, scan.stack, label=self.label)
        annotated = annotate_circles(scan, circles)
        write_label(self.out, annotated, scan.stack)
        rows = {
            str(value): {
                "circled_pixels": int((circles == value).sum()),
                "pixels": int((annotated == value).sum()),
                "volume_mm3": volume_mm3(annotated == value, scan.stack),
            }
            for value in range(1, int(circles.max()) + 1)
            if (circles == value).any()
        }
        lines = [
            f"label {value}: {row['pixels']} of {row['circled_pixels']} circled pixels, {row['volume_mm3']:.3g} mm³"
            for value, row in rows.items()
        ]
        return Outcome(values={"label": str(self.out), "labels": rows}, lines=[*lines, f"label map: {self.out}"])
