"""A package is whole or refused, and calibration never touches the original."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from apatite.core.errors import DataError, ModelError
from apatite.io.model_card import ModelCard
from apatite.io.model_package import copy_calibrated, copy_validated, read_package, read_summary, write_package

WEIGHTS = {"a.weight": np.arange(30, dtype=np.float32).reshape(2, 3, 5), "a.count": np.array(4, dtype=np.int64)}


@pytest.fixture
def folder(tmp_path: Path, card: ModelCard) -> Path:
    write_package(tmp_path / "model", card, WEIGHTS)
    return tmp_path / "model"


def reseal(folder: Path) -> None:
    """What a careless or a hostile editor does."""
    found = subprocess.run(
        ["sha256sum", "model.json", "weights.safetensors"], cwd=folder, capture_output=True, check=True
    )
    (folder / "MANIFEST.sha256").write_bytes(found.stdout)


def refused(folder: Path) -> str:
    """The code with which both readers refuse."""
    with pytest.raises(ModelError) as summary:
        read_summary(folder)
    with pytest.raises(ModelError) as package:
        read_package(folder)
    assert summary.value.code == package.value.code
    return summary.value.code


def test_reads_back_what_was_written(folder: Path, card: ModelCard) -> None:
    package = read_package(folder)
    assert package.card == card
    assert set(package.weights) == set(WEIGHTS)
    for name, array in WEIGHTS.items():
        assert (package.weights[name].dtype, package.weights[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(package.weights[name], array)
    summary = read_summary(folder)
    assert (summary.card, summary.digest, summary.num_parameters) == (card, package.digest, 31)


def test_the_seal_is_understood_by_sha256sum(folder: Path) -> None:
    assert (
        subprocess.run(["sha256sum", "-c", "MANIFEST.sha256"], cwd=folder, check=False, capture_output=True).returncode
        == 0
    )
    (folder / "model.json").write_text("{}")
    assert (
        subprocess.run(["sha256sum", "-c", "MANIFEST.sha256"], cwd=folder, check=False, capture_output=True).returncode
        == 1
    )


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors", "MANIFEST.sha256"])
def test_one_altered_byte_anywhere_is_refused(folder: Path, name: str) -> None:
    whole = (folder / name).read_bytes()
    for place in {0, 8, len(whole) // 2, len(whole) - 1}:
        (folder / name).write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(ModelError):
            read_summary(folder)
        with pytest.raises(ModelError):
            read_package(folder)
    (folder / name).write_bytes(whole)
    read_package(folder)


def test_missing_and_extra_files_are_refused(folder: Path) -> None:
    (folder / "run.py").write_text("print()")
    assert refused(folder) == "MODEL_DIGEST"
    (folder / "run.py").unlink()
    (folder / "weights.safetensors").rename(folder.parent / "away")
    assert refused(folder) == "MODEL_DIGEST"
    assert refused(folder / "nowhere") == "MODEL_DIGEST"


def test_a_resealed_package_still_has_to_make_sense(folder: Path) -> None:
    digest = read_summary(folder).digest
    values = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(values | {"threshold": 0.2}))
    reseal(folder)
    assert refused(folder) == "MODEL_VERSION"
    (folder / "model.json").write_text(json.dumps(values | {"recipe": "other"}))
    reseal(folder)
    assert read_summary(folder).digest != digest
    (folder / "model.json").write_text("[" * 100_000)
    reseal(folder)
    assert refused(folder) == "MODEL_VERSION"
    (folder / "model.json").write_text(" " * 2**21)
    reseal(folder)
    assert refused(folder) == "TOO_LARGE"


def test_a_lying_header_is_refused_though_sealed(folder: Path) -> None:
    whole = (folder / "weights.safetensors").read_bytes()
    (folder / "weights.safetensors").write_bytes(whole + b"hidden")
    reseal(folder)
    assert refused(folder) == "TRAILING_DATA"


def test_weights_that_are_not_finite_are_neither_written_nor_read(folder: Path, card: ModelCard) -> None:
    bad = {"a": np.array([1.0, np.inf], dtype=np.float32)}
    with pytest.raises(ModelError, match="a holds"):
        write_package(folder.parent / "new", card, bad)
    assert not (folder.parent / "new").exists()
    (folder / "weights.safetensors").write_bytes(save(bad))
    reseal(folder)
    with pytest.raises(ModelError) as caught:
        read_package(folder)
    assert caught.value.code == "NONFINITE"


def test_a_card_with_nan_is_not_written(tmp_path: Path, card: ModelCard) -> None:
    with pytest.raises(ModelError, match="not finite"):
        write_package(tmp_path / "model", replace(card, burden={"cuts_mm3": [float("nan")]}), WEIGHTS)
    assert list(tmp_path.iterdir()) == []


def test_calibration_makes_a_copy_and_keeps_the_original(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    copied = folder.parent / "calibrated"
    copy_calibrated(folder, copied, {"threshold": 0.31}, ["real"], burden={"cuts_mm3": [10.0, 50.0, 200.0]})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    package = read_package(copied)
    assert package.card.calibration == {"threshold": 0.31}
    assert package.card.domains["calibration"] == ["real"]
    assert package.card.burden == {"cuts_mm3": [10.0, 50.0, 200.0]}
    assert (copied / "weights.safetensors").read_bytes() == before["weights.safetensors"]
    with pytest.raises(DataError, match="exists already"):
        copy_calibrated(folder, copied, {"threshold": 0.1}, ["real"])


def test_cut_points_that_stay_keep_the_domain_on_which_they_were_frozen(folder: Path) -> None:
    cuts = {"cuts_mm3": [10.0, 50.0, 200.0]}
    first, second, third = (folder.parent / name for name in ("first", "second", "third"))
    copy_calibrated(folder, first, {"threshold": 0.3}, ["phantom"], burden=cuts)
    copy_calibrated(first, second, {"threshold": 0.4}, ["real"])
    copy_calibrated(second, third, {"threshold": 0.5}, ["real"], burden={"cuts_mm3": [1.0, 5.0, 20.0]})
    domains = [read_package(path).card.domains for path in (first, second, third)]
    assert [d["reference"] for d in domains] == [["phantom"], ["phantom"], ["real"]]
    assert [d["calibration"] for d in domains] == [["phantom"], ["real"], ["real"]]


def test_another_calibration_voids_the_validated_range(folder: Path) -> None:
    validated, calibrated = folder.parent / "validated", folder.parent / "calibrated"
    copy_validated(folder, validated, {"ranges": {}})
    copy_calibrated(validated, calibrated, {"threshold": 0.3}, ["phantom"])
    assert read_package(validated).card.validated == {"ranges": {}}
    assert read_package(calibrated).card.validated is None
