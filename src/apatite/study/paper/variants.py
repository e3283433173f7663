"""Two ablations: how a decoder makes voxels of tokens, and how wide the encoder is."""

from apatite.report.html import Section, Table
from apatite.report.numbers import Cell
from apatite.study.paper.arms import DECODERS, MODELS, UPSAMPLED
from apatite.study.paper.cells import (
    NOT_RUN,
    about,
    difference_table,
    estimates,
    heading,
    num_positive,
    short_model,
)
from apatite.study.paper.published import DECODERS as PRINTED
from apatite.study.paper.published import PARAMETERS, TAG
from apatite.study.paper.results import Arm, Results

_QUANTITIES = ("dice", "precision", "recall", "volume_error_mm3")
_WAYS = {"nearest": "nearest neighbour + convolution", "transposed": "transposed convolution"}


def upsampling_section(results: Results) -> Section:
    """Nearest neighbour with convolution against transposed convolution, in every decoder that has the choice."""
    arms = {
        (decoder, way): results.arm(f"{decoder}, {way}", init="mae", decoder=decoder, upsampling=way)
        for decoder in UPSAMPLED
        for way in _WAYS
    }
    rows: list[list[Cell]] = [
        [decoder, _WAYS[way], len(results.runs(arm)), *estimates(results, arm, _QUANTITIES)]
        for (decoder, way), arm in arms.items()
    ]
    pairs = {
        f"{decoder}: nearest − transposed": (arms[decoder, "nearest"], arms[decoder, "transposed"])
        for decoder in UPSAMPLED
    }
    return Section(
        title="Upsampling",
        text=("Pre-trained, threshold 0.5. Smoothness itself is not measured here.",),
        tables=(
            Table(
                columns=("decoder", "upsampling", "runs", *map(heading, _QUANTITIES)),
                rows=rows,
                caption=f"Means over {num_positive(results)} cases with calcium; {about(results)}",
            ),
            difference_table(results, pairs, ("dice", "volume_error_mm3")),
        ),
    )


def embedding_sizes_section(results: Results) -> Section:
    """The encoder's width in every decoder, with its parameters."""
    models = [*(str(model) for model in results.values("model") if model not in MODELS), *MODELS]
    arms = {(model, decoder): _sized(results, model, decoder) for decoder in DECODERS for model in models}
    rows: list[list[Cell]] = []
    for (model, decoder), arm in arms.items():
        counts = [record.num_parameters for record in results.runs(arm).values()]
        printed = PRINTED.get((model, decoder))
        rows.append(
            [
                decoder,
                short_model(model),
                (counts[0] or None) if counts else NOT_RUN,
                len(counts),
                *estimates(results, arm, ("dice", "volume_error_mm3")),
                printed[0] if printed else None,
                PARAMETERS.get(model),
            ]
        )
    pairs = {
        f"{decoder}: {short_model(first)} − {short_model(second)}": (arms[first, decoder], arms[second, decoder])
        for decoder in DECODERS
        for first, second in (("vitiac-m", "vitiac-s"), ("vitiac-l", "vitiac-m"))
    }
    return Section(
        title="Embedding sizes",
        text=("Pre-trained, threshold 0.5, smallest patch. Parameters are those of encoder and decoder together.",),
        tables=(
            Table(
                columns=(
                    "decoder", "encoder", "parameters", "runs", "Dice", heading("volume_error_mm3"),
                    f"Dice, {TAG}", f"parameters of the autoencoder, {TAG}",
                ),
                rows=rows,
                caption=f"Means over {num_positive(results)} cases with calcium; {about(results)}",
            ),
            difference_table(results, pairs, ("dice",)),
        ),
    )  # fmt: skip


def _sized(results: Results, model: str, decoder: str) -> Arm:
    return results.arm(f"{short_model(model)}, {decoder}", init="mae", model=model, decoder=decoder)
