"""Encoder against decoder at the smallest patch, pre-trained and at a threshold of 0.5."""

from apatite.report.figures.intervals import strata_figure
from apatite.report.html import Picture, Section, Table
from apatite.report.numbers import Cell
from apatite.study.paper.arms import DECODERS, MODELS
from apatite.study.paper.cells import about, estimates, heading, num_positive, short_model
from apatite.study.paper.contrasts import estimate
from apatite.study.paper.published import DECODERS as PRINTED
from apatite.study.paper.published import TAG
from apatite.study.paper.results import Arm, Results

_QUANTITIES = ("dice", "precision", "recall")


def decoders_section(results: Results) -> Section:
    """One row per encoder and decoder, the paper's figures beside it."""
    rows: list[list[Cell]] = []
    for model in _models(results):
        for decoder in DECODERS:
            arm = _arm(results, model, decoder)
            printed = PRINTED.get((model, decoder), (None,) * 3)
            cells = estimates(results, arm, _QUANTITIES)
            rows.append([short_model(model), decoder, len(results.runs(arm)), *cells, *printed])
    headings = [heading(name) for name in _QUANTITIES]
    return Section(
        title="Encoders and decoders",
        text=(f"Pre-trained, threshold 0.5, patch {results.reference.get('patch', 'not run')}.",),
        tables=(
            Table(
                columns=("encoder", "decoder", "runs", *headings, *(f"{name}, {TAG}" for name in headings)),
                rows=rows,
                caption=f"Means over {num_positive(results)} cases with calcium; {about(results)}",
            ),
        ),
        figures=_picture(results),
    )


def _models(results: Results) -> list[str]:
    others = [str(model) for model in results.values("model") if model not in MODELS]
    return [*others, *MODELS]


def _arm(results: Results, model: str, decoder: str) -> Arm:
    return results.arm(f"{short_model(model)}, {decoder}", init="mae", model=model, decoder=decoder)


def _picture(results: Results) -> tuple[Picture, ...]:
    lines = {
        short_model(model): [estimate(results, _arm(results, model, decoder), "dice") for decoder in DECODERS]
        for model in _models(results)
    }
    shown = {model: values for model, values in lines.items() if any(value is not None for value in values)}
    if not shown:
        return ()
    caption = f"Dice by decoder, one marker per encoder; {about(results)}"
    return (strata_figure(DECODERS, shown, y_label="Dice", caption=caption),)
