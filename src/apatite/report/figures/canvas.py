"""What every figure shares: one palette, one type size, one way to become a picture.

Colours are those of Okabe and Ito, distinct for all common forms of colour blindness; models take them in a fixed
order, and each has its own marker too, so that nothing hangs on colour alone.

Source: Okabe & Ito 2008, "Color universal design".
"""

import io
from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from apatite.report.html import Picture

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
REFERENCE_COLOUR = "#009E73"
PREDICTION_COLOUR = "#D55E00"
QUIET = "#57606a"

WIDTH_IN = 10.0
"""Width of a figure that fills the page's column."""

_PAGE_DPI = 100
"""How large an inch is on the page; a figure of full width fills the column."""

_RC: dict[str, Any] = {
    "font.size": 10.5,
    "font.family": "DejaVu Sans",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": QUIET,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "grid.color": "#e6e9ed",
    "grid.linewidth": 0.8,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "svg.fonttype": "path",
    # A fixed salt, so that the same numbers give the same file.
    "svg.hashsalt": "apatite",
}


def draw(
    paint: Callable[[Figure], None],
    *,
    caption: str,
    alt: str,
    size_in: tuple[float, float] = (WIDTH_IN, 4.0),
    kind: Literal["png", "svg"] = "svg",
) -> Picture:
    """Let `paint` fill a figure and encode it; no window system and no shared state is involved.

    Args:
        paint: Draws on an empty figure.
        caption: What stands under it.
        alt: What it shows, in words.
        size_in: Width and height in inches.
        kind: Lines and text as `svg`, images as `png` at 160 dots per inch.
    """
    with mpl.rc_context(cast(Any, _RC)):
        figure = Figure(figsize=size_in, layout="constrained")
        paint(figure)
        stream = io.BytesIO()
        metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
        figure.savefig(stream, format=kind, dpi=160, metadata=metadata)
    return Picture(
        content=stream.getvalue(), kind=kind, caption=caption, alt=alt, width_px=round(size_in[0] * _PAGE_DPI)
    )


def colour(index: int) -> str:
    """The colour of the index-th model; it goes round after seven."""
    return PALETTE[index % len(PALETTE)]


def marker(index: int) -> str:
    """The marker of the index-th model."""
    return MARKERS[index % len(MARKERS)]


def flat_axes(grid: Any) -> list[Axes]:
    """The axes of `Figure.subplots(..., squeeze=False)` as a list, row by row."""
    return list(grid.ravel())


def hide_rest(axes: Sequence[Axes], used: int) -> None:
    """Switch off the panels that hold nothing."""
    for axis in axes[used:]:
        axis.set_axis_off()
