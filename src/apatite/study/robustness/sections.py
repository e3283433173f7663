"""The page of a robustness measurement: ranges first, then each way of getting worse, strangers, and the method."""

from collections.abc import Sequence

from apatite.core.volume import Estimate
from apatite.ct.degrade.degradation import Degradation
from apatite.ct.degrade.registry import DEGRADATIONS
from apatite.report.figures.robustness import LadderPanel, ladder_figure
from apatite.report.html import Picture, Section, Table
from apatite.report.numbers import Cell
from apatite.study.robustness.curves import QUANTITIES, Curve, Point
from apatite.study.robustness.reference import RIM_MM
from apatite.study.robustness.run import Robustness

COLUMNS = ("dice", "dice_drop", "volume_ratio", "volume_change", "false_mm3")
REFERENCE = (
    "The reference of a level is what the annotator would have marked there: of the voxels to which the annotated "
    f"calcium and its rim ({RIM_MM:g} mm) add at least 45 HU, those of at least 130 HU, lone voxels dropped. Volumes "
    "are compared with the reference of the scan as it is, so they carry what the scanner itself does to a volume "
    "above 130 HU; the grey line shows that part."
)
AGAIN = (
    "The same phantom patients were scanned again with one thing changed, and the reference is what a perfect reader "
    "marks on those slices. Volumes are compared with the reference of the first scan."
)


def robustness_sections(found: Robustness) -> list[Section]:
    """All parts of the page."""
    sections = [_ranges_section(found)]
    for label in found.labels:
        name = f"{found.label_names[label]}: " if len(found.labels) > 1 else ""
        sections += [_way_section(found, by, label, name) for by in found.ladders if found.curves_of(by, label)]
    sections += [_strangers_section(found)] if found.strangers else []
    return sections + ([_method_section(found)] if found.method else [])


def ranges_table(found: Robustness, label: int) -> Table:
    """One row per model and way: from where to where it holds, and why no further."""
    rows: list[list[Cell]] = []
    for (model, value), ranges in found.ranges.items():
        if value != label:
            continue
        for number, one in enumerate(ranges):
            rows.append(
                [model if number == 0 else "", one.by, _range_text(one.low, one.high, one.unit), one.num_positive,
                 one.ends_because]
            )  # fmt: skip
    criteria = found.config.criteria
    return Table(
        columns=("model", "by", "holds from … to", "cases", "upwards it ends because"),
        rows=rows,
        caption=f"Criteria: upper end of the {100 * found.config.intervals.coverage:g} % interval of the drop in Dice "
        f"at most {criteria.dice_drop:g}; volume within {100 * criteria.volume_bias:g} % of the reference of the scan "
        f"as it is; at least {criteria.least_positive} cases with the label. Levels beyond those looked at are not "
        "validated.",
    )


def curve_table(found: Robustness, by: str, label: int) -> Table:
    """Every level of one way, model after model."""
    kind = found.ladders[by][0]
    rows: list[list[Cell]] = []
    for curve in found.curves_of(by, label):
        for number, (text, point) in enumerate(_points(curve, found.ladders[by])):
            estimates = [point.estimates[name] for name in COLUMNS]
            rows.append([curve.model if number == 0 else "", text, point.num_positive, *estimates])
    heading = f"{kind.axis} ({kind.unit})" if kind.unit else kind.axis
    return Table(
        columns=("model", heading, "cases", *(QUANTITIES[name].heading for name in COLUMNS)),
        rows=rows,
        caption=f"Means over the cases that hold the label, with {100 * found.config.intervals.coverage:g} % intervals "
        "by patient; ratios of volumes on the mean of logarithms; drops and changes are paired with the scans as they "
        "are. False volume is over the cases without the label.",
    )


def _ranges_section(found: Robustness) -> Section:
    how = AGAIN if found.config.rescan else REFERENCE
    points = [
        f"{found.num_cases} labelled cases of the split {found.split}.",
        *(
            f"{by}: {count} of them take no part"
            + (
                f" (slices above {found.config.thin_mm:g} mm, or as thick as every level)."
                if by == "thickness"
                else "."
            )
            for by, count in found.left_out.items()
            if count
        ),
    ]
    return Section(
        title="Where it holds",
        text=(how,),
        points=points,
        tables=[ranges_table(found, label) for label in found.labels],
    )


def _way_section(found: Robustness, by: str, label: int, name: str) -> Section:
    kind = found.ladders[by][0]
    return Section(
        title=f"{name}{by.capitalize()}",
        text=(f"{_what(found, kind)}.",),
        tables=(curve_table(found, by, label),),
        figures=(_picture(found, by, label),),
    )


