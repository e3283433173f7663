import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK

from apatite.core.errors import ConfigError
from apatite.core.scan import Scan, SliceStack
from apatite.io.dicom.reading import read_folder
from apatite.phantom.dicom_series import (
    TRANSFER_SYNTAXES,
    SeriesSettings,
    encoded,
    series_datasets,
    write_datasets,
    write_series,
)
from apatite.phantom.fault_phantom import fault_phantom, fault_stack
from apatite.phantom.head_slices import SliceLayout, lay_head_slices, tilt_of
from apatite.phantom.protocol import Protocol

SHAPE = (7, 33, 40)


def _scan(tilt_deg=0.0, layout="supine", oblique_deg=(0.0, 0.0, 0.0), spacing_mm=4.0):
    protocol = Protocol(pixel_mm=0.5, thickness_mm=4.0, spacing_mm=spacing_mm, tilt_deg=tilt_deg)
    chosen = SliceLayout(
        name=layout,
        rows=SHAPE[1],
        columns=SHAPE[2],
        oblique_deg=oblique_deg,
        low_mm=-12.0,
        high_mm=-12 + 7 * spacing_mm,
    )
    stack = lay_head_slices(protocol, chosen, np.array([3.0, -8.0, 20.0]), np.array([1.0, 2.0, 15.0]))
    voxels = np.random.default_rng(5).integers(-1000, 2900, stack.shape).astype(np.int16)
    is_padding = np.zeros(stack.shape, dtype=bool)
    is_padding[:, :3, :4] = True
    voxels[is_padding] = -1024
    return Scan(voxels_hu=voxels, stack=stack, is_padding=is_padding)


def _hu(path):
    dataset = pydicom.dcmread(path)
    return dataset.pixel_array.astype(np.float64) * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)


@pytest.mark.parametrize("syntax", TRANSFER_SYNTAXES)
@pytest.mark.parametrize("is_signed", [False, True])
def test_every_syntax_gives_the_same_hu(syntax, is_signed, tmp_path):
    scan = _scan()
    settings = SeriesSettings(
        syntax=syntax,
        is_signed=is_signed,
        bits_stored=16 if is_signed else 12,
        intercept=0.0 if is_signed else -1024.0,
        padding_stored=-2000 if is_signed else 0,
    )
    paths = write_series(tmp_path, scan, settings)
    assert len(set(paths)) == SHAPE[0] and sorted(tmp_path.iterdir()) == sorted(paths)
    for path, expected, is_padding in zip(paths, scan.voxels_hu, scan.is_padding, strict=True):
        found = _hu(path)
        assert np.array_equal(found[~is_padding], expected[~is_padding])
        assert (found[is_padding] == (-2000 if is_signed else -1024)).all()
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
        assert dataset.file_meta.TransferSyntaxUID == TRANSFER_SYNTAXES[syntax]
        assert dataset.PixelPaddingValue == settings.padding_stored


@pytest.mark.parametrize("layout", ["supine", "prone", "feet_first", "downwards", "coronal"])
@pytest.mark.parametrize(
    ("tilt", "oblique"), [(0.0, (0.0, 0.0, 0.0)), (18.5, (0.0, 0.0, 0.0)), (-9.0, (11.0, -7.0, 5.0))]
)
def test_positions_are_those_that_other_readers_find(layout, tilt, oblique, tmp_path):
    scan = _scan(tilt, layout, oblique)
    paths = write_series(tmp_path, scan, SeriesSettings())
    corners = [(0, 0), (SHAPE[1] - 1, 0), (0, SHAPE[2] - 1)]
    for index, path in enumerate(paths):
        image = SimpleITK.ReadImage(str(path))
        for row, column in corners:
            lps = np.array(image.TransformIndexToPhysicalPoint((column, row, 0)))
            ours = scan.stack.to_ras(index, np.array([float(row), float(column)]))
            np.testing.assert_allclose(lps * [-1, -1, 1], ours, atol=1e-4)
        assert np.array_equal(SimpleITK.GetArrayFromImage(image)[0], scan.voxels_hu[index])
        tilt_tag = float(pydicom.dcmread(path).GantryDetectorTilt)
        assert abs(tilt_tag) == pytest.approx(abs(tilt), abs=1e-3)


@pytest.mark.parametrize("layout", ["supine", "prone", "sagittal"])
def test_highdicom_builds_the_same_volume(layout):
    scan = _scan(layout=layout, oblique_deg=(4.0, 9.0, -3.0))
    datasets = [
        pydicom.dcmread(pydicom.filebase.DicomBytesIO(encoded(d))) for d in series_datasets(scan, SeriesSettings())
    ]
    volume = highdicom.get_volume_from_series(datasets)
    slices, rows, columns = (axis.ravel() for axis in np.indices(volume.array.shape))
    lps = volume.map_indices_to_reference(np.stack([slices, rows, columns], axis=1))
    index = np.rint(scan.stack.to_slice_row_column(lps * np.array([-1.0, -1.0, 1.0]))).astype(int)
    assert np.array_equal(scan.voxels_hu[tuple(index.T)], volume.array.ravel())


