"""The term that asks which crop of the batch comes from the same scan: MoCo v3.

Source: Chen et al. 2021 (arXiv 2104.02057) and its public code; see `losses.contrast` and `nn.contrast_head`.
Differs: views are crops without changes of colour or size, and the patch embedding learns (the published recipe for
transformers freezes it). Of two crops of one scan every other scan in the batch counts as different, although the
same organ may be in both.
"""

from apatite.core.types import Scalar
from apatite.losses.contrast import contrastive_loss
from apatite.nn.intensity import Window
from apatite.pretrain.term import Made, Term, TermSettings
from apatite.pretrain.view import Seen


class Contrast(Term):
    """Find the teacher's key of another view of the same sample among those of all samples."""

    makes = frozenset[Made]({"contrast"})
    is_taught = True

    def __init__(self, windows_hu: tuple[Window, ...], settings: TermSettings) -> None:
        super().__init__()
        del windows_hu
        self.temperature = settings.contrast.temperature
        self.share, self.add_up = settings.share, settings.add_up

    def loss(self, seen: Seen) -> Scalar:
        """The student's queries against the teacher's keys, in both directions."""
        assert seen.taught is not None, "a method with this term has a teacher"
        queries, keys = seen.made_contrast().queries, seen.taught.made_contrast().keys
        return contrastive_loss(queries, keys, self.temperature, self.share, self.add_up)
