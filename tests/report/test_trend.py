import math

from apatite.core.volume import Estimate
from apatite.report.figures.trend import TrendPoint, trend_figure


def point(x: float, value: float, low: float = math.nan, high: float = math.nan, *runs: float) -> TrendPoint:
    return TrendPoint(x=x, estimate=Estimate(value=value, low=low, high=high, unit="", coverage=0.95), runs=runs)


def test_lines_are_told_in_ascending_order_and_empty_ones_are_left_out():
    lines = {"a": [point(8, 0.5, 0.4, 0.6, 0.45, 0.55), point(4, 0.7)], "nothing": [], "b": [point(4, 0.6, 0.5, 0.65)]}
    made = [trend_figure(lines, ticks={4: "4", 8: "8"}, x_label="patch", y_label="Dice", caption="c") for _ in range(2)]
    assert made[0].alt == "Dice against patch. a: 0.7 at 4, 0.5 at 8; b: 0.6 at 4"
    assert made[0].kind == "svg"
    assert made[0].content == made[1].content


def test_many_long_names_fit_the_figure():
    lines = {f"a rather long name of a model, number {number}": [point(4, 0.1 * number)] for number in range(9)}
    picture = trend_figure(lines, ticks={4: "4"}, x_label="labels", y_label="Dice", caption="")
    assert b"<svg" in picture.content