def _picture(found: Robustness, by: str, label: int) -> Picture:
    """Dice and volume over the levels."""
    ladder, of_models = found.ladders[by], found.curves_of(by, label)
    kind, criteria = ladder[0], found.config.criteria
    lines = {curve.model: [point for _, point in _points(curve, ladder)] for curve in of_models}
    first = _points(of_models[0], ladder)
    unit = f" ({kind.unit})" if kind.unit else ""
    return ladder_figure(
        [text for text, _ in first],
        [point.num_positive for _, point in first],
        f"{kind.axis}{unit}",
        [
            LadderPanel(title="Dice", y_label="Dice", lines=_lines(lines, "dice")),
            LadderPanel(
                title="drop in Dice, paired",
                y_label="Dice as is − Dice at level",
                lines=_lines(lines, "dice_drop"),
                limits=(criteria.dice_drop,) if kind.is_ordered else (),
            ),
            LadderPanel(
                title="volume / reference as is",
                y_label="ratio",
                lines=_lines(lines, "volume_ratio"),
                plain=[point.estimates["reference_ratio"].value for _, point in first],
                plain_name="reference of the level",
                limits=(1 - criteria.volume_bias, 1 + criteria.volume_bias) if kind.is_ordered else (),
                is_ratio=True,
            ),
        ],
        caption=f"{_what(found, kind)}: means and {100 * found.config.intervals.coverage:g} % "
        "intervals by patient. Dashed: the criteria. Grey: what the reference itself "
        "does. A hollow point beside the line is a level that some of the cases lack.",
    )


def _strangers_section(found: Robustness) -> Section:
    rows: list[list[Cell]] = [
        [one.model, one.what, "yes" if one.is_paired else "no", one.num_held_out, one.held_out, one.num_seen, one.seen,
         one.difference]
        for one in found.strangers
    ]  # fmt: skip
    table = Table(
        columns=("model", "held out of training", "same patients", "cases", "Dice", "cases seen", "Dice", "difference"),
        rows=rows,
        caption="Held out minus seen, with intervals by patient. Unpaired, the groups are different patients; paired, "
        "every patient was scanned again as each vendor scans.",
    )
    return Section(title="Held out of training against seen", tables=(table,))


def _method_section(found: Robustness) -> Section:
    rows: list[list[Cell]] = [
        [one.by, f"{one.level:g}".replace("-", "−"), one.num_cases, one.reference_dice, one.scan_dice,
         one.volume_ratio, one.difference_hu]
        for one in found.method
    ]  # fmt: skip
    table = Table(
        columns=(
            "by",
            "level",
            "cases",
            "reference: Dice with the perfect reader",
            "degraded and scanned again: Dice",
            "their volumes, ratio",
            "HU in calcium, degraded − again",
        ),
        rows=rows,
        caption="On phantoms with calcium, same slices. The fourth column compares the reference that is made from the "
        "annotation with a perfect reader of the same degraded scan; the others compare the two scans, read by the "
        "perfect reader. Noise differs between the two scans.",
    )
    return Section(
        title="Is degrading like scanning again?",
        text=("On scans of patients, degrading is all that can be done; here both were.",),
        tables=(table,),
    )


def _points(curve: Curve, ladder: Sequence[Degradation]) -> list[tuple[str, Point]]:
    """Texts and points in the order of an axis: the scans as they are stand between what lies below and above 0."""
    texts = {step.level: step.text for step in ladder}
    below = [(texts[point.level], point) for point in curve.points if point.level < 0]
    above = [(texts[point.level], point) for point in curve.points if point.level > 0]
    return [*below, ("as is", curve.as_is), *above]


def _lines(points: dict[str, list[Point]], name: str) -> dict[str, list[Estimate]]:
    return {model: [point.estimates[name] for point in own] for model, own in points.items()}


def _what(found: Robustness, kind: Degradation) -> str:
    """What is done, as a sentence without its full stop."""
    if found.config.rescan and kind.axis != DEGRADATIONS["pose"].axis:
        return f"Scanned again with another level of: {kind.axis}"
    return f"{kind.what[0].upper()}{kind.what[1:]}"


def _range_text(low: float | None, high: float | None, unit: str) -> str:
    if low is None or high is None:
        return "nowhere"
    if low == high == 0:
        return "only as scanned"
    return f"{low:g} … {high:g} {unit}".replace("-", "−").strip()
