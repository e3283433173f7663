"""Every file below a folder is an image or has a reason."""

import os
import shutil
from pathlib import Path

import pytest

from apatite.core.errors import DataError
from apatite.io.dicom.child import Decoder
from apatite.io.dicom.tree import FILES_AT_ONCE, holds_dicom, read_tree


@pytest.fixture
def tree(make_ct, tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "deep" / "er").mkdir(parents=True)
    for number, name in enumerate(("a.dcm", "deep/b", "deep/er/.hidden")):
        make_ct(number).save_as(root / name, enforce_file_format=True)
    (root / "README.txt").write_text("words")
    (root / "empty").write_bytes(b"")
    (root / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    return root


def names(root: Path, refusals) -> dict[str, str]:
    return {str(refusal.path.relative_to(root)): refusal.code for refusal in refusals}


def test_images_and_reasons(tree, decoder):
    found = read_tree(tree, decoder)
    assert [str(header.path.relative_to(tree)) for header in found.headers] == ["a.dcm", "deep/b", "deep/er/.hidden"]
    assert names(tree, found.refusals) == {"DICOMDIR": "SECONDARY", "README.txt": "NOT_DICOM", "empty": "TRUNCATED"}
    assert {str(path.relative_to(tree)) for path in found.files} == {
        *("DICOMDIR", "README.txt", "a.dcm", "deep/b", "deep/er/.hidden", "empty"),
    }


def test_links_and_pipes_are_named_and_never_followed(tree, decoder):
    (tree / "loop").symlink_to(tree)
    (tree / "deep" / "up").symlink_to("..")
    (tree / "outside.dcm").symlink_to(tree / "a.dcm")
    (tree / "broken").symlink_to("nowhere")
    os.mkfifo(tree / "pipe")
    found = read_tree(tree, decoder)
    links = {name: code for name, code in names(tree, found.refusals).items() if code == "NOT_REGULAR"}
    assert links.keys() == {"loop", "deep/up", "outside.dcm", "broken", "pipe"}
    assert len(found.headers) == 3
    assert holds_dicom(tree)


def test_the_watch_sees_several_files_a_step(tree, decoder):
    for number in range(FILES_AT_ONCE):
        (tree / f"junk-{number:03d}").write_text("x")
    seen = []

    def watch(items, stage, total=None):
        seen.append((stage, total))
        yield from items

    assert len(read_tree(tree, decoder, watch).files) == FILES_AT_ONCE + 6
    assert seen == [(f"reading headers, {FILES_AT_ONCE} files a step", 2)]


def test_nothing_to_read(tmp_path):
    with Decoder() as fresh:
        with pytest.raises(DataError, match="holds no file"):
            read_tree(tmp_path, fresh)
        with pytest.raises(DataError, match="is no folder"):
            read_tree(tmp_path / "missing", fresh)
        assert fresh.num_started == 0


def test_a_folder_of_dicom_is_told_by_name_or_by_its_mark(tree, tmp_path):
    assert holds_dicom(tree)
    (tree / "a.dcm").unlink()
    assert holds_dicom(tree)
    assert not holds_dicom(tmp_path / "nothing")
    shutil.rmtree(tree / "deep")
    (tree / "DICOMDIR").unlink()
    assert not holds_dicom(tree)
    (tree / "scan.nii.gz").write_bytes(b"")
    assert not holds_dicom(tree)
    (tree / "a.dcm").write_bytes(b"")
    with pytest.raises(DataError, match="DICOM and NIfTI"):
        holds_dicom(tree)
