"""The reliability diagram: bins may be empty, intervals unknown, and it says in words what it shows."""

import numpy as np

from apatite.calibrate.reliability import ReliabilityCurve
from apatite.report.figures.reliability import ReliabilityPanel, reliability_figure

NAN = np.nan
CURVE = ReliabilityCurve(
    confidence=np.array([0.05, NAN, 0.9]),
    frequency=np.array([0.01, NAN, 0.6]),
    low=np.array([0.0, NAN, NAN]),
    high=np.array([0.02, NAN, NAN]),
    share=np.array([0.95, 0.0, 0.05]),
)


def test_it_says_how_far_from_the_diagonal():
    panels = [ReliabilityPanel(title=title, curves={"as given": CURVE, "after": CURVE}) for title in ("a", "b")]
    first, second = (reliability_figure(panels, caption="c") for _ in range(2))
    assert first.content == second.content
    assert first.kind == "svg"
    assert b"<svg" in first.content
    assert "a: as given, at most 0.30 from the diagonal" in first.alt


def test_a_curve_without_any_bin():
    nothing = ReliabilityCurve(
        confidence=np.full(3, NAN), frequency=np.full(3, NAN), low=np.full(3, NAN), high=np.full(3, NAN),
        share=np.array([1.0, 0.0, 0.0]),
    )  # fmt: skip
    assert "at most 0.00" in reliability_figure([ReliabilityPanel(title="a", curves={"x": nothing})], caption="c").alt
