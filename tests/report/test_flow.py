import io

import numpy as np
import pytest
from PIL import Image

from apatite.core.reasons import REASONS
from apatite.report.flow import Flow, Stage, flow_figure, flow_table, reason_words

FLOW = Flow(
    unit="series",
    begin=10659,
    begin_name="found in the archive",
    stages=[
        Stage(name="axial head CT", left_out={"NONAXIAL": 1920, "REFORMAT": 687, "LT3_SLICES": 0, "odd <code>": 265}),
        Stage(name="looked at", left_out={}),
        Stage(name="not rejected", left_out={"REJECTED": 1450}),
    ],
)
"""10,659 to 6,337: the totals of Jin et al. 2024."""


def test_what_is_left_is_what_was_there_less_what_was_left_out():
    assert FLOW.kept == (10659, 7787, 7787, 6337)


def test_the_table_names_every_reason_largest_first():
    table = flow_table(FLOW)
    assert [row[1] for row in table.rows] == ["", "NONAXIAL", "REFORMAT", "odd <code>", "", "", "REJECTED", ""]
    assert [row[2] for row in table.rows] == [10659, 1920, 687, 265, 7787, 7787, 1450, 6337]
    assert table.rows[1][0] == "left out: is not axial"
    assert table.rows[1][3] == "18.0 %"
    assert table.bold_rows == [0, 4, 5, 7]
    assert table.caption == "From 10,659 to 6,337 series."
    assert table.is_numeric == [False, False, True, False]


@pytest.mark.parametrize(("begin", "left_out"), [(3, {"GAP": 4}), (-1, {}), (3, {"GAP": -1})])
def test_counts_that_cannot_be_are_refused(begin, left_out):
    with pytest.raises(ValueError, match=r"negative|were left out"):
        Flow(unit="series", begin=begin, begin_name="b", stages=[Stage(name="s", left_out=left_out)])


def test_a_chart_says_in_words_what_it_shows_and_is_the_same_file_again():
    first, second = (flow_figure(FLOW, caption="c") for _ in range(2))
    assert first.content == second.content
    text = first.content.decode()
    assert "<svg" in text
    assert "<script" not in text
    assert first.alt == (
        "Flow chart of series: found in the archive: 10,659, axial head CT: 7,787, looked at: 7,787, "
        "not rejected: 6,337"
    )


def test_a_chart_of_every_reason_still_fits():
    many = Flow(unit="scans", begin=9999, begin_name="b", stages=[Stage(name="s", left_out=dict.fromkeys(REASONS, 7))])
    picture = flow_figure(many, kind="png")
    pixels = np.asarray(Image.open(io.BytesIO(picture.content)).convert("L"))
    # Nothing is drawn on the rim: no box is cut off.
    assert pixels[0].min() == pixels[-1].min() == pixels[:, 0].min() == pixels[:, -1].min() == 255
    assert len(flow_table(many).rows) == 2 + len(REASONS)


def test_nothing_at_all_can_be_drawn():
    nothing = Flow(unit="scans", begin=0, begin_name="b", stages=[])
    assert flow_table(nothing).rows == [["b", "", 0, "–"]]
    assert flow_figure(nothing).kind == "svg"


def test_an_unknown_code_speaks_for_itself():
    assert reason_words("NEW_CODE") == "NEW_CODE"
    assert reason_words("GAP") == REASONS["GAP"][1]
