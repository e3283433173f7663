"""How many were left at each stage, and why the others were not: a flow chart for a paper, and the same as a table.

Source: the form is that of a CONSORT diagram; Jin et al. 2024 (DEMI@MICCAI) draw theirs so.
"""

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from apatite.core.reasons import REASONS
from apatite.report.figures.canvas import PALETTE, QUIET, WIDTH_IN, draw
from apatite.report.html import Picture, Table
from apatite.report.numbers import Cell

MOST_REASONS = 8
"""Reasons named in one box of the chart; the table names them all."""

_LINE_IN = 0.215
_PAD_IN = 0.24
_GAP_IN = 0.42
_KEPT_WIDTH, _LEFT_OUT_AT, _LEFT_OUT_WIDTH = 3.9, 4.7, 5.2


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step on the way, after which fewer are left.

    Attributes:
        name: What was done, for example `chosen per study`.
        left_out: How many were left out, by the code of the reason.
    """

    name: str
    left_out: Mapping[str, int]

    @property
    def num_left_out(self) -> int:
        """How many were left out here."""
        return sum(self.left_out.values())


@dataclass(frozen=True, kw_only=True)
class Flow:
    """The whole way.

    Attributes:
        unit: What is counted, in the plural: `series`, `scans`.
        begin: How many there were.
        begin_name: What they were, for example `found in the archive`.
        stages: In order.
    """

    unit: str
    begin: int
    begin_name: str
    stages: Sequence[Stage]

    def __post_init__(self) -> None:
        if min([self.begin, *(count for stage in self.stages for count in stage.left_out.values())]) < 0:
            raise ValueError("a count is negative")
        if min(self.kept) < 0:
            raise ValueError(f"{self.begin - self.kept[-1]} of {self.begin} {self.unit} were left out")

    @property
    def kept(self) -> tuple[int, ...]:
        """How many were there at the beginning and after each stage."""
        counts = [self.begin]
        for stage in self.stages:
            counts.append(counts[-1] - stage.num_left_out)
        return tuple(counts)


def reason_words(code: str) -> str:
    """What a code means; the code itself where it is not in the table of reasons."""
    return REASONS[code][1] if code in REASONS else code


def flow_table(flow: Flow) -> Table:
    """Every stage and every reason, with counts and shares of the beginning."""
    rows: list[list[Cell]] = [[flow.begin_name, "", flow.begin, _share(flow.begin, flow.begin)]]
    bold = [0]
    for stage, kept in zip(flow.stages, flow.kept[1:], strict=True):
        rows += [
            [f"left out: {reason_words(code)}", code, count, _share(count, flow.begin)]
            for code, count in _by_count(stage)
            if count
        ]
        bold.append(len(rows))
        rows.append([stage.name, "", kept, _share(kept, flow.begin)])
    return Table(
        columns=("stage", "code", flow.unit, f"of all {flow.unit}"),
        rows=rows,
        caption=f"From {flow.begin:,} to {flow.kept[-1]:,} {flow.unit}.",
        bold_rows=bold,
    )


def flow_figure(flow: Flow, *, caption: str = "", kind: Literal["svg", "png"] = "svg") -> Picture:
    """The way from above to below; beside each arrow who was left out, and why.

    Args:
        flow: What to draw.
        caption: What stands under it.
        kind: `svg` for a paper, `png` for a page that cannot show it.
    """
    left = [_left_out_lines(stage, flow) for stage in flow.stages]
    kept = [_kept_lines(name, count, flow) for name, count in zip(_names(flow), flow.kept, strict=True)]
    height_in = sum(_height_in(lines) for lines in kept) + sum(_between_in(lines) for lines in left) + 0.1

    def paint(figure: Figure) -> None:
        # One axis over the whole figure, in inches; there is nothing to lay out.
        figure.set_layout_engine("none")
        axis = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axis.set(xlim=(0, WIDTH_IN), ylim=(0, height_in))
        axis.set_axis_off()
        top = height_in - 0.05
        for number, lines in enumerate(kept):
            is_last = number == len(left)
            _box(axis, (0.05, top), _KEPT_WIDTH, lines, is_kept=True, is_last=is_last)
            top -= _height_in(lines)
            if is_last:
                break
            between = _between_in(left[number])
            _arrow(axis, (0.05 + _KEPT_WIDTH / 2, top), (0.05 + _KEPT_WIDTH / 2, top - between))
            if left[number]:
                _arrow(axis, (0.05 + _KEPT_WIDTH / 2, top - between / 2), (_LEFT_OUT_AT, top - between / 2))
                _box(axis, (_LEFT_OUT_AT, top - _GAP_IN / 2), _LEFT_OUT_WIDTH, left[number], is_kept=False)
            top -= between

    words = ", ".join(f"{name}: {count:,}" for name, count in zip(_names(flow), flow.kept, strict=True))
    alt = f"Flow chart of {flow.unit}: {words}"
    return draw(paint, caption=caption, alt=alt, size_in=(WIDTH_IN, height_in), kind=kind)


def _names(flow: Flow) -> list[str]:
    return [flow.begin_name, *(stage.name for stage in flow.stages)]


def _by_count(stage: Stage) -> list[tuple[str, int]]:
    return sorted(stage.left_out.items(), key=lambda item: (-item[1], item[0]))


def _share(count: int, whole: int) -> str:
    return f"{count / whole:.1%}".replace("%", " %") if whole else "–"


def _kept_lines(name: str, count: int, flow: Flow) -> list[str]:
    wrapped = textwrap.wrap(name, 40)
    return [f"{count:,} {flow.unit} ({_share(count, flow.begin)})", *wrapped]


def _left_out_lines(stage: Stage, flow: Flow) -> list[str]:
    """Text of the box beside an arrow; none where nobody was left out."""
    if not stage.num_left_out:
        return []
    rows = [(code, count) for code, count in _by_count(stage) if count]
    shown = rows if len(rows) <= MOST_REASONS else rows[: MOST_REASONS - 1]
    lines = [f"{stage.num_left_out:,} left out ({_share(stage.num_left_out, flow.begin)})"]
    for code, count in shown:
        first, *rest = textwrap.wrap(f"{reason_words(code)} (n = {count:,})", 62)
        lines += [first, *(f"    {line}" for line in rest)]
    if len(shown) < len(rows):
        others = sum(count for _, count in rows[len(shown) :])
        lines.append(f"{len(rows) - len(shown)} other reasons (n = {others:,})")
    return lines


def _height_in(lines: Sequence[str]) -> float:
    return _PAD_IN + _LINE_IN * len(lines)


def _between_in(lines: Sequence[str]) -> float:
    """Length of the arrow that has room for the box beside it."""
    return _GAP_IN + (_height_in(lines) if lines else 0.0)


def _box(
    axis: Axes,
    corner: tuple[float, float],
    width: float,
    lines: Sequence[str],
    *,
    is_kept: bool,
    is_last: bool = False,
) -> None:
    """A box hanging from its upper left corner; its first line is bold."""
    left, top = corner
    height = _height_in(lines)
    edge = PALETTE[0] if is_kept else QUIET
    face = "#dcebf7" if is_last else "white"
    axis.add_patch(
        FancyBboxPatch(
            (left, top - height),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=0.06",
            edgecolor=edge,
            facecolor=face,
            linewidth=1.6 if is_kept else 0.9,
            linestyle="solid" if is_kept else "dashed",
        )
    )
    for number, line in enumerate(lines):
        axis.text(
            left + 0.14,
            top - _PAD_IN / 2 - _LINE_IN * (number + 0.5),
            line,
            va="center",
            fontsize=10.5 if number == 0 else 9.5,
            fontweight="bold" if number == 0 else "normal",
        )


def _arrow(axis: Axes, begin: tuple[float, float], end: tuple[float, float]) -> None:
    if math.dist(begin, end) > 0:
        axis.add_patch(
            FancyArrowPatch(
                begin, end, arrowstyle="-|>", mutation_scale=11, color=QUIET, linewidth=1.1, shrinkA=0, shrinkB=0
            )
        )
