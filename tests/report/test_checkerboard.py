import io

import numpy as np
from PIL import Image

from apatite.report.figures.checkerboard import MapPanel, checkerboard_figure


def test_each_model_has_a_row_and_its_logits_stand_in_the_last_column():
    coarse, fine = np.zeros((3, 4)), np.indices((12, 16)).sum(axis=0) % 2 * 5.0
    panels = [MapPanel(title="stride 4", values=coarse), MapPanel(title="logits", values=fine)]
    picture = checkerboard_figure({"a\n(unetr, nearest)": panels, "b": panels[1:]}, caption="c")
    assert picture.kind == "png"
    assert "a (unetr, nearest): stride 4, logits; b: logits" in picture.alt
    grey = np.asarray(Image.open(io.BytesIO(picture.content)).convert("L")).astype(int)
    height, width = grey.shape
    lower_left, lower_right = grey[height // 2 :, : width // 2], grey[height // 2 :, width // 2 :]
    # White squares are there, but they do not differ from the page; black ones do.
    assert (lower_right == 0).mean() > 0.2
    assert (lower_left == 0).mean() < 0.02
