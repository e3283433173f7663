"""Small real files on disk, written by nibabel rather than by what is tested."""

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

Writer = Callable[..., Path]


@pytest.fixture
def write_image(tmp_path: Path) -> Writer:
    """Write an `i j k` array with nibabel; each name gets other voxels."""

    def write(name: str, shape=(5, 4, 3), affine=None, voxels=None, dtype=np.int16) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if voxels is None:
            seed = int.from_bytes(name.encode()[-8:], "little")
            voxels = np.random.default_rng(seed).integers(-1000, 2000, shape)
        affine = np.diag([0.5, 0.7, 3.0, 1.0]) if affine is None else affine
        nib.save(nib.Nifti1Image(np.asarray(voxels, dtype=dtype), affine), path)
        return path

    return write
