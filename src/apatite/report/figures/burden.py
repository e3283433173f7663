"""Confusion between burden groups: the group by the reference against the group by the model."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from apatite.report.figures.canvas import draw, flat_axes
from apatite.report.html import Picture


def confusion_figure(
    matrices: Mapping[str, Int[np.ndarray, "groups groups"]], group_names: Sequence[str], *, caption: str
) -> Picture:
    """One matrix per model; rows are the reference, columns the prediction, the numbers are cases.

    Args:
        matrices: Model → counts, `reference predicted`.
        group_names: Names of the groups, in order.
        caption: What stands under it.
    """

    def paint(figure: Figure) -> None:
        axes = flat_axes(figure.subplots(1, len(matrices), squeeze=False))
        for column, (axis, (model, matrix)) in enumerate(zip(axes, matrices.items(), strict=True)):
            _matrix(axis, matrix, group_names)
            axis.set_title(model)
            axis.set_ylabel("group by the reference" if column == 0 else "")

    alt = "; ".join(
        f"{model}: {int(np.trace(m))} of {int(m.sum())} cases in the right group" for model, m in matrices.items()
    )
    return draw(paint, caption=caption, alt=alt, size_in=(3.4 * len(matrices), 3.5))


def _matrix(axis: Axes, matrix: Int[np.ndarray, "groups groups"], group_names: Sequence[str]) -> None:
    totals = np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    share = matrix / totals
    edges = np.arange(len(group_names) + 1) - 0.5
    axis.pcolormesh(edges, edges, share, cmap="Blues", vmin=0.0, vmax=1.0, edgecolors="white", linewidth=1.5)
    axis.set_aspect("equal")
    axis.invert_yaxis()
    for row, column in np.ndindex(*matrix.shape):
        if matrix[row, column]:
            shade = "white" if share[row, column] > 0.55 else "#1b1f24"
            axis.text(column, row, str(int(matrix[row, column])), ha="center", va="center", color=shade)
    places = range(len(group_names))
    axis.set_xticks(places, list(group_names))
    axis.set_yticks(places, list(group_names))
    axis.set_xlabel("group by the model")
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)
