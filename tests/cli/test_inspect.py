"""`inspect` shows the card, and refuses an altered package with exit code 3, without torch."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from apatite.cli.inspect import Inspect
from apatite.core.errors import ModelError
from apatite.io.model_card import InputSpec, ModelCard, Provenance
from apatite.io.model_package import write_package


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    card = ModelCard(
        kind="encoder",
        architecture={"patch": [4, 8, 8]},
        recipe="[bold]tiny",
        input=InputSpec(shape=(8, 16, 24), spacing_mm=(0.44, 0.5, 2.0), windows_hu=((-200.0, 1000.0),)),
        label_names={},
        domains={"pretraining": ["phantom"], "training": [], "calibration": [], "reference": []},
        provenance=Provenance(apatite_version="0.1.0", seed=7),
    )
    write_package(tmp_path / "model", card, {"w": np.ones((3, 5), np.float32)})
    return tmp_path / "model"


def test_shows_the_card(folder: Path) -> None:
    outcome = Inspect(model=folder).run()
    console = Console(width=110)
    with console.capture() as shown:
        for line in outcome.lines:
            console.print(line)
    text = shown.get()
    for wanted in (
        "[bold]tiny",
        "phantom",
        "0.44",
        "uncalibrated",
        "15 numbers in 1 tensors",
        outcome.values["digest"],
        "not a medical device",
    ):
        assert wanted in text
    assert json.loads(json.dumps(outcome.values))["card"]["domains"]["pretraining"] == ["phantom"]


def test_refuses_an_altered_package(folder: Path) -> None:
    text = (folder / "model.json").read_text()
    (folder / "model.json").write_text(text.replace('"seed": 7', '"seed": 8'))
    with pytest.raises(ModelError) as caught:
        Inspect(model=folder).run()
    assert (caught.value.exit_code, caught.value.code) == (3, "MODEL_DIGEST")


def test_needs_no_torch(folder: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from apatite.cli.inspect import Inspect; "
        f"Inspect(model=Path({str(folder)!r})).run(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
