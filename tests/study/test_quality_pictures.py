"""Pictures of a prepared folder: every registered case is on them, and every series of the manifest in the flow."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from apatite.core.errors import DataError
from apatite.core.volume import Volume
from apatite.ct.confidence import JUDGED
from apatite.data.prepare_quality import from_grey, to_grey
from apatite.study.quality_pictures import draw_quality

ROWS = """case_id,split,verdict,code,what,fix,elapsed_s,attempts,flags
a,pretrain,done,,,,1.0,1,
b,pretrain,done,,,,1.0,1,TILT
c,pretrain,failed,REG_FAIL,,,1.0,1,
d,,set aside,LOCALIZER,,,0.0,0,
e,,refused,TRUNCATED,,,0.0,0,
f,pretrain,rejected,REJECTED,,,0.0,0,
g,unused,unused,,,,0.0,0,
"""
QUALITY = "case_id,template,look,flags,similarity\na,t,no,,0.8\nb,t,yes,METAL REG_LOWCONF,\n"


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    folder = tmp_path / "prepared"
    (folder / "looks").mkdir(parents=True)
    (folder / "rows.csv").write_text(ROWS)
    (folder / "quality.csv").write_text(QUALITY)
    about = {"domains": ["real"], "manifest_sha256": "0" * 64, "environment": {"packages": {"apatite": "0"}}}
    (folder / "prepared.json").write_text(json.dumps(about))
    for number, case_id in enumerate("ab"):
        voxels = np.full(JUDGED.shape, -1024, dtype=np.float32)
        voxels[20:70, 30:90, 20 + number : 60] = 700
        np.save(folder / "looks" / f"{case_id}.npy", to_grey(Volume(voxels=voxels, grid=JUDGED)))
    return folder


def test_every_case_and_every_series_is_shown(prepared, tmp_path):
    made = draw_quality(prepared, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *("flow.html", "flow.svg", "sheet-01.png", "superposition.png"),
    ]
    assert made.look_at == ("b",)
    assert made.flow.kept == (7, 5, 4, 3, 2)
    assert [dict(stage.left_out) for stage in made.flow.stages] == [
        {"LOCALIZER": 1, "TRUNCATED": 1},
        {"REJECTED": 1},
        {"no split wants it": 1},
        {"REG_FAIL": 1},
    ]
    page = (tmp_path / "out" / "flow.html").read_text()
    assert "could not be registered to the template" in page
    assert "is a localizer" in page
    sheet = np.asarray(Image.open(tmp_path / "out" / "sheet-01.png").convert("L"))
    assert (sheet > 150).any()
    assert (sheet < 30).any()


def test_grey_levels_keep_bone_and_air(prepared):
    hu = np.linspace(-1100, 1500, int(np.prod(JUDGED.shape)), dtype=np.float32).reshape(JUDGED.shape)
    back = from_grey(to_grey(Volume(voxels=hu, grid=JUDGED))).voxels
    assert np.abs(back - np.clip(hu, -200, 1075)).max() <= 5
    assert np.array_equal(back >= 100, hu >= 100)


def test_a_folder_without_registered_heads_says_what_to_do(prepared, tmp_path):
    (prepared / "quality.csv").unlink()
    with pytest.raises(DataError, match="--template or --localise") as refused:
        draw_quality(prepared, tmp_path / "out")
    assert refused.value.code == "NO_INPUT"
    assert not (tmp_path / "out").exists()
