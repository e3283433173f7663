"""A sealed file has one digest of all its bytes but the seal's own."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from apatite.core.errors import ModelError, StorageError
from apatite.io.sealed_tensors import BLANK_SEAL, require_sealed, seal
from apatite.io.tensor_header import read_header

TENSORS = {"a": np.arange(15, dtype=np.float32).reshape(3, 5), "b": np.array(7, dtype=np.int64)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    # Text that looks like a seal, as a value may.
    state = json.dumps({"sha256": "f" * 64})
    save_file(TENSORS, tmp_path / "x", {"state": state, **BLANK_SEAL})
    return tmp_path / "x"


def test_the_seal_is_the_digest_of_the_blank_file(path: Path) -> None:
    blank = path.read_bytes()
    seal(path)
    require_sealed(path, "fix")
    assert read_header(path).metadata["sha256"] == hashlib.sha256(blank).hexdigest()
    assert len(path.read_bytes()) == len(blank)
    assert all(np.array_equal(load_file(path)[name], array) for name, array in TENSORS.items())


def test_every_altered_byte_is_found(path: Path) -> None:
    seal(path)
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(ModelError) as caught:
            require_sealed(path, "fix")
        assert caught.value.code == "MODEL_DIGEST"


def test_a_file_without_a_seal(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "x", {"state": "{}"})
    with pytest.raises(ModelError, match="carries no seal"):
        require_sealed(tmp_path / "x", "fix")
    with pytest.raises(StorageError):
        seal(tmp_path / "x")
