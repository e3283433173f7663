"""The way back to nnU-Net raw: labelled cases as `imagesTr` and `labelsTr`, the test split as `imagesTs`.

Cases without a label, other than those of test, have no place there. nnU-Net's ignore label is per voxel, so a case in
which only some labels were looked for cannot be written truthfully and is refused.

Source: the data set format of nnU-Net v2 (Isensee et al. 2021).
"""

import shutil
from pathlib import Path

from apatite.core.commit import commit_json, committed_folder
from apatite.core.errors import DataError
from apatite.io.manifest import Case, Manifest


def write_nnunet_raw(manifest: Manifest, folder: Path, copy: bool = False) -> dict[str, int]:
    """Write a manifest as nnU-Net raw.

    Args:
        manifest: Its labels must be numbered 1, 2, 3, … without a gap.
        folder: To be made, for example `Dataset501_Calcium`.
        copy: Copy the files; otherwise they are symbolic links to the originals.

    Returns:
        How many cases went to `imagesTr` and to `imagesTs`.

    Raises:
        DataError: labels with gaps, partly annotated cases, both .nii and .nii.gz, or no labelled case.
    """
    values = sorted(manifest.label_names)
    if values != list(range(1, len(values) + 1)):
        raise DataError(f"label values {values} are not 1, 2, 3, …", fix="renumber the labels", code="BAD_LABEL")
    train = [case for case in manifest.cases if case.label and case.split not in ("test", "unused")]
    test = list(manifest.of_split("test"))
    if not train:
        raise DataError("no labelled case outside test", fix="add labels", code="EMPTY_SPLIT")
    for case in train:
        if set(manifest.annotated(case)) != set(values):
            raise DataError(
                f"only {manifest.annotated(case)} of {values} were looked for",
                where=case.case_id,
                fix="write one data set per label",
                code="BAD_LABEL",
            )
    ending = _one_ending([*train, *test])
    with committed_folder(folder) as part:
        for case, side in [(case, "Tr") for case in train] + [(case, "Ts") for case in test]:
            _place(manifest.image_path(case), part / f"images{side}" / f"{case.case_id}_0000{ending}", copy)
            label = manifest.label_path(case)
            if label is not None:
                _place(label, part / f"labels{side}" / f"{case.case_id}{ending}", copy)
        about = {
            "channel_names": {"0": "CT"},
            "labels": {"background": 0} | {manifest.label_names[value]: value for value in values},
            "numTraining": len(train),
            "file_ending": ending,
        }
        commit_json(part / "dataset.json", about)
    return {"imagesTr": len(train), "imagesTs": len(test)}


def _one_ending(cases: list[Case]) -> str:
    endings = {
        ".nii.gz" if name.endswith(".nii.gz") else ".nii" for case in cases for name in (case.image, case.label) if name
    }
    if len(endings) > 1:
        raise DataError("some files end in .nii and some in .nii.gz", fix="convert them to one of the two")
    return endings.pop()


def _place(source: Path, target: Path, copy: bool) -> None:
    if not source.is_file():
        raise DataError("the file does not exist", where=source.name, fix="correct the manifest", code="MISSING_FILE")
    target.parent.mkdir(exist_ok=True)
    if copy:
        shutil.copyfile(source, target)
    else:
        target.symlink_to(source.resolve())