def test_the_tilt_of_uneven_overlapping_slices():
    stack = fault_stack(tilt_deg=18.5)
    uneven = SliceStack(
        shape=(9, *stack.shape[1:]),
        origins_ras_mm=stack.origins_ras_mm[[0, 1, 2, 3, 5, 6, 9, 12, 15]],
        column_step_ras_mm=stack.column_step_ras_mm,
        row_step_ras_mm=stack.row_step_ras_mm,
        thickness_mm=stack.thickness_mm[:9],
    )
    assert tilt_of(stack) == pytest.approx(tilt_of(uneven), abs=1e-9) == pytest.approx(18.5)
    assert tilt_of(fault_stack(tilt_deg=-18.5)) == pytest.approx(-18.5)
    assert tilt_of(fault_stack()) == 0


def test_the_package_reads_back_what_it_wrote(tmp_path):
    scan = _scan(tilt_deg=12.0)
    write_series(tmp_path, scan, SeriesSettings(instances="down", padding_stored=0))
    found = read_folder(tmp_path).scan
    np.testing.assert_allclose(found.stack.origins_ras_mm, scan.stack.origins_ras_mm, atol=1e-6)
    np.testing.assert_allclose(found.stack.row_step_ras_mm, scan.stack.row_step_ras_mm, atol=1e-9)
    np.testing.assert_allclose(found.stack.column_step_ras_mm, scan.stack.column_step_ras_mm, atol=1e-9)
    np.testing.assert_allclose(found.stack.thickness_mm, scan.stack.thickness_mm)
    assert np.array_equal(found.voxels_hu, scan.voxels_hu)
    assert np.array_equal(found.is_padding, scan.is_padding)


def test_same_settings_same_bytes_and_other_seed_other_uids(tmp_path):
    scan, _ = fault_phantom(fault_stack(shape=(3, 10, 12)))
    first, again, other = (
        [p.read_bytes() for p in write_series(tmp_path / name, scan, SeriesSettings(seed=seed, number=4))]
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert first == again
    uids = [
        {e.value for e in pydicom.dcmread(f, stop_before_pixels=True) if e.VR == "UI"}
        for f in (tmp_path / "a").iterdir()
    ]
    others = [
        {e.value for e in pydicom.dcmread(f, stop_before_pixels=True) if e.VR == "UI"}
        for f in (tmp_path / "c").iterdir()
    ]
    assert set.union(*uids) & set.union(*others) == {pydicom.uid.CTImageStorage}
    assert first != other
    assert all(
        uid.startswith("2.25.") and pydicom.uid.UID(uid).is_valid
        for uid in set.union(*uids) - {pydicom.uid.CTImageStorage}
    )


def test_series_of_one_study_share_its_uids_and_lie_side_by_side(tmp_path):
    scan, _ = fault_phantom(fault_stack(shape=(3, 10, 12)))
    paths = [write_series(tmp_path, scan, SeriesSettings(series=n))[0] for n in (1, 2)]
    assert len(list(tmp_path.iterdir())) == 6
    one, two = (pydicom.dcmread(path) for path in paths)
    assert one.StudyInstanceUID == two.StudyInstanceUID and one.FrameOfReferenceUID == two.FrameOfReferenceUID
    assert one.SeriesInstanceUID != two.SeriesInstanceUID and one.SOPInstanceUID != two.SOPInstanceUID


def test_it_says_that_it_is_simulated(tmp_path):
    scan, _ = fault_phantom(fault_stack(shape=(3, 10, 12)))
    dataset = pydicom.dcmread(write_series(tmp_path, scan, SeriesSettings(number=7, age_years=81.6))[1])
    assert dataset.PatientID == "PHANTOM-0007" and dataset.PatientAge == "081Y"
    assert all("SIMULATED" in dataset[key].value for key in ("ImageComments", "SeriesDescription", "StudyDescription"))


def test_a_change_of_one_dataset_is_written_and_nothing_else(tmp_path):
    scan, _ = fault_phantom(fault_stack(shape=(4, 10, 12)))
    datasets = series_datasets(scan, SeriesSettings())
    del datasets[2].ImagePositionPatient
    datasets[3].InstanceNumber = 1
    paths = write_datasets(tmp_path, datasets)
    assert len(set(paths)) == 4
    read = [pydicom.dcmread(path) for path in paths]
    assert ["ImagePositionPatient" in dataset for dataset in read] == [True, True, False, True]
    assert read[3].InstanceNumber == 1 and read[0].InstanceNumber == 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"syntax": "jpeg"}, "transfer syntax"),
        ({"bits_stored": 7}, "7 bits"),
        ({"slope": 0.0}, "slope"),
        ({"padding_stored": -1}, "padding -1"),
    ],
)
def test_impossible_settings_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        SeriesSettings(**wrong)


def test_jpeg_2000_needs_images_of_some_size():
    scan, _ = fault_phantom(fault_stack(shape=(3, 31, 40)))
    with pytest.raises(ConfigError, match="31"):
        encoded(series_datasets(scan, SeriesSettings())[0], "jpeg2000")


def test_hu_that_do_not_fit_are_refused(tmp_path):
    scan, _ = fault_phantom(fault_stack(shape=(3, 10, 12)))
    with pytest.raises(ConfigError, match="do not fit 12 bits"):
        write_series(tmp_path, scan, SeriesSettings(intercept=100.0))
