"""What a path names as scans to quantify: a DICOM tree, one image, a folder of NIfTI files, or a manifest.

A DICOM tree is indexed into the output folder first, so that every series has a row there, chosen or not.
"""

from dataclasses import replace
from pathlib import Path

from apatite.core.errors import DataError
from apatite.core.watch import Watch, unwatched
from apatite.io.case import Case
from apatite.io.dicom.cases import inputs_path, key_path, to_manifest, write_parts
from apatite.io.dicom.child import Decoder
from apatite.io.dicom.intake import judge
from apatite.io.dicom.opaque import read_or_make_key
from apatite.io.dicom.tree import holds_dicom, read_tree
from apatite.io.images import is_nifti
from apatite.io.layouts import case_id_of
from apatite.io.manifest import Manifest, read_manifest, write_manifest
from apatite.segment.volumes import scans_of


def inputs_of(path: Path, out: Path, domain: str = "", watch: Watch = unwatched) -> Manifest:
    """The scans that a path names.

    Args:
        path: A folder of DICOM or NIfTI files, a NIfTI or DICOM file, a `*.series.json`, or a manifest CSV.
        out: Where the manifest of a DICOM tree is written.
        domain: Of all of them; empty keeps what they say, which without a manifest is `real`.
        watch: Shows progress.

    Raises:
        DataError: nothing is there (`MISSING_FILE`, `NO_INPUT`), or no DICOM series (the code of its first file).
    """
    if not path.exists():
        raise DataError("does not exist", where=str(path), fix="check the path", code="MISSING_FILE")
    if path.is_dir() and holds_dicom(path):
        manifest = _indexed(path, out / "manifest.csv", domain, watch)
    elif path.suffix == ".csv" or path.is_dir() or is_nifti(path):
        manifest = scans_of(path)
    else:
        case_id = case_id_of(path.name)
        manifest = Manifest(
            root=path.parent, cases=(Case(case_id=case_id, patient_id=case_id, image=path.name),), label_names={}
        )
    if not domain:
        return manifest
    return replace(manifest, cases=tuple(replace(case, domain=domain) for case in manifest.cases))


def _indexed(root: Path, path: Path, domain: str, watch: Watch) -> Manifest:
    """Index a DICOM tree; the same tree gives the same names of patients when it is run again."""
    with Decoder() as decoder:
        tree = read_tree(root, decoder, watch)
        intake = judge(tree, read_or_make_key(key_path(path), is_made=True), decoder)
    write_parts(intake, root, path, watch)
    if not intake.series:
        raise DataError(
            "holds no DICOM series",
            where=str(root),
            fix=f"see {inputs_path(path)} for the reason of each file",
            code=next((row.code for row in intake.files), "NO_INPUT"),
        )
    write_manifest(path, to_manifest(intake, path, domain))
    return read_manifest(path)
