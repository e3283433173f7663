"""From a DICOM folder to the carotids' region: this package beside SimpleITK's registration and greedy's.

Two heads of 512×512 pixels: 28 slices of a real scan with a tilted gantry and uneven spacing, and 200 even slices of a
simulated one, whose pose is known. All are registered to a real head-CT template. The package's path is timed by stage:
reading (headers, geometry, decoding in the child process), finding the head, cutting the region. The others read with
SimpleITK's series reader, which knows neither tilt nor uneven spacing, and register what this package read at true
positions (2 mm cubes), so that their errors are those of registration alone: SimpleITK climbs to an affine map by
mutual information from 3 of 105 starts, greedy by normalised mutual information from its own random search. Errors are
those of the middle of the carotids' box: of the simulated head against the truth, of the real one against greedy
(greedy's own against SimpleITK).
"""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from apatite.core.rng import generator
from apatite.core.volume import Volume
from apatite.ct.boxes import BOXES
from apatite.ct.cover import training_grid
from apatite.ct.isotropic import isotropic
from apatite.ct.localise import localise
from apatite.ct.pose import HeadPose
from apatite.ct.region import REGIONS, cut_region
from apatite.ct.template import Template, read_template
from apatite.io.dicom.reading import read_folder
from apatite.phantom.cohort import CohortConfig
from apatite.phantom.dicom_series import SeriesSettings, write_series
from apatite.phantom.head import draw_head, procedural_template
from apatite.phantom.head_scan import scan_head
from apatite.phantom.head_slices import SliceLayout, lay_head_slices
from apatite.phantom.protocol import draw_protocol
from apatite.phantom.scanner import make_pose
from harness import Benchmark, compare, median, ratio_of

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
BOX = BOXES["ica"]
TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
Stages = dict[str, float]


def main(arguments: list[str] | None = None) -> None:
    bench = Benchmark.start(__doc__, __file__, packages=("SimpleITK", "picsl_greedy", "pydicom"), arguments=arguments)
    template = chosen_template(bench)
    with TemporaryDirectory() as name:
        folder = Path(name)
        heads: dict[str, tuple[Path, HeadPose | None]] = {}
        real = DATA / "head_ct_ge" / "dicom"
        if real.is_dir() and not bench.quick:
            heads["real, 28 slices"] = (real, None)
        slices = 24 if bench.quick else 200
        heads[f"simulated, {slices} slices"] = simulated(folder / "head", slices, 128 if bench.quick else 512)
        for head, (series, truth) in heads.items():
            report(bench, head, series, truth, template)
    bench.finish()


def chosen_template(bench: Benchmark) -> Template:
    """The real template; the package's own only to try the script where there is none."""
    path = DATA / "templates" / "scct.nii.gz"
    if path.exists() and not bench.quick:
        return read_template(path)
    bench.skip("a real template", "not here, or quick: errors against the simulated head mean nothing")
    return Template(name="procedural", volume=procedural_template())


def simulated(folder: Path, slices: int, edge: int) -> tuple[Path, HeadPose]:
    """A head that this package simulates, as DICOM, and how it lies."""
    config = CohortConfig(patients=1, seed=7)
    head, rng = draw_head(config, 0), generator(7, "head path")
    drawn = draw_protocol(rng, "Cobre", 1.0)
    step = 160.0 / slices
    protocol = replace(
        drawn,
        thickness_mm=step,
        spacing_mm=step,
        tilt_deg=0.0,
        vault_mm=0.0,
        pixel_mm=250.0 / edge,
        turn_deg=(8, -4, 6),
    )
    pose = make_pose(protocol, np.array([4.0, -12.0, 31.0]))
    middle = pose.to_ras(np.array([[0.0, -20.0, 40.0]]))[0]
    stack = lay_head_slices(protocol, SliceLayout(rows=edge, columns=edge), middle, pose.shift_mm)
    made = scan_head(head, pose, protocol, stack, rng)
    write_series(folder, made.scan, SeriesSettings(seed=7))
    return folder, made.truth.pose


def report(bench: Benchmark, head: str, series: Path, truth: HeadPose | None, template: Template) -> None:
    """Time the three sides in turn, and judge where they put the box."""
    scan = read_folder(series).scan
    cubes = isotropic(scan).volume
    stages: list[Stages] = []
    poses: dict[str, HeadPose] = {}

    def ours() -> None:
        poses["ours"], found = our_path(series, template, bench.threads)
        stages.append(found)

    def by_simpleitk() -> None:
        read_by_simpleitk(series)
        poses["simpleitk"] = register_by_simpleitk(cubes, template, bench.threads)

    def by_greedy() -> None:
        read_by_simpleitk(series)
        poses["greedy"] = register_by_greedy(cubes, template, bench.threads)

    sides: dict[str, Callable[[], None]] = {"ours": ours, "simpleitk": by_simpleitk}
    if installed("picsl_greedy"):
        sides["greedy"] = by_greedy
    else:
        bench.skip("greedy", "picsl_greedy is not installed")
    seconds = compare(sides, repeats=1 if bench.quick else 5, warmups=1)
    for side in sides:
        reference = truth or poses["simpleitk" if side == "greedy" else "greedy"]
        bench.row(
            head=head,
            side=side,
            seconds=median(seconds[side]),
            **({name + "_s": median(one[name] for one in stages) for name in stages[0]} if side == "ours" else {}),
            centre_error_mm=centre_error_mm(poses[side], reference),
        )
        if side != "ours":
            bench.ratio(f"{head.split(',')[0]}_{side}", ratio_of(seconds, side))


