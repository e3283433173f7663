"""What each tool makes of a folder: every volume that it hands over, in LPS mm. Imported in a child process only.

A tool that raises has refused. The peers are used as their documentation shows it first.
"""

import subprocess
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from faulty_series.judge import Slices

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
Reader = Callable[[Path], list[Slices]]


class RefusedError(Exception):
    """A tool said no."""


def simpleitk(folder: Path) -> list[Slices]:
    """SimpleITK's series reader, on every series that it finds."""
    import SimpleITK as sitk  # noqa: N813

    names = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    volumes = []
    for name in names:
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder), name))
        image = reader.Execute()
        if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
            raise RefusedError("no plain volume")
        affine = np.eye(4)
        affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
        affine[:3, 3] = image.GetOrigin()
        volumes.append(Slices.from_affine(sitk.GetArrayFromImage(image).astype(float), affine))
    return volumes


def highdicom(folder: Path) -> list[Slices]:
    """pydicom reads every file, highdicom makes a volume of every series; a multi-frame file is one by itself."""
    import highdicom as hd
    import pydicom

    series: dict[str, list[pydicom.Dataset]] = {}
    for path in sorted(folder.iterdir()):
        if path.is_file() and (image := _ct_image(path)) is not None:
            series.setdefault(str(image.get("SeriesInstanceUID", "")), []).append(image)
    volumes = []
    for images in series.values():
        if "PerFrameFunctionalGroupsSequence" in images[0]:
            volume = hd.Image.from_dataset(images[0]).get_volume()
        else:
            volume = hd.get_volume_from_series(images)
        volumes.append(_from_highdicom(volume))
    return volumes


def _ct_image(path: Path):
    """A file as far as pydicom takes it for a CT; what it does not take for DICOM is left aside, as users do."""
    import pydicom
    from pydicom.errors import InvalidDicomError

    try:
        image = pydicom.dcmread(path)
    except InvalidDicomError:
        return None
    return image if image.get("Modality") == "CT" else None


def _from_highdicom(volume) -> Slices:
    # highdicom's first index runs along the slices, its second down the rows.
    affine = np.array(volume.affine)[:, [2, 1, 0, 3]]
    return Slices.from_affine(np.asarray(volume.array, float), affine)


def dicom2nifti(folder: Path) -> list[Slices]:
    """dicom2nifti on the whole folder, as its command does."""
    import dicom2nifti as converter

    with TemporaryDirectory() as name:
        converter.convert_directory(str(folder), name, compression=False, reorient=False)
        return _niftis(Path(name))


def dcm2niix(folder: Path) -> list[Slices]:
    """dcm2niix; where it also writes a volume with tilt or spacing corrected, that one counts."""
    import dcm2niix as wheel

    with TemporaryDirectory() as name:
        command = [wheel.bin, "-z", "n", "-f", "s_%s_%e", "-o", name, str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        # Its greeting and the list of what it converted are no warnings.
        for line in (done.stdout + done.stderr).splitlines():
            if line.startswith(("Warning", "Error", "Note")) or "admonish" in line:
                print(line)
        paths = sorted(Path(name).glob("*.nii"))
        corrected = [path for path in paths if "_Eq" in path.stem] or [path for path in paths if "_Tilt" in path.stem]
        return _niftis(Path(name), corrected or paths)


def _niftis(folder: Path, paths: list[Path] | None = None) -> list[Slices]:
    from nibabel.nifti1 import load

    volumes = []
    for path in sorted(folder.glob("*.nii*")) if paths is None else paths:
        image = load(path)
        values = np.asarray(image.dataobj, dtype=float)
        if values.ndim != 3:
            continue
        volumes.append(Slices.from_affine(values.transpose(2, 1, 0), RAS_TO_LPS @ np.asarray(image.affine)))
    return volumes


PEERS: dict[str, Reader] = {
    "SimpleITK": simpleitk,
    "dicom2nifti": dicom2nifti,
    "dcm2niix": dcm2niix,
    "highdicom": highdicom,
}
