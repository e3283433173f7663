"""Which cases a pre-training run learns from."""

from apatite.io.hold_out import is_held_out, refuse_strangers
from apatite.io.store import Prepared
from apatite.pretrain.config import PretrainConfig

SPLITS = ("pretrain", "finetune")
"""What may be learned from without labels. Nothing is ever learned from development and test."""


def learned_rows(config: PretrainConfig, prepared: Prepared) -> list[int]:
    """The cases to learn from, ascending; labels are not looked at."""
    refuse_strangers(prepared.cases, config.hold_out)
    return [
        row for row in prepared.case_index(*SPLITS).tolist() if not is_held_out(prepared.cases[row], config.hold_out)
    ]
