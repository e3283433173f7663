"""Terms over two branches: they saw the same, so what they say of it should agree.

Source: after Gu et al. 2024 (arXiv 2406.10519), whose spatial and reconstruction consistency losses are known by name
alone. Differs, since their form is not known: mean squared differences, in both directions, no gradient stopped.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, Final

from torch import nn

from apatite.core.types import Scalar
from apatite.losses.position import position_loss
from apatite.losses.reconstruction import mean_squared_error
from apatite.pretrain.term import Made
from apatite.pretrain.view import Seen


class Between(nn.Module, ABC):
    """One named loss over what two branches made of one view.

    Attributes:
        makes: What both must make for it.
    """

    makes: ClassVar[frozenset[Made]] = frozenset()

    @abstractmethod
    def loss(self, one: Seen, other: Seen) -> Scalar:
        """The loss, not yet weighted."""


class ReconstructionConsistency(Between):
    """Mean squared difference of the two reconstructions of hidden patches, in their common unit."""

    makes = frozenset[Made]({"reconstruction"})

    def loss(self, one: Seen, other: Seen) -> Scalar:
        """Of hidden patches alone: what is visible no branch has to guess."""
        return mean_squared_error(one.made_patches(), other.made_patches())


class PositionConsistency(Between):
    """Mean squared difference of the places that the two branches believe in, in fractions of the volume."""

    makes = frozenset[Made]({"points"})

    def loss(self, one: Seen, other: Seen) -> Scalar:
        """Over all 27 numbers."""
        return position_loss(one.made_points(), other.made_points())


BETWEEN: Final[dict[str, type[Between]]] = {
    "reconstruction_consistency": ReconstructionConsistency,
    "position_consistency": PositionConsistency,
}
