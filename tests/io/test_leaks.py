"""Planted leaks are found, and both cases are named."""

import itertools

import nibabel as nib
import numpy as np
import pytest

from apatite.core.errors import DataError
from apatite.io.leaks import image_digest, refuse_leaks
from apatite.io.manifest import Case
from apatite.io.nifti import read_volume

SPLITS = ("pretrain", "finetune", "development", "test", "unused", "")


def case(case_id: str, patient_id: str, split: str) -> Case:
    return Case(case_id=case_id, patient_id=patient_id, image=f"{case_id}.nii", split=split)


def is_leak(first: str, second: str) -> bool:
    sides = [{"pretrain": "t", "finetune": "t"}.get(split, split) for split in (first, second)]
    return sides[0] != sides[1] and not {"unused", ""} & set(sides)


@pytest.mark.parametrize(("first", "second"), list(itertools.product(SPLITS, repeat=2)))
@pytest.mark.parametrize("what", ["patient", "image"])
def test_every_pair_of_splits(first, second, what):
    cases = [
        case("a", "p1", first),
        case("other", "p3", "pretrain"),
        case("b", "p1" if what == "patient" else "p2", second),
    ]
    digests = {"a": "x", "b": "x" if what == "image" else "y"}
    if not is_leak(first, second):
        refuse_leaks(cases, digests)
        return
    with pytest.raises(DataError) as caught:
        refuse_leaks(cases, digests)
    assert caught.value.code == "LEAK"
    assert caught.value.where == "b"
    assert "as a)" in caught.value.what


def test_a_digest_is_of_the_voxels_and_not_of_the_file(write_image):
    plain = write_image("a.nii")
    image = nib.load(plain)
    nib.save(image, plain.with_name("b.nii.gz"))
    moved = image.affine.copy()
    moved[0, 3] += 1
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), moved), plain.with_name("c.nii"))
    changed = np.asarray(image.dataobj).copy()
    changed[4, 3, 2] += 1
    nib.save(nib.Nifti1Image(changed, image.affine), plain.with_name("d.nii"))
    digests = [image_digest(read_volume(plain.with_name(name))) for name in ("a.nii", "b.nii.gz", "c.nii", "d.nii")]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3
