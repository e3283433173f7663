"""Where a head lies: error and time on one real head CT (18.5° tilt, 4 and 7 mm slices), whole, turned and in parts.

The error is the distance, in the patient, from an independent registration of the whole scan to the same template
(picsl-greedy, NMI, 12 degrees of freedom): at the centre of the carotids' box and at its worst corner. Turned scans
have exact truth relative to it. A row is named by its flags or its refusal where the pose is not to be trusted. One
head and its changes are no cohort. Needs ../shared/data, which is not part of the package.
"""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations, product
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from apatite.core.errors import DataError
from apatite.core.scan import Scan, stack_from_grid
from apatite.core.volume import Grid, Volume, axis_aligned_grid
from apatite.ct.boxes import BOXES
from apatite.ct.isotropic import isotropic
from apatite.ct.localise import Localisation, localise
from apatite.ct.matching import WINDOW_HU
from apatite.ct.pose import HeadPose
from apatite.ct.region import cut_region
from apatite.ct.template import Template, read_template
from apatite.io.nifti import write_volume
from apatite.phantom.head import procedural_template
from harness import Benchmark

SHARED = Path(__file__).resolve().parents[1].parent / "shared" / "data"
TURNS_DEG = ((20, 0, 0), (-20, 0, 0), (0, 15, 0), (0, -15, 0), (0, 0, 25), (0, 0, -25), (15, 10, 20), (-20, -15, -25))

PROCEDURAL_ON = ("as it is", "turned (15, 10, 20)", "every 3. slice", "base, 18 slices", "base, 14 slices")


def read_head() -> Scan:
    """The real head, by the package's own reader."""
    from apatite.io.dicom.reading import read_folder

    return read_folder(SHARED / "head_ct_ge" / "dicom").scan


def turned(scan: Scan, turn_deg: tuple[int, int, int]) -> tuple[Scan, np.ndarray]:
    """The same slices elsewhere in space, and the map from the old place to the new one."""
    turn = Rotation.from_euler("xyz", turn_deg, degrees=True).as_matrix()
    stack = replace(
        scan.stack,
        origins_ras_mm=scan.stack.origins_ras_mm @ turn.T,
        column_step_ras_mm=turn @ scan.stack.column_step_ras_mm,
        row_step_ras_mm=turn @ scan.stack.row_step_ras_mm,
    )
    moved = np.eye(4)
    moved[:3, :3] = turn
    return replace(scan, stack=stack), moved


def some_slices(scan: Scan, kept: np.ndarray) -> Scan:
    """Some of the slices."""
    stack = replace(
        scan.stack,
        shape=(len(kept), *scan.stack.shape[1:]),
        origins_ras_mm=scan.stack.origins_ras_mm[kept],
        thickness_mm=scan.stack.thickness_mm[kept],
    )
    padding = None if scan.is_padding is None else scan.is_padding[kept]
    return Scan(voxels_hu=scan.voxels_hu[kept], stack=stack, is_padding=padding)


def in_pairs(scan: Scan, count: int) -> Scan:
    """The first slices averaged two by two."""
    first = np.arange(0, count, 2)
    part = some_slices(scan, np.concatenate([first, np.arange(count, scan.stack.shape[0])]))
    voxels, origins = part.voxels_hu.astype(np.float32), part.stack.origins_ras_mm.copy()
    voxels[: len(first)] = (voxels[: len(first)] + scan.voxels_hu[first + 1]) / 2
    origins[: len(first)] = (origins[: len(first)] + scan.stack.origins_ras_mm[first + 1]) / 2
    thickness = part.stack.thickness_mm.copy()
    thickness[: len(first)] *= 2
    return replace(part, voxels_hu=voxels, stack=replace(part.stack, origins_ras_mm=origins, thickness_mm=thickness))


def changes(scan: Scan) -> Iterator[tuple[str, Scan, np.ndarray]]:
    """Every changed scan, and where it was moved to."""
    slices = scan.stack.shape[0]
    yield "as it is", scan, np.eye(4)
    for turn_deg in TURNS_DEG:
        yield f"turned {turn_deg}", *turned(scan, turn_deg)
    for every in (2, 3):
        yield f"every {every}. slice", some_slices(scan, np.arange(0, slices, every)), np.eye(4)
    yield "8 mm base", in_pairs(scan, 14), np.eye(4)
    yield "8 and 14 mm", in_pairs(scan, 28), np.eye(4)
    for missing in (3, 5):
        yield f"lowest {missing} missing", some_slices(scan, np.arange(missing, slices)), np.eye(4)
    for kept in (18, 14, 10):
        yield f"base, {kept} slices", some_slices(scan, np.arange(kept)), np.eye(4)
    yield "base, 18 slices, turned", *turned(some_slices(scan, np.arange(18)), (15, 10, -15))
    yield "vault, 14 slices", some_slices(scan, np.arange(14, slices)), np.eye(4)


def greedy_pose(scan: Scan, template: Template) -> HeadPose:
    """The reference, on a regular 1.5 mm grid that the package's region cutter made."""
    from picsl_greedy import Greedy3D

    whole = isotropic(scan).volume.grid
    extent = np.array(whole.shape) * whole.spacing_mm[0]
    shape = tuple(int(edge) for edge in np.ceil(extent / 1.5))
    grid = axis_aligned_grid((shape[0], shape[1], shape[2]), (1.5, 1.5, 1.5), whole.centre_ras_mm)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_volume(folder / "fixed.nii.gz", template.volume)
        write_volume(folder / "moving.nii.gz", cut_region(scan, grid))
        Greedy3D().execute(
            f"-threads 2 -a -dof 12 -i {folder}/fixed.nii.gz {folder}/moving.nii.gz -m NMI -ia-image-centers"
            f" -search 2000 25 40 -n 100x50x20 -o {folder}/found.mat"
        )
        return HeadPose(mni_to_ras=np.loadtxt(folder / "found.mat"))


