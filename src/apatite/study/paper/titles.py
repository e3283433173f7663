"""A row in words: what it shares with its neighbours, and what tells it from them."""

from collections.abc import Sequence

from apatite.study.paper.cells import short_model
from apatite.study.paper.results import patch_voxels
from apatite.study.paper.words import METHODS, NETWORKS, start_words
from apatite.study.sweep.record import Record
from apatite.study.sweep.rows import ALL, EQUAL_TIME, SCRATCH, VIT, method_of

_STARTS = {"mae": "pre-trained", SCRATCH: "scratch", EQUAL_TIME: "scratch, equal time"}


def arm_words(record: Record) -> str:
    """The start of training, for example `pre-trained` or `scratch`; nnU-Net has none."""
    if record.kind == "nnunet":
        return "nnU-Net"
    init = str(record.axes.get("init"))
    taken = record.axes.get("take")
    words = start_words(init) if method_of(init)[0] in METHODS else _STARTS.get(init, init)
    return words + (f" ({taken})" if taken not in (None, "encoder") else "")


def panel_words(record: Record) -> str:
    """Everything but start, draw and seed, for example `S, patch 4, mae` and `all labels` below it."""
    *first, last = _parts(record)
    return f"{', '.join(first) or arm_words(record)}\n{last}"


def run_words(record: Record) -> str:
    """What tells a run from others of its panel."""
    draw = "" if record.axes.get("labels") == ALL else f", draw {record.axes.get('draw')}"
    return f"{arm_words(record)}{draw}, seed {record.axes.get('seed')}"


def place(record: Record) -> tuple[str | int, ...]:
    """Where a row stands in a list: by kind, network, model, patch, decoder, then fewer labels first."""
    axes = record.axes
    labels = axes.get("labels")
    return (
        record.kind,
        str(axes.get("network")),
        str(axes.get("model")),
        patch_voxels(axes.get("patch") or 0),
        f"{axes.get('decoder')} {axes.get('upsampling')}",
        str(axes.get("reader")),
        labels if isinstance(labels, int) else 10**9,
        str(axes.get("init")),
        record.name,
    )


def row_words(record: Record) -> str:
    """Everything but draw and seed."""
    return ", ".join([arm_words(record), *_parts(record)])


def _parts(record: Record) -> Sequence[str]:
    axes = record.axes
    network = [NETWORKS[str(axes["network"])]] if axes.get("network") not in (None, VIT) else []
    model = [short_model(axes["model"])] if axes.get("model") else []
    patch = [f"patch {axes['patch']}"] if axes.get("patch") else []
    decoder = [" ".join(str(axes[name]) for name in ("decoder", "upsampling") if axes.get(name))]
    whose = " by a reader" if axes.get("reader") == "reader" else ""
    return [part for part in (*network, *model, *patch, *decoder, f"{axes.get('labels')} labels{whose}") if part]
