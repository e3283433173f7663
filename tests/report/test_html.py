import base64
import hashlib
import re

import pytest

from apatite.core.volume import Estimate
from apatite.report.html import Picture, Section, Table, render_report

PIXEL = Picture(content=b"not an image", kind="png", caption="a < b", alt='"quoted"', width_px=300)


def test_the_policy_allows_the_page_s_own_style_and_nothing_else():
    text = render_report("T", [], {})
    style = re.search(r"<style>(.*)</style>", text, re.DOTALL)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert style and policy
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"sha256-{digest}" in policy[1].replace("&#39;", "'").replace("&#43;", "+")
    assert "script-src" not in policy[1]
    assert "http" not in re.sub(r"http-equiv", "", text)


def test_everything_given_is_escaped():
    hostile = "<script>alert('x')</script>"
    table = Table(columns=(hostile,), rows=[[hostile]], caption=hostile)
    section = Section(title=hostile, text=(hostile,), points=(hostile,), tables=(table,), figures=(PIXEL,))
    text = render_report(hostile, [section], {hostile: hostile}, domains=(hostile,), subtitle=hostile)
    assert "<script" not in text
    assert text.count("&lt;script&gt;") >= 10
    assert 'alt="&#34;quoted&#34;" width="300"' in text


def test_columns_of_numbers_are_aligned_and_columns_of_words_are_not():
    estimate = Estimate(value=0.5, low=0.4, high=0.6, unit="", coverage=0.95)
    table = Table(columns=("model", "Dice", "n"), rows=[["a", estimate, 3], ["b", None, 4]])
    assert table.is_numeric == [False, True, True]
    assert table.texts == [["a", "0.500 [0.400; 0.600]", "3"], ["b", "–", "4"]]


def test_a_row_that_does_not_fit_its_headings_is_refused():
    with pytest.raises(ValueError, match="2 cells under 1 headings"):
        Table(columns=("a",), rows=[[1, 2]])


def test_the_same_input_gives_the_same_page():
    sections = [Section(title="s", figures=(PIXEL,))]
    assert render_report("T", sections, {"seed": 1}) == render_report("T", sections, {"seed": 1})


def test_the_banner_stands_on_every_page():
    assert "must not be used for diagnosis" in render_report("T", [], {})
