"""Pictures of a phantom cohort: what it looks like, and the checks that it is hard and fair."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from apatite.phantom.cohort import Series
from apatite.report.figures.canvas import MARKERS, PALETTE, QUIET, WIDTH_IN, draw, hide_rest
from apatite.report.html import Picture

WINDOW_HU = (-200, 800)


def montage(series: Sequence[Series], slices: int = 5) -> Picture:
    """One row of slices per series, from below the sella upwards; the patient's right is on the left."""

    def paint(figure: Figure) -> None:
        grid = figure.subplots(len(series), slices, squeeze=False)
        for row, one in zip(grid, series, strict=True):
            voxels = one.acquisition.scan.voxels_hu
            reached = np.flatnonzero(one.is_inside.any(axis=(1, 2)))
            shown = np.unique(
                np.linspace(reached[len(reached) // 5], reached[(4 * len(reached)) // 5], slices).round().astype(int)
            )
            hide_rest(list(row), 0)
            for axis, k in zip(row, shown, strict=False):
                axis.imshow(voxels[k], cmap="gray", vmin=WINDOW_HU[0], vmax=WINDOW_HU[1])
                if one.is_calcium[k].any():
                    axis.contour(one.is_calcium[k], [0.5], colors=PALETTE[1], linewidths=0.7)
            protocol = one.protocol
            row[0].set_title(
                f"{one.case_id}  {protocol.vendor}, {protocol.kernel_class}, {protocol.thickness_mm:g} mm", fontsize=8
            )

    return draw(
        paint,
        kind="png",
        size_in=(WIDTH_IN, 2.05 * len(series)),
        caption=f"{len(series)} series, {WINDOW_HU[0]} to {WINDOW_HU[1]} HU; outlined: calcium by the 130-HU rule.",
        alt="Rows of simulated skull-base slices with sphenoid sinus, sella and carotid calcium outlined.",
    )


def tissue_fractions(checks: Mapping[str, Any]) -> Picture:
    """HU fractions beside the ranges of a real head."""
    rows = checks["hu_fractions"]

    def paint(figure: Figure) -> None:
        axis = figure.subplots()
        place = np.arange(len(rows))
        low, high = np.array([row["real_head"] for row in rows]).T
        axis.bar(place, high - low, bottom=low, width=0.7, color=PALETTE[5], alpha=0.5, label="real head, range")
        axis.plot(place, [row["value"] for row in rows], MARKERS[0], color=PALETTE[0], label="phantom, mean")
        axis.set_xticks(place, [f"{row['range_hu'][0]} to {row['range_hu'][1]}" for row in rows], fontsize=8)
        axis.set(xlabel="HU", ylabel="fraction of voxels")
        axis.legend()

    return draw(
        paint,
        size_in=(WIDTH_IN, 3.2),
        caption="Tissue within 8 mm of the sella (soft kernel, 3.5-6 mm slices), and in one real head CT.",
        alt="Points of the phantom over bars of the real head for six HU ranges.",
    )


def volume_ratios(rows: Sequence[Mapping[str, Any]]) -> Picture:
    """Measured over true volume of lone ellipsoids against slice thickness, with an independent simulation."""

    def paint(figure: Figure) -> None:
        axis = figure.subplots()
        for number, row in enumerate(rows):
            colour = PALETTE[number % len(PALETTE)]
            axis.plot(
                row["thickness_mm"],
                row["ratio"],
                MARKERS[number] + "-",
                color=colour,
                label=f"{row['mm3']} mm³, {row['hu']} HU",
            )
            axis.plot(row["thickness_mm"], row["expected"], ":", color=colour)
        axis.axhline(1, color=QUIET, linewidth=0.8)
        axis.set(xlabel="slice thickness (mm)", ylabel="measured / true volume")
        axis.legend(ncols=2)

    return draw(
        paint,
        size_in=(WIDTH_IN, 3.6),
        caption="130-HU volume over true volume: this scanner (solid), an independent simulation (dotted).",
        alt="Seven pairs of curves over slice thickness from 1 to 10 mm.",
    )


def oracle_dice(checks: Mapping[str, Any]) -> Picture:
    """Dice of simple methods and of those who know the artery, per slice thickness."""
    bins = list(checks["dice_oracle"])

    def paint(figure: Figure) -> None:
        axis = figure.subplots()
        place = np.arange(len(bins))
        kinds = [("dice_oracle", "artery known"), ("dice_oracle_no_bone", "artery and bone known")]
        for number, (key, name) in enumerate(kinds):
            for kernel, style in (("soft", "-"), ("bone", "--")):
                values = [checks[key][label][kernel] for label in bins]
                shown = [np.nan if value is None else value for value in values]
                axis.plot(
                    place, shown, MARKERS[number] + style, color=PALETTE[number], label=f"{name}, {kernel} kernel"
                )
        for number, (key, name) in enumerate(
            [("dice_threshold", "130 HU alone"), ("dice_filtered", "130 HU, filtered")]
        ):
            axis.axhline(checks[key]["value"] or 0.0, color=PALETTE[2 + number], linewidth=1.2, label=name)
        axis.set_xticks(place, bins)
        axis.set(xlabel="slice thickness", ylabel="mean Dice", ylim=(0, 1))
        axis.legend(ncols=2)

    return draw(
        paint,
        size_in=(WIDTH_IN, 3.6),
        caption="A threshold, a threshold with filters, and oracles that know the artery (and the bone).",
        alt="Dice of oracles over slice thickness above two low horizontal lines of simple methods.",
    )