def our_path(series: Path, template: Template, threads: int) -> tuple[HeadPose, Stages]:
    """The package's whole path, and the seconds of its stages."""
    begun = time.perf_counter()
    scan = read_folder(series).scan
    read = time.perf_counter()
    found = localise(scan, template, threads=threads)
    placed = time.perf_counter()
    cut_region(scan, training_grid(found.pose, BOX, REGIONS["paper"]))
    done = time.perf_counter()
    return found.pose, {"read": read - begun, "localise": placed - read, "cut": done - placed}


def centre_error_mm(pose: HeadPose, reference: HeadPose) -> float:
    """Distance in the patient between two places of the middle of the box."""
    return float(np.linalg.norm(pose.to_ras(BOX.centre_mni_mm) - reference.to_ras(BOX.centre_mni_mm)))


def installed(package: str) -> bool:
    from importlib.util import find_spec

    return find_spec(package) is not None


def as_image(volume: Volume) -> Any:
    """Voxels clipped to what drives a registration, on their grid, in LPS."""
    import SimpleITK

    image = SimpleITK.GetImageFromArray(np.clip(volume.voxels, -200, 1000).astype(np.float32))
    affine = TO_LPS @ volume.grid.ijk_to_ras
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    return image


def read_by_simpleitk(series: Path) -> None:
    import SimpleITK

    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(series)))
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    reader.Execute()


def register_by_simpleitk(cubes: Volume, template: Template, threads: int) -> HeadPose:
    """Affine by Mattes mutual information: the best 3 of 105 starts at 4 mm, then at 2 mm."""
    import SimpleITK

    fixed, moving = as_image(template.volume), as_image(cubes)
    middle = fixed.TransformContinuousIndexToPhysicalPoint([(edge - 1) / 2 for edge in fixed.GetSize()])
    start = SimpleITK.CenteredTransformInitializer(
        fixed + 200, moving + 200, SimpleITK.Euler3DTransform(), SimpleITK.CenteredTransformInitializerFilter.MOMENTS
    )
    shift = np.array(SimpleITK.Euler3DTransform(start).GetTranslation())
    coarse = mutual_information(threads, shrink=2, bins=24)
    scored = []
    for about_x, about_z, up in product((-30, -15, 0, 15, 30), (-20, 0, 20), range(-45, 46, 15)):
        tried = SimpleITK.Euler3DTransform(
            middle, math.radians(about_x), 0.0, math.radians(about_z), (shift + np.array([0.0, 0.0, up])).tolist()
        )
        coarse.SetInitialTransform(tried, inPlace=False)
        scored.append((coarse.MetricEvaluate(fixed, moving), tried))
    best = []
    for _, tried in sorted(scored, key=lambda pair: pair[0])[:3]:
        climber = mutual_information(threads, shrink=2, bins=24)
        climber.SetInitialTransform(affine_of(tried), inPlace=False)
        result = climber.Execute(fixed, moving)
        best.append((climber.GetMetricValue(), result))
    last = mutual_information(threads, shrink=1, bins=48)
    found = min(best, key=lambda pair: pair[0])[1]
    last.SetInitialTransform(affine_of(found), inPlace=False)
    result = affine_of(last.Execute(fixed, moving))
    linear, centre = np.array(result.GetMatrix()).reshape(3, 3), np.array(result.GetCenter())
    lps = np.eye(4)
    lps[:3, :3], lps[:3, 3] = linear, np.array(result.GetTranslation()) + centre - linear @ centre
    return HeadPose(mni_to_ras=TO_LPS @ lps @ TO_LPS)


def affine_of(transform: Any) -> Any:
    """An affine transform with the same map."""
    import SimpleITK

    inner = transform.GetNthTransform(0) if isinstance(transform, SimpleITK.CompositeTransform) else transform
    if inner.GetTransformEnum() == SimpleITK.sitkAffine:
        return SimpleITK.AffineTransform(inner)
    result = SimpleITK.AffineTransform(3)
    rigid = SimpleITK.Euler3DTransform(inner)
    result.SetCenter(rigid.GetCenter())
    result.SetMatrix(rigid.GetMatrix())
    result.SetTranslation(rigid.GetTranslation())
    return result


def mutual_information(threads: int, shrink: int, bins: int) -> Any:
    import SimpleITK

    method = SimpleITK.ImageRegistrationMethod()
    method.SetNumberOfThreads(threads)
    method.SetMetricAsMattesMutualInformation(bins)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(0.25, 7)
    method.SetInterpolator(SimpleITK.sitkLinear)
    method.SetShrinkFactorsPerLevel([shrink])
    method.SetSmoothingSigmasPerLevel([float(shrink - 1)])
    method.SetOptimizerAsGradientDescent(1.0, 150, 1e-6, 10, method.EachIteration)
    method.SetOptimizerScalesFromPhysicalShift()
    return method


def register_by_greedy(cubes: Volume, template: Template, threads: int) -> HeadPose:
    """Affine by normalised mutual information, from greedy's own random search."""
    from picsl_greedy import Greedy3D

    greedy = Greedy3D()
    greedy.execute(
        f"-d 3 -a -dof 12 -m NMI -threads {threads} -i fixed moving -ia-image-centers -search 2000 25 40 "
        "-n 100x50x20 -o found -V 0",
        fixed=as_image(template.volume),
        moving=as_image(cubes),
        found=None,
    )
    return HeadPose(mni_to_ras=np.asarray(greedy["found"], dtype=np.float64))


if __name__ == "__main__":
    main()
