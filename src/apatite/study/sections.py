"""The page of an evaluation, part by part; the demonstration's page is made of the same parts."""

from collections.abc import Sequence

from apatite.report.html import Picture, Section
from apatite.study.evaluate import Evaluation
from apatite.study.figures import agreement_picture, burden_picture, comparison_picture, strata_picture
from apatite.study.probability_sections import interval_section, probability_section
from apatite.study.tables import (
    SHAPE_COLUMNS,
    agreement_table,
    analytic_table,
    burden_table,
    comparison_table,
    difference_table,
    free_table,
    labels_table,
    lesion_table,
    shape_table,
    strata_table,
)

REFERENCE_NOTE = (
    "Voxels and volumes are counted on the original slices inside the region, against the annotation of those slices "
    "(for calcium: at least 130 HU within the artery, lone voxels dropped)."
)


def evaluation_sections(evaluation: Evaluation) -> list[Section]:
    """All parts of the page: labels first where there are several, then each label."""
    sections = [_labels_section(evaluation)] if len(evaluation.labels) > 1 else []
    for label in evaluation.labels:
        name = f"{evaluation.label_names[label]}: " if len(evaluation.labels) > 1 else ""
        sections.append(comparison_section(evaluation, label, f"{name}Comparison".strip()))
        sections.append(agreement_section(evaluation, label, f"{name}Volume agreement"))
        sections.append(free_section(evaluation, label, f"{name}Cases without the label"))
        if label == evaluation.config.burden_label:
            sections.append(burden_section(evaluation, label, f"{name}Burden groups"))
        parts = (
            probability_section(evaluation, label, f"{name}Probability"),
            interval_section(evaluation, label, f"{name}Interval on the volume"),
        )
        sections += [part for part in parts if part is not None]
        sections.append(strata_section(evaluation, label, f"{name}By slice thickness and kernel"))
    return sections


def comparison_section(evaluation: Evaluation, label: int, title: str = "Comparison") -> Section:
    """The main table in every reading, surfaces and topology, lesions, and paired differences."""
    gates = evaluation.gates
    tables = [comparison_table(evaluation, label, gate) for gate in gates]
    if len(evaluation.models) > 1:
        tables += [difference_table(evaluation, label, gate) for gate in gates]
    tables += [shape_table(evaluation, label, gates[0])]
    if len(evaluation.models) > 1:
        tables += [difference_table(evaluation, label, gates[0], SHAPE_COLUMNS)]
    tables += [lesion_table(evaluation, label, gates[0])]
    return Section(
        title=title,
        text=(REFERENCE_NOTE, *_gate_note(gates)),
        tables=tables,
        figures=(comparison_picture(evaluation, label, gates[0]),),
    )


def agreement_section(
    evaluation: Evaluation, label: int, title: str = "Volume agreement", models: tuple[str, ...] = ()
) -> Section:
    """Bland–Altman in numbers and pictures, over the cases that have the label."""
    gate = evaluation.gates[0]
    return Section(
        title=title,
        tables=[t for t in (agreement_table(evaluation, label, gate), analytic_table(evaluation, label, gate)) if t],
        figures=_present(agreement_picture(evaluation, label, gate, models)),
    )


def free_section(evaluation: Evaluation, label: int, title: str) -> Section:
    """What was falsely found; apart, because such cases have no Dice."""
    if next(iter(evaluation.of(label, evaluation.gates[0]).values())).num_free == 0:
        return Section(title=title, text=("There is no such case, so specificity was not measured.",))
    return Section(title=title, tables=[free_table(evaluation, label, gate) for gate in evaluation.gates])


def burden_section(evaluation: Evaluation, label: int, title: str = "Burden groups") -> Section:
    """Both definitions, each with its own table and picture."""
    gate = evaluation.gates[0]
    present = [d for d in ("paper", "deployed") if any(d in s.groups for s in evaluation.of(label, gate).values())]
    if not present:
        return Section(title=title, text=("Too few cases for quartiles; burden groups were not evaluated.",))
    pictures = [picture for d in present if (picture := burden_picture(evaluation, label, gate, d))]
    return Section(
        title=title,
        text=(
            "A burden group is a rank among reference volumes. “Paper” takes the quartiles of these very cases, "
            "positives only; “deployed” takes cut-points frozen on development cases, with a group for none.",
        ),
        tables=[burden_table(evaluation, label, gate, definition) for definition in present],
        figures=pictures,
    )


def strata_section(evaluation: Evaluation, label: int, title: str = "By slice thickness and kernel") -> Section:
    """The main quantities again in every stratum."""
    gate = evaluation.gates[0]
    return Section(
        title=title,
        tables=(strata_table(evaluation, label, gate),),
        figures=_present(
            strata_picture(evaluation, label, gate, "dice"), strata_picture(evaluation, label, gate, "volume_error_mm3")
        ),
    )


def _labels_section(evaluation: Evaluation) -> Section:
    text = (REFERENCE_NOTE, "A label that was not annotated in a case takes no part in that case.")
    return Section(title="All labels", text=text, tables=[labels_table(evaluation, gate) for gate in evaluation.gates])


def _gate_note(gates: Sequence[float | None]) -> tuple[str, ...]:
    gated = [gate for gate in gates if gate is not None]
    if not gated:
        return ()
    return (f"Where gated, predictions count only at {gated[0]:g} HU or more, alike for every model.",)


def _present(*pictures: Picture | None) -> tuple[Picture, ...]:
    return tuple(picture for picture in pictures if picture is not None)
