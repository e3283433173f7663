"""A copy says on which scans a model was shown to work; weights and all else are the original's."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from apatite.core.errors import DataError, ModelError
from apatite.io.model_card import ModelCard
from apatite.io.model_package import copy_validated, read_package, write_package

VALIDATED = {"ranges": {"thickness": {"low": 0.6, "high": None}}, "criteria": {"dice_drop": 0.05}}


def test_only_the_card_changes_and_the_original_does_not(tmp_path: Path, card: ModelCard) -> None:
    weights = {"a.weight": np.arange(30, dtype=np.float32).reshape(2, 3, 5)}
    write_package(tmp_path / "model", card, weights)
    before = read_package(tmp_path / "model")
    copy_validated(tmp_path / "model", tmp_path / "copy", VALIDATED)
    copy = read_package(tmp_path / "copy")
    assert copy.card == replace(card, validated=VALIDATED)
    np.testing.assert_array_equal(copy.weights["a.weight"], weights["a.weight"])
    assert copy.digest != before.digest
    assert read_package(tmp_path / "model").digest == before.digest
    with pytest.raises(DataError):
        copy_validated(tmp_path / "model", tmp_path / "copy", VALIDATED)
    with pytest.raises(ModelError):
        copy_validated(tmp_path / "model", tmp_path / "other", {"ranges": {"thickness": float("nan")}})