def errors_mm(found: HeadPose, truth: HeadPose) -> tuple[float, float]:
    """At the box's centre and its worst corner."""
    box = BOXES["ica"]
    apart = np.linalg.norm(found.to_ras(box.corners_mni_mm) - truth.to_ras(box.corners_mni_mm), axis=1)
    centre = np.linalg.norm(found.to_ras(box.centre_mni_mm) - truth.to_ras(box.centre_mni_mm))
    return float(centre), float(apart.max())


def measure(bench: Benchmark, name: str, what: str, scan: Scan, template: Template, truth: HeadPose) -> None:
    """One row."""
    start = time.perf_counter()
    try:
        found: Localisation = localise(scan, template, threads=bench.threads)
    except DataError as error:
        bench.row(template=name, scan=what, flags=error.code)
        return
    elapsed_s = time.perf_counter() - start
    centre, corner = errors_mm(found.pose, truth)
    figures = {key: found.confidence[key] for key in ("disagreement_mm", "bone_overlap", "sinus_air_share")}
    flags = " ".join(found.flags)
    bench.row(
        template=name,
        scan=what,
        centre_mm=centre,
        corner_mm=corner,
        kind=found.kind,
        s=elapsed_s,
        **figures,
        flags=flags,
    )


def nilearn_template() -> Template:
    """The skull-stripped T1 that comes with nilearn, its grey levels stretched over the window."""
    from nilearn.datasets import load_mni152_template

    image = load_mni152_template(resolution=2)
    voxels = np.ascontiguousarray(np.asarray(image.dataobj, np.float32).T)
    low, high = WINDOW_HU
    stretched = np.where(voxels > 0, low + (high - low) * voxels / voxels.max(), low).astype(np.float32)
    return Template(
        name="nilearn", volume=Volume(voxels=stretched, grid=Grid(shape=voxels.shape, ijk_to_ras=image.affine))
    )


def re_encoded(volume: Volume, order: tuple[int, ...], flips: tuple[bool, ...]) -> Scan:
    """The same content with its array axes in another order, some of them turned round."""
    affine, voxels = volume.grid.ijk_to_ras.copy(), volume.voxels
    for axis in range(3):
        if flips[axis]:
            affine[:3, 3] += affine[:3, 2 - axis] * (voxels.shape[axis] - 1)
            affine[:3, 2 - axis] *= -1
            voxels = np.flip(voxels, axis)
    affine[:3, :3] = affine[:3, [2 - axis for axis in order][::-1]]
    voxels = np.ascontiguousarray(voxels.transpose(order))
    return Scan(voxels_hu=voxels, stack=stack_from_grid(Grid(shape=voxels.shape, ijk_to_ras=affine)))


def main(arguments: list[str] | None = None) -> None:
    """One row per template and change of the scan."""
    bench = Benchmark.start(__doc__, __file__, packages=("numba", "picsl-greedy", "nilearn"), arguments=arguments)
    if not (SHARED / "head_ct_ge").is_dir():
        bench.skip("everything", "the real head CT is not there")
        return bench.finish()
    scan = read_head()
    templates = {name: read_template(SHARED / "templates" / f"{name}.nii.gz") for name in ("scct", "scct_unsmooth_2mm")}
    try:
        truths = {name: greedy_pose(scan, template) for name, template in templates.items()}
    except ImportError:
        bench.skip("everything", "picsl-greedy is not installed")
        return bench.finish()
    localise(scan, templates["scct"])
    for what, changed, moved in changes(scan):
        measure(bench, "scct", what, changed, templates["scct"], HeadPose(mni_to_ras=moved @ truths["scct"].mni_to_ras))
        if bench.quick:
            return bench.finish()
    measure(bench, "scct_unsmooth_2mm", "as it is", scan, templates["scct_unsmooth_2mm"], truths["scct_unsmooth_2mm"])
    procedural = Template(name="procedural", volume=procedural_template())
    for what, changed, moved in changes(scan):
        if what in PROCEDURAL_ON:
            truth = HeadPose(mni_to_ras=moved @ truths["scct"].mni_to_ras)
            measure(bench, "procedural, against scct", what, changed, procedural, truth)
    try:
        measure(bench, "nilearn T1, against scct", "as it is", scan, nilearn_template(), truths["scct"])
    except ImportError:
        bench.skip("nilearn T1", "not installed")
    volume = isotropic(scan).volume
    poses = [
        localise(re_encoded(volume, order, flips), templates["scct"], threads=bench.threads).pose
        for order, flips in product(permutations(range(3)), product((False, True), repeat=3))
    ]
    bench.facts["orders_of_axes"] = len(poses)
    bench.facts["farthest_pose_of_another_order_mm"] = max(errors_mm(pose, poses[0])[1] for pose in poses)
    bench.facts["between_the_references_mm"] = errors_mm(truths["scct"], truths["scct_unsmooth_2mm"])[0]
    return bench.finish()


if __name__ == "__main__":
    main()
