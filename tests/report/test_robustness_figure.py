"""The figure of a ladder: one panel per quantity, the same levels under each, gaps where nothing is known."""

import math

from apatite.core.volume import Estimate
from apatite.report.figures.robustness import LadderPanel, ladder_figure


def an_estimate(value: float) -> Estimate:
    return Estimate(value=value, low=value - 0.1, high=value + 0.1, unit="", coverage=0.95)


def test_a_figure_with_gaps_limits_and_a_plain_line():
    nothing = Estimate(value=math.nan, low=math.nan, high=math.nan, unit="", coverage=0.95)
    dice = LadderPanel(
        title="Dice", y_label="Dice", lines={"a": [an_estimate(0.8), nothing, an_estimate(0.5)], "b": [nothing] * 3}
    )
    ratio = LadderPanel(
        title="volume",
        y_label="ratio",
        lines={"a": [an_estimate(1.0), an_estimate(2.0), an_estimate(0.3)]},
        plain=[1.0, 1.5, 2.0],
        plain_name="reference",
        limits=(0.75, 1.25),
        is_ratio=True,
    )
    picture = ladder_figure(["as is", "3", "5"], [12, 11, 9], "thickness (mm)", [dice, ratio], caption="What it shows.")
    assert picture.kind == "svg"
    assert "Dice against thickness (mm) for a, b" in picture.alt
    assert b"<svg" in picture.content
    again = ladder_figure(["as is", "3", "5"], [12, 11, 9], "thickness (mm)", [dice, ratio], caption="What it shows.")
    assert again.content == picture.content
    other = ladder_figure(["as is", "3", "5"], [12, 11, 8], "thickness (mm)", [dice, ratio], caption="What it shows.")
    assert other.content != picture.content
