import io
import math

import numpy as np
import pytest
from PIL import Image

from apatite.core.volume import Estimate
from apatite.report.figures.agreement import AgreementPanel, bland_altman_figure
from apatite.report.figures.burden import confusion_figure
from apatite.report.figures.curves import CurvePanel, learning_figure, line_of
from apatite.report.figures.intervals import interval_figure, strata_figure
from apatite.report.figures.overlay import OverlayCase, busiest_slices, overlay_figure
from apatite.report.figures.reconstruction import Reconstruction, reconstruction_figure
from apatite.report.figures.threshold import threshold_figure
from apatite.report.html import Picture

NAN = math.nan


def estimate(value: float, low: float, high: float) -> Estimate:
    return Estimate(value=value, low=low, high=high, unit="", coverage=0.95)


def is_svg(picture: Picture) -> bool:
    text = picture.content.decode()
    return picture.kind == "svg" and "<svg" in text and "<script" not in text and "<image" not in text


def test_a_figure_of_the_same_numbers_is_the_same_file():
    panel = AgreementPanel(
        title="m", predicted_mm3=np.array([1.0, 50.0, 0.0]), reference_mm3=np.array([2.0, 40.0, 3.0])
    )
    first, second = (bland_altman_figure([panel], caption="c") for _ in range(2))
    assert is_svg(first)
    assert first.content == second.content


def test_intervals_may_be_missing():
    models = {"a": estimate(0.5, 0.4, 0.6), "b": estimate(0.5, NAN, NAN), "c": estimate(NAN, NAN, NAN)}
    assert is_svg(interval_figure({"Dice": models, "|ΔV| (mm³)": models}, caption="c"))
    assert is_svg(
        strata_figure(
            ["thin", "thick"], {"a": [models["a"], None], "b": [models["c"], models["b"]]}, y_label="Dice", caption="c"
        )
    )


def test_one_case_has_no_limits_of_agreement_but_a_dot():
    panel = AgreementPanel(title="m", predicted_mm3=np.array([1.0]), reference_mm3=np.array([2.0]))
    assert is_svg(bland_altman_figure([panel, panel], caption="c"))


def test_the_confusion_figure_tells_its_count_in_words():
    picture = confusion_figure({"m": np.array([[3, 1], [0, 2]])}, ("none", "1"), caption="c")
    assert is_svg(picture)
    assert "5 of 6 cases" in picture.alt


def test_threshold_figure():
    thresholds = np.linspace(0.01, 0.99, 50)
    assert is_svg(threshold_figure(thresholds, np.abs(thresholds - 0.3), 0.31, [0.2, 0.3, 0.3, 0.4]))
    # A signed error may be negative.
    assert is_svg(threshold_figure(thresholds, thresholds - 0.3, 0.31, []))


def test_curves_skip_rows_that_lack_the_quantity():
    rows = [{"step": 1, "loss": 2.0}, {"step": 2, "dice": 0.5}, {"step": 3, "loss": 1.0, "dice": None}]
    assert line_of(rows, "loss") == ([1.0, 3.0], [2.0, 1.0])
    assert line_of(rows, "dice") == ([2.0], [0.5])
    lines = {"a": line_of(rows, "loss"), "b": ([], [])}
    panels = [CurvePanel(title=f"t{i}", x_label="step", y_label="loss", lines=lines, is_log=i == 1) for i in range(4)]
    assert is_svg(learning_figure(panels, caption="c"))
    with pytest.raises(ValueError, match="2 x values and 1 y values"):
        CurvePanel(title="t", x_label="step", y_label="loss", lines={"a": ([1, 2], [1.0])})


def test_the_busiest_slices_come_in_anatomical_order():
    is_marked = np.zeros((6, 3, 4), dtype=bool)
    is_marked[1, 0, :3] = True
    is_marked[4] = True
    is_marked[5, 1, :2] = True
    assert busiest_slices(is_marked, 3) == [1, 4, 5]
    assert busiest_slices(np.zeros((7, 2, 3), dtype=bool), 3) == [2, 3, 4]


def test_overlay_shows_both_outlines_in_their_colours():
    voxels_hu = np.full((3, 40, 56), 40, dtype=np.int16)
    is_reference = np.zeros(voxels_hu.shape, dtype=bool)
    is_reference[1, 10:20, 12:30] = True
    is_predicted = np.roll(is_reference, 6, axis=2)
    nothing = np.zeros_like(is_reference)
    cases = [
        OverlayCase(
            title="found",
            voxels_hu=voxels_hu,
            is_reference=is_reference,
            is_predicted=is_predicted,
            is_counted=~nothing,
        ),
        OverlayCase(title="empty", voxels_hu=voxels_hu, is_reference=nothing, is_predicted=nothing, is_counted=nothing),
    ]
    picture = overlay_figure(cases, caption="c")
    pixels = np.asarray(Image.open(io.BytesIO(picture.content)).convert("RGB")).astype(int)
    for colour in ((0x00, 0x9E, 0x73), (0xD5, 0x5E, 0x00)):
        assert np.count_nonzero(np.abs(pixels - colour).sum(axis=-1) < 30) > 100


def test_reconstruction_keeps_visible_voxels_and_hides_the_rest():
    original = np.full((5, 12, 20), 350.0)  # white in the window
    is_hidden = np.zeros(original.shape, dtype=bool)
    is_hidden[:, :, :10] = True
    region = Reconstruction(
        title="r", original_hu=original, is_hidden=is_hidden, reconstruction_hu=np.full(original.shape, -150.0)
    )
    picture = reconstruction_figure([region], caption="c")
    assert picture.kind == "png"
    grey = np.asarray(Image.open(io.BytesIO(picture.content)).convert("L"))
    # The left half of the reconstruction is the decoder's black, the middle panel's left half is neither.
    assert np.count_nonzero(grey == 0) > 0.06 * grey.size
    assert np.count_nonzero(abs(grey.astype(int) - 140) < 4) > 0.06 * grey.size
