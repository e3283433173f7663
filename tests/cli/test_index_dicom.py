"""`apatite index` on a tree as a hospital sends it: every file and every series ends in one row with its reason."""

import csv
import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, SecondaryCaptureImageStorage, XRayRadiationDoseSRStorage

from apatite.cli import main
from apatite.core.errors import DataError
from apatite.core.reasons import REASONS
from apatite.io.dicom.listing import read_listing
from apatite.io.images import read_image
from apatite.io.layouts import read_layout
from apatite.io.manifest import read_manifest
from apatite.io.survey import completed, survey

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "data"
CANARY = "Zzcanary"


def write_series(
    folder: Path, uid: str, positions_mm, thickness_mm=5.0, patient="P1", study="1.1", kernel="H31s", **changes
) -> None:
    """16×16 axial slices at positions along z, with every identifying text a canary."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, z in enumerate(positions_mm):
        image = Dataset()
        image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, f"{uid}.{number + 1}"
        image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = study, uid, f"{study}.9"
        image.PatientID, image.PatientName, image.PatientBirthDate = (
            f"{CANARY}{patient}",
            f"{CANARY}^{patient}",
            "19400101",
        )
        image.StudyDate, image.InstitutionName, image.Modality = "20200102", CANARY, "CT"
        image.ImageType, image.SeriesDescription = ["ORIGINAL", "PRIMARY", "AXIAL"], f"Head {CANARY}"
        image.Manufacturer, image.ManufacturerModelName, image.ConvolutionKernel = "SIEMENS", "=Sensation 64", kernel
        image.KVP, image.PatientAge, image.PatientSex, image.BodyPartExamined = 120, "080Y", "F", "HEAD"
        image.ImagePositionPatient = [-80.0, -100.0, float(z)]
        image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        image.PixelSpacing, image.SliceThickness = [4.5, 4.0], thickness_mm
        image.Rows = image.Columns = 16
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
        image.RescaleSlope, image.RescaleIntercept = 1, -1024
        image.PixelData = np.random.default_rng(number).integers(0, 2000, (16, 16)).astype(np.uint16).tobytes()
        for name, value in changes.items():
            setattr(image, name, value)
        write(folder / f"{number:03d}.dcm", image)


def write(path: Path, image: Dataset) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    image.save_as(path, enforce_file_format=True)


def spread(count: int, step: float, start: float = 0.0) -> list[float]:
    return [start + step * index for index in range(count)]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once; no test changes it."""
    root = tmp_path_factory.mktemp("hospital") / "dicom"
    write_series(root / "p1" / "localizer", "1.1.1", [0.0], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    write_series(root / "p1" / "soft-thick", "1.1.2", spread(24, 5.0))
    write_series(root / "p1" / "soft-thin", "1.1.3", spread(48, 2.5), 2.5)
    write_series(root / "p1" / "bone", "1.1.4", spread(60, 2.0), 2.0, kernel="H70h")
    write_series(root / "p1" / "mpr", "1.1.5", spread(9, 5.0), ImageType=["DERIVED", "SECONDARY", "MPR"])
    coronal = [1, 0, 0, 0, 0, -1]
    write_series(root / "p1" / "coronal", "1.1.6", spread(5, 5.0), ImageOrientationPatient=coronal)
    write_series(root / "p1" / "cta", "1.1.7", spread(9, 1.0), 1.0, ContrastBolusAgent="IOMERON")
    write_series(root / "p1" / "capture", "1.1.8", [0.0], SOPClassUID=SecondaryCaptureImageStorage)
    report = Dataset()
    report.SOPClassUID, report.SOPInstanceUID, report.Modality = XRayRadiationDoseSRStorage, "1.1.10.1", "SR"
    report.StudyInstanceUID, report.SeriesInstanceUID, report.PatientID = "1.1", "1.1.10", f"{CANARY}P1"
    write(root / "p1" / "dose" / "report.dcm", report)
    # The second patient: base and vault, and a series of two slices.
    write_series(root / "p2" / "base", "2.1.1", spread(12, 4.0), 4.0, "P2", "2.1", "H30s")
    write_series(root / "p2" / "vault", "2.1.2", spread(12, 8.0, 50.0), 8.0, "P2", "2.1", "H30s")
    write_series(root / "p2" / "two", "2.1.3", spread(2, 4.0, 500.0), 4.0, "P2", "2.1", "H30s")
    # The third: an unknown kernel, a doubled file, and no thickness.
    write_series(root / "p3" / "only", "3.1.1", spread(9, 5.0), 5.0, "P3", "3.1", "odd")
    (root / "p3" / "copy.dcm").write_bytes((root / "p3" / "only" / "007.dcm").read_bytes())
    (root / "p3" / "=formula.txt").write_text("junk")
    (root / "p3" / "cut.dcm").write_bytes((root / "p2" / "two" / "001.dcm").read_bytes()[:-100])
    (root / "DICOMDIR").write_bytes(b"")
    (root / "link.dcm").symlink_to(root / "p3" / "copy.dcm")
    return root


def index(capsys, *arguments) -> tuple[int, dict]:
    code = main.run(["index", "--json", *map(str, arguments)])
    return code, json.loads(capsys.readouterr().out)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_file_and_every_series_has_one_row(tree, tmp_path, capsys):
    out = tmp_path / "study" / "m.csv"
    code, values = index(capsys, "-i", tree, "-o", out)
    assert code == 8
    manifest = read_manifest(out)
    folders = {
        case.case_id: read_listing(manifest.image_path(case)).files[0][0].resolve().parent.name
        for case in manifest.cases
    }
    found = {folders[case.case_id]: (case.verdict, case.codes[:1] if case.verdict else ()) for case in manifest.cases}
    assert found == {
        "localizer": ("set aside", ("LOCALIZER",)),
        "soft-thick": ("set aside", ("NOT_BEST",)),
        "soft-thin": ("", ()),
        "bone": ("set aside", ("NOT_BEST",)),
        "mpr": ("set aside", ("REFORMAT",)),
        "coronal": ("set aside", ("NONAXIAL",)),
        "cta": ("set aside", ("CONTRAST",)),
        "capture": ("set aside", ("SECONDARY",)),
        "dose": ("set aside", ("SECONDARY",)),
        "base": ("", ()),
        "two": ("refused", ("LT3_SLICES",)),
        "only": ("", ()),
    }
    by_folder = {folders[case.case_id]: case for case in manifest.cases}
    assert by_folder["only"].codes[-1] == "KERNEL_UNKNOWN"
    assert "KERNEL_BONE" in by_folder["bone"].codes
    assert "SPACING_VARIES" in by_folder["base"].codes
    assert len(read_listing(manifest.image_path(by_folder["base"])).files) == 24
    chosen = by_folder["soft-thin"]
    assert (chosen.vendor, chosen.scanner_model, chosen.kernel, chosen.kernel_class) == (
        *("SIEMENS", "=Sensation 64", "H31s", "soft"),
    )
    assert (chosen.slice_thickness_mm, chosen.kvp, chosen.age, chosen.sex) == (2.5, 120.0, 80.0, "F")
    assert len({case.patient_id for case in manifest.cases}) == 4  # the report states no date of birth
    assert len({case.study for case in manifest.cases if case.verdict == ""}) == 3

    rows = rows_of(out.with_name("m.inputs.csv"))
    files = sorted(str(path.relative_to(tree)) for path in tree.rglob("*") if not path.is_dir() or path.is_symlink())
    assert sorted(row["path"].removeprefix("'") for row in rows) == files
    by_path = {row["path"]: (row["verdict"], row["code"]) for row in rows}
    assert by_path["DICOMDIR"] == ("set aside", "SECONDARY")
    assert by_path["link.dcm"] == ("set aside", "NOT_REGULAR")
    assert by_path["p3/=formula.txt"] == ("set aside", "NOT_DICOM")
    assert by_path["p3/cut.dcm"] == ("refused", "TRUNCATED")
    assert sorted((by_path["p3/copy.dcm"], by_path["p3/only/007.dcm"])) == [("", ""), ("set aside", "DUP_FILE")]
    assert by_path["p2/vault/003.dcm"] == ("", "")
    assert {row["case_id"] for row in rows if row["path"].startswith("p2/vault")} == {by_folder["base"].case_id}
    assert all(row["code"] in REASONS or not row["verdict"] for row in rows)
    assert (values["files"], values["series"], values["chosen"]) == (len(files), 12, 3)
    assert sum(row["files"] for row in values["reasons"]) == len(files)
    assert sum(row["series"] for row in values["reasons"]) == 12


def test_base_and_vault_read_back_as_one_scan(tree, tmp_path, capsys):
    index(capsys, "-i", tree / "p2", "-o", tmp_path / "m.csv", "--development", 0, "--test", 0)
    manifest = read_manifest(tmp_path / "m.csv")
    (case,) = manifest.usable
    scan = read_image(manifest.image_path(case), case.case_id)
    assert scan.voxels_hu.shape == (24, 16, 16)
    assert np.diff(scan.stack.positions_mm).round(6).tolist() == [4.0] * 11 + [6.0] + [8.0] * 11
    assert scan.stack.thickness_mm.tolist() == [4.0] * 12 + [8.0] * 12


def test_splits_go_by_patient_and_leave_the_others_out(tree, tmp_path, capsys):
    out = tmp_path / "m.csv"
    _, values = index(capsys, "-i", tree, "-o", out)
    assert values["splits"] == {"pretrain": 1, "finetune": 0, "development": 1, "test": 1, "unused": 9}
    assert {case.split for case in read_manifest(out).cases if case.verdict} == {"unused"}
    # Indexed again from its own table, the series with a verdict stay out.
    again = survey(read_layout(out))
    assert len(again.digests) == 3
    assert again.failures == ()
    assert completed(read_manifest(out), again).cases == read_manifest(out).cases


def test_the_choice_is_stored_with_its_reasons(tree, tmp_path, capsys):
    index(capsys, "-i", tree, "-o", tmp_path / "m.csv")
    choices = json.loads((tmp_path / "m.choices.json").read_text())
    assert len(choices) == 3
    why = next(choice for choice in choices.values() if choice["others"])
    assert why["why"].startswith("shows the whole head (120 mm), soft kernel, 2.5 mm thick")
    assert sorted(text.split()[0] for text in why["others"].values()) == ["kernel", "thickness"]


def test_nothing_that_names_a_patient_is_written(tree, tmp_path, capsys):
    out = tmp_path / "study" / "m.csv"
    code = main.run(["index", "-i", str(tree), "-o", str(out)])
    shown = capsys.readouterr()
    assert code == 8
    texts = [shown.out, shown.err, *(path.read_text() for path in out.parent.rglob("*") if path.is_file())]
    for text in texts:
        assert CANARY not in text
        assert "19400101" not in text
        assert "20200102" not in text
    # A model that begins like a formula is text to a spreadsheet, and comes back as it was.
    assert "'=Sensation 64" in out.read_text()


def test_names_stay_with_the_key_and_change_with_another(tree, tmp_path, capsys):
    def cases(name: str, *more):
        index(capsys, "-i", tree / "p2", "-o", tmp_path / name, "--development", 0, "--test", 0, *more)
        return read_manifest(tmp_path / name).cases

    first = cases("a.csv")
    assert cases("a.csv") == first
    other, same = cases("b.csv"), cases("c.csv", "--patient-key", tmp_path / "a.patient-key")
    assert [case.case_id for case in other] == [case.case_id for case in same] == [case.case_id for case in first]
    assert [case.patient_id for case in same] == [case.patient_id for case in first]
    assert not {case.patient_id for case in other} & {case.patient_id for case in first}
    assert not (tmp_path / "c.patient-key").exists()


def test_exit_codes(tree, tmp_path, capsys):
    flags = ("--development", 0, "--test", 0)
    assert index(capsys, "-i", tree / "p1", "-o", tmp_path / "a.csv", *flags)[0] == 0
    code, values = index(capsys, "-i", tree / "p1" / "cta", "-o", tmp_path / "b.csv")
    assert (code, values["chosen"]) == (3, 0)
    assert [case.codes[0] for case in read_manifest(tmp_path / "b.csv").cases] == ["CONTRAST"]
    assert len(rows_of(tmp_path / "b.inputs.csv")) == 9
    with pytest.raises(DataError, match="no case may be used"):
        survey(read_layout(tmp_path / "b.csv"))
    for wrong in (("--patient-pattern", "^(P)"), ("--keep-splits",), ("--label-names", "1=a")):
        assert index(capsys, "-i", tree, "-o", tmp_path / "c.csv", *wrong)[0] == 2
    assert index(capsys, "-i", tree, "-o", tree / "c.csv")[0] == 2
    assert not (tree / "c.csv").exists()
    assert index(capsys, "-i", tmp_path / "nowhere", "-o", tmp_path / "c.csv", "--layout", "dicom")[0] == 3


def test_all_series_of_a_study_may_be_kept(tree, tmp_path, capsys):
    index(capsys, "-i", tree / "p1", "-o", tmp_path / "m.csv", "--all-series", "--development", 0, "--test", 0)
    manifest = read_manifest(tmp_path / "m.csv")
    assert len(manifest.usable) == 3
    assert {case.kernel_class for case in manifest.usable} == {"soft", "bone"}
    assert not any("NOT_BEST" in case.codes for case in manifest.cases)


def test_what_this_package_simulated_counts_as_a_phantom(tmp_path, capsys):
    write_series(tmp_path / "d" / "a", "1.1.1", spread(9, 5.0), Manufacturer="GE (simulated)")
    write_series(tmp_path / "d" / "b", "2.1.1", spread(9, 5.0), 5.0, "P2", "2.1")
    index(capsys, "-i", tmp_path / "d", "-o", tmp_path / "m.csv", "--development", 0, "--test", 0)
    cases = read_manifest(tmp_path / "m.csv").cases
    assert {case.domain for case in cases} == {"phantom", "real"}
    assert {case.vendor for case in cases if case.domain == "phantom"} == {"GE (simulated)"}


def test_a_series_that_lost_a_slice_is_refused_wherever_that_file_lies(tmp_path, capsys):
    write_series(tmp_path / "d" / "a", "1.1.1", spread(9, 5.0))
    last = tmp_path / "d" / "a" / "008.dcm"
    (tmp_path / "d" / "elsewhere").write_bytes(last.read_bytes()[:-100])
    last.unlink()
    index(capsys, "-i", tmp_path / "d", "-o", tmp_path / "m.csv", "--development", 0, "--test", 0)
    (case,) = read_manifest(tmp_path / "m.csv").cases
    assert (case.verdict, case.codes[0]) == ("refused", "TRUNCATED")


@pytest.mark.parametrize(("name", "verdict"), [("010.dcm", "refused"), ("notes.txt", ""), ("README", "")])
def test_a_file_named_like_the_slices_may_be_one(name, verdict, tmp_path, capsys):
    write_series(tmp_path / "d", "1.1.1", spread(9, 5.0))
    (tmp_path / "d" / name).write_bytes(b"torn" * 500)
    index(capsys, "-i", tmp_path / "d", "-o", tmp_path / "m.csv", "--development", 0, "--test", 0)
    (case,) = read_manifest(tmp_path / "m.csv").cases
    assert (case.verdict, "NOT_DICOM" in case.codes) == (verdict, bool(verdict))


def test_hundreds_of_tiny_files_take_seconds(tmp_path, capsys):
    for number in range(6):
        name = f"P{number:02d}"
        write_series(tmp_path / "d" / name, f"1.{number}.1", spread(40, 3.0), 3.0, name, f"1.{number}")
    start = time.perf_counter()
    code, values = index(capsys, "-i", tmp_path / "d", "-o", tmp_path / "m.csv")
    assert (code, values["files"], values["chosen"]) == (0, 240, 6)
    assert time.perf_counter() - start < 60


@pytest.mark.parametrize(
    ("folder", "expected", "codes"),
    [
        (
            "head_ct_ge/dicom",
            {("", ""): (1, 28), ("set aside", "NOT_DICOM"): (0, 2)},
            {"TILT", "SPACING_VARIES", "OVERLAP", "THICKNESS_VARIES"},
        ),
        (
            "codecs",
            {
                ("set aside", "CONTRAST"): (1, 1),
                ("set aside", "DERIVED"): (1, 1),
                ("set aside", "NOT_CT"): (1, 1),
                ("set aside", "NOT_HEAD"): (1, 16),
                ("set aside", "SECONDARY"): (1, 1),
                ("refused", "LT3_SLICES"): (1, 1),
                ("set aside", "NOT_DICOM"): (0, 1),
            },
            set(),
        ),
    ],
)
def test_real_folders(folder, expected, codes, tmp_path, capsys):
    if not (REAL / folder).exists():
        pytest.skip("the real images are not here")
    _, values = index(capsys, "-i", REAL / folder, "-o", tmp_path / "m.csv", "--development", 0, "--test", 0)
    assert {(row["verdict"], row["code"]): (row["series"], row["files"]) for row in values["reasons"]} == expected
    assert set(values["flags"]) == codes


def test_a_name_that_is_no_text_is_listed_all_the_same(tree, tmp_path, capsys):
    folder = tmp_path / "d"
    shutil.copytree(tree / "p3" / "only", folder)
    (folder / "000.dcm").rename(os.fsdecode(os.fsencode(folder) + b"/\xff\xfe.dcm"))
    index(capsys, "-i", folder, "-o", tmp_path / "m.csv", "--development", 0, "--test", 0)
    assert "\\xff\\xfe.dcm" in {row["path"] for row in rows_of(tmp_path / "m.inputs.csv")}
    manifest = read_manifest(tmp_path / "m.csv")
    paths = [path for path, _ in read_listing(manifest.image_path(manifest.cases[0])).files]
    assert len(paths) == 9
    assert all(path.exists() for path in paths)
